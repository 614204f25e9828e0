"""A generative model (causal or encoder-decoder) from a local folder or hub id, through transformers, in this process.

It answers like any model and streams token by token: temperature, top_p, seed, stop sequences and log probabilities are
those of the request. Without a temperature it is greedy. The tokenizer's chat template is used where it has one.
Requests that wait together are answered together (`batches.py`), by the loop of `local_writing.py`; other tasks stand
in `local_tasks.py`, servers are reached over HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from pilotfish.core.errors import ConfigError, MissingExtraError, RequestError
from pilotfish.core.ids import request_id
from pilotfish.core.messages import Answer, ChatRequest, Price
from pilotfish.models.base import ModelCard
from pilotfish.models.batches import MAX_BATCH, Batches, Job
from pilotfish.models.wire.chat import CHAT, DONE, usage_row
from pilotfish.models.wire.format import data_event, encode
from pilotfish.models.wire.formats import format_of

try:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from pilotfish.models.local_writing import Piece, Sampling, Writer, Writing
except ImportError as error:
    raise MissingExtraError("transformers", error.name or "transformers") from error

disable_progress_bar()  # the command line has one of its own

MAX_NEW_TOKENS = 256

GATHER_S = 0.003
"""Less than a token takes: requests of one burst come into one batch, not into two of 1 and 7."""

_CANNOT = ("tools", "functions", "audio", "modalities", "response_format")


class _Options(msgspec.Struct):
    """The options of a request, under the names that its family has for them."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_sequences: list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    logprobs: Any = None


_options = msgspec.json.Decoder(_Options)

_Question = tuple[ChatRequest, Sampling]


def read_sampling(request: ChatRequest, most: int) -> Sampling:
    """The sampling that a request asks for, at most `most` tokens where it names no limit.

    Raises `RequestError` naming what a model in this process cannot honour.
    """
    set_ones = [name for name in _CANNOT if getattr(request, name) not in (None, [], {}, ["text"], {"type": "text"})]
    for name in (*set_ones, request.own_option):
        if name:
            raise RequestError(f"A model in this process cannot honour {name}.", param=name)
    if not format_of(request).is_text or not request.messages:
        raise RequestError("A model in this process goes on with one text, or one conversation, and gives text.")
    if any(message.content is not None and message.text is None for message in request.messages):
        raise RequestError("A model in this process reads text only.", param="messages")
    if request.n not in (None, 1):
        raise RequestError("A model in this process gives one answer at a time.", param="n")
    try:
        asked = _options.decode(request.raw or b"{}")
    except msgspec.ValidationError as error:
        raise RequestError(f"An option is of the wrong kind: {error}.") from error
    wants_logprobs = bool(asked.logprobs or request.logprobs)
    if wants_logprobs and format_of(request) is not CHAT:
        raise RequestError("Log probabilities are told in chat completions only.", param="logprobs")
    stop = asked.stop if asked.stop is not None else asked.stop_sequences or request.stop or []
    limits = (asked.max_tokens, asked.max_completion_tokens, asked.max_output_tokens)
    found = Sampling(
        temperature=asked.temperature or 0.0,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        max_tokens=next((limit for limit in limits if limit is not None), most),
        n_logprobs=(asked.top_logprobs or 0) if wants_logprobs else None,
    )
    if found.temperature < 0 or not 0 < found.top_p <= 1 or found.max_tokens < 1:
        raise RequestError("Expected temperature >= 0, 0 < top_p <= 1 and at least one token to answer with.")
    return found


