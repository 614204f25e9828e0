"""A causal language model from a local folder or hub id, through transformers: the only file that imports it.

It answers like any model and streams token by token, so that its latency is measured like an endpoint's. Generation is
greedy; the tokenizer's own chat template is used where it has one. One call runs at a time: a second one waits. Needs
the `transformers` extra; llama.cpp and other servers are reached over HTTP instead.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

from pilotfish.core.errors import ConfigError, MissingExtraError
from pilotfish.core.messages import Answer, ChatRequest, Usage
from pilotfish.models.base import ModelCard
from pilotfish.models.wire.chat import CHAT, DONE
from pilotfish.models.wire.format import data_event

try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer
except ImportError as error:
    raise MissingExtraError("transformers", error.name or "transformers") from error

MAX_NEW_TOKENS = 256


class LocalWeights:
    """Weights in this process. `source` is a folder or a hub id."""

    def __init__(self, source: str, *, name: str = "", max_tokens: int | None = None) -> None:
        """Raises `ConfigError` where the weights cannot be loaded."""
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            self._model: Any = AutoModelForCausalLM.from_pretrained(source).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(f"transformers cannot load {source!r}: {error}") from error
        self._card = ModelCard(name=name or source)
        self._max_tokens = max_tokens or MAX_NEW_TOKENS
        self._lock = asyncio.Lock()

    @property
    def card(self) -> ModelCard:
        """The name given."""
        return self._card

    async def answer(self, request: ChatRequest) -> Answer:
        """The whole answer."""
        text, usage = "", None
        async with self._lock:
            async for piece, so_far in self._pieces(request):
                text, usage = text + piece, so_far
        return CHAT.answer_of(text, request, model=self._card.name, usage=usage)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events, one a token."""
        head = {"object": "chat.completion.chunk", "model": self._card.name}
        usage: Usage | None = None
        async with self._lock:
            async for piece, so_far in self._pieces(request):
                usage = so_far
                choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
                yield data_event({**head, "choices": [choice]})
        reason = "length" if usage is not None and usage.completion >= self._max_tokens else "stop"
        last: dict[str, Any] = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
        if usage is not None:
            last["usage"] = {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion}
        yield data_event(last)
        yield DONE

    async def aclose(self) -> None:
        """Let go of the weights."""
        self._model = None

    async def _pieces(self, request: ChatRequest) -> AsyncGenerator[tuple[str, Usage], None]:
        ids = self._ids(request)
        n_prompt = int(ids.shape[1])
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        made: list[Any] = []
        thread = threading.Thread(target=self._generate, args=(ids, streamer, made), daemon=True)
        thread.start()
        n_pieces = 0
        while (piece := await asyncio.to_thread(next, streamer, None)) is not None:
            n_pieces += 1
            yield piece, Usage(prompt=n_prompt, completion=n_pieces)
        await asyncio.to_thread(thread.join)
        n_tokens = int(made[0].shape[1]) - n_prompt if made else n_pieces
        yield "", Usage(prompt=n_prompt, completion=n_tokens)

    def _generate(self, ids: Any, streamer: Any, made: list[Any]) -> None:  # noqa: ANN401
        try:
            with torch.inference_mode():
                made.append(
                    self._model.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        streamer=streamer,
                        max_new_tokens=self._max_tokens,
                        do_sample=False,
                        pad_token_id=self._tokenizer.eos_token_id,
                    )
                )
        finally:
            streamer.end()

    def _ids(self, request: ChatRequest) -> Any:  # noqa: ANN401 - a tensor
        rows = [{"role": message.role, "content": message.text or ""} for message in request.messages]
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
        else:
            text = "\n".join(row["content"] for row in rows) + "\n"
        return self._tokenizer(text, return_tensors="pt").input_ids