class LocalWeights:
    """Weights in this process. `source` is a folder or a hub id."""

    def __init__(
        self, source: str, *, name: str = "", max_tokens: int | None = None, price: Price | None = None
    ) -> None:
        """Raises `ConfigError` where the weights cannot be loaded."""
        try:
            self._is_encoder_decoder = bool(getattr(AutoConfig.from_pretrained(source), "is_encoder_decoder", False))
            loader = AutoModelForSeq2SeqLM if self._is_encoder_decoder else AutoModelForCausalLM
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            model = loader.from_pretrained(source).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(f"transformers cannot load {source!r}: {error}") from error
        self._card = ModelCard(name=name or source, price=price, is_local=True)
        self._max_tokens = max_tokens or MAX_NEW_TOKENS
        self._most: int | None = getattr(model.config, "max_position_embeddings", None)
        self._writer: Any = Writer(model, self._tokenizer)
        most = MAX_BATCH if self._writer.batches else 1
        self._batches: Batches[_Question, Piece] = Batches(self._card.name, self._write, most=most, gather_s=GATHER_S)

    @property
    def card(self) -> ModelCard:
        """The name given."""
        return self._card

    async def answer(self, request: ChatRequest) -> Answer:
        """The whole answer. Raises `RequestError` for what cannot be honoured, `ModelError` where torch fails."""
        started_s = time.perf_counter()
        sampling = read_sampling(request, self._max_tokens)
        pieces = [piece async for piece in self._batches.pieces((request, sampling))]
        text, last = "".join(piece.text for piece in pieces), pieces[-1]
        body = format_of(request).encode_answer(text, request, model=self._card.name, usage=last.usage)
        logprobs = [row for piece in pieces for row in piece.logprobs] if sampling.n_logprobs is not None else None
        return Answer(
            text=text,
            model=self._card.name,
            body=_with_end(body, last.finish_reason, logprobs),
            usage=last.usage,
            finish_reason=last.finish_reason,
            latency_s=time.perf_counter() - started_s,
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events; chat completions token by token, other formats once it is whole."""
        if format_of(request) is not CHAT:
            answer = await self.answer(request)
            for event in format_of(request).encode_stream(
                answer.text or "", request, model=self._card.name, usage=answer.usage
            ):
                yield event
            return
        sampling = read_sampling(request, self._max_tokens)
        head = {"id": "chatcmpl-" + request_id(), "object": "chat.completion.chunk", "created": int(time.time())}
        head["model"] = self._card.name
        pieces = self._batches.pieces((request, sampling))
        try:
            async for piece in pieces:
                choice: dict[str, Any] = {"index": 0, "delta": {"role": "assistant", "content": piece.text}}
                choice["logprobs"] = {"content": piece.logprobs} if piece.logprobs else None
                yield data_event({**head, "choices": [{**choice, "finish_reason": piece.finish_reason or None}]})
                if piece.usage is not None and request.wants_usage_chunk:
                    yield data_event({**head, "choices": [], "usage": usage_row(piece.usage)})
        finally:
            await pieces.aclose()
        yield DONE

    async def aclose(self) -> None:
        """Let go of the weights."""
        self._batches.close()
        self._writer = None

    def _write(self, jobs: list[Job[_Question, Piece]]) -> None:
        """Answer several requests. What one of them asks too much does not concern the others."""
        writings = []
        for job in jobs:
            request, sampling = job.asked
            try:
                ids = self._ids(request)
                room = self._room(len(ids), sampling)
            except RequestError as error:
                job.end(error)
            else:
                writings.append(Writing(job, ids, sampling, room))
        self._writer.write(writings)

    def _room(self, n_prompt: int, sampling: Sampling) -> int:
        """How many tokens the answer may have. Raises `RequestError` where there is no room for one, or no prompt."""
        if n_prompt < 1:
            raise RequestError(f"There is no text that {self._card.name} could go on with.")
        if self._most is None:
            return sampling.max_tokens
        if self._is_encoder_decoder and n_prompt <= self._most:  # what it says has a window of its own
            return min(sampling.max_tokens, self._most)
        room = min(sampling.max_tokens, self._most - n_prompt)
        if room < 1:
            included = "" if self._is_encoder_decoder else ", its answer included"
            raise RequestError(
                f"The messages have {n_prompt:,} tokens; {self._card.name} reads {self._most:,}{included}."
            )
        return room

    def _ids(self, request: ChatRequest) -> list[int]:
        rows = [{"role": message.role, "content": message.text or ""} for message in request.messages]
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
            return list(self._tokenizer(text, add_special_tokens=False).input_ids)
        text = "\n".join(row["content"] for row in rows)
        # A model without a template goes on with the text; a line break after it would end a sentence of GPT-2's.
        return list(self._tokenizer(text).input_ids)


def _with_end(body: bytes, reason: str, logprobs: list[dict[str, Any]] | None) -> bytes:
    """The body with what ended the answer, where that was its length, and its log probabilities."""
    row = json.loads(body)
    if logprobs is not None:
        row["choices"][0]["logprobs"] = {"content": logprobs}
    if reason == "length" and "choices" in row:
        row["choices"][0]["finish_reason"] = "length"
    elif reason == "length" and "stop_reason" in row:
        row["stop_reason"] = "max_tokens"
    elif reason == "length":
        row |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    return encode(row)
