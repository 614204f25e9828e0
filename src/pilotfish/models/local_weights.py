"""A generative model (causal or encoder-decoder) from a local folder or hub id, through transformers, in this process.

It answers like any model and streams token by token. The loop that makes the tokens is written here: temperature,
top_p, seed, stop sequences and log probabilities are those of the request, whatever runs beside, which the library's
own generation cannot promise in threads. Without a temperature it is greedy. The tokenizer's chat template is used
where it has one. One request at a time; other tasks stand in `local_tasks.py`, servers are reached over HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from pilotfish.core.errors import ConfigError, MissingExtraError, RequestError
from pilotfish.core.ids import request_id
from pilotfish.core.messages import Answer, ChatRequest, Price, Usage
from pilotfish.models.base import ModelCard
from pilotfish.models.one_at_a_time import OneAtATime
from pilotfish.models.wire.chat import CHAT, DONE, usage_row
from pilotfish.models.wire.format import data_event, encode
from pilotfish.models.wire.formats import format_of

try:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar
except ImportError as error:
    raise MissingExtraError("transformers", error.name or "transformers") from error

disable_progress_bar()  # the command line has one of its own

MAX_NEW_TOKENS = 256

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen. At `temperature` 0 the likeliest; `n_logprobs` is None where none are asked for."""

    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    max_tokens: int
    n_logprobs: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an answer. The last one has a `finish_reason` and the usage."""

    text: str
    logprobs: list[dict[str, Any]]
    finish_reason: str = ""
    usage: Usage | None = None


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
            self._model: Any = loader.from_pretrained(source).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(f"transformers cannot load {source!r}: {error}") from error
        self._card = ModelCard(name=name or source, price=price, is_local=True)
        self._max_tokens = max_tokens or MAX_NEW_TOKENS
        self._thread = OneAtATime(self._card.name)
        ends = self._model.generation_config.eos_token_id
        self._ends = {ends} if isinstance(ends, int) else set(ends or ())
        self._most: int | None = getattr(self._model.config, "max_position_embeddings", None)

    @property
    def card(self) -> ModelCard:
        """The name given."""
        return self._card

    async def answer(self, request: ChatRequest) -> Answer:
        """The whole answer. Raises `RequestError` for what cannot be honoured, `ModelError` where torch fails."""
        started_s = time.perf_counter()
        sampling = read_sampling(request, self._max_tokens)
        pieces = [piece async for piece in self._thread.pieces(lambda: self._generate(request, sampling))]
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
        pieces = self._thread.pieces(lambda: self._generate(request, sampling))
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
        self._thread.close()
        self._model = None

    def _generate(self, request: ChatRequest, sampling: Sampling) -> Iterator[Piece]:
        """The pieces of the answer. What may be the beginning of a stop sequence is kept back until it is known."""
        ids = self._ids(request)
        n_prompt = int(ids.shape[1])
        room = self._room(n_prompt, sampling)
        made: list[int] = []
        told, waiting, reason = 0, [], "length"
        for token, row in self._tokens(ids, sampling, room):
            made.append(token)
            waiting += [row] if row is not None else []
            text = self._text(made)
            cut = min((text.find(stop) for stop in sampling.stop if stop in text), default=-1)
            if token in self._ends or cut >= 0:
                text, reason = text[:cut] if cut >= 0 else text, "stop"
                break
            safe = _safe_length(text, sampling.stop)
            if safe > told:
                yield Piece(text=text[told:safe], logprobs=waiting)
                told, waiting = safe, []
        usage = Usage(prompt=n_prompt, completion=len(made))
        yield Piece(text=text[told:], logprobs=waiting, finish_reason=reason, usage=usage)

    def _room(self, n_prompt: int, sampling: Sampling) -> int:
        """How many tokens the answer may have. Raises `RequestError` where there is no room for one."""
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

    def _tokens(self, ids: Any, sampling: Sampling, room: int) -> Iterator[tuple[int, dict[str, Any] | None]]:  # noqa: ANN401
        """Up to `room` tokens, each with its row of log probabilities where they are asked for."""
        generator = torch.Generator()
        _ = generator.seed() if sampling.seed is None else generator.manual_seed(sampling.seed)
        past, read, name = None, {}, "input_ids"
        if self._is_encoder_decoder:
            read, ids, name = self._read(ids), self._start(), "decoder_input_ids"
        for _ in range(room):
            with torch.inference_mode():
                out = self._model(**read, **{name: ids}, past_key_values=past, use_cache=True)
            past, scores = out.past_key_values, out.logits[0, -1].float()
            token = _chosen(scores, sampling, generator)
            yield token, None if sampling.n_logprobs is None else self._row(scores, token, sampling.n_logprobs)
            if token in self._ends:
                return
            ids = torch.tensor([[token]])

    def _read(self, ids: Any) -> dict[str, Any]:  # noqa: ANN401 - a tensor
        """What the encoder makes of a text, once for all tokens of the answer."""
        with torch.inference_mode():
            return {"encoder_outputs": self._model.get_encoder()(ids)}

    def _start(self) -> Any:  # noqa: ANN401 - a tensor
        """What an answer of a decoder begins with: its start, and a first token where the model prescribes one."""
        known = self._model.generation_config
        start = known.decoder_start_token_id
        given = [self._model.config.decoder_start_token_id if start is None else start, known.forced_bos_token_id]
        return torch.tensor([[token for token in given if token is not None]])

    def _row(self, scores: Any, token: int, n: int) -> dict[str, Any]:  # noqa: ANN401 - a tensor
        shares = scores.log_softmax(dim=0)
        top = [self._named(int(index), float(shares[index])) for index in shares.topk(n).indices] if n else []
        return {**self._named(token, float(shares[token])), "top_logprobs": top}

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._tokenizer.decode([token])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    def _text(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def _ids(self, request: ChatRequest) -> Any:  # noqa: ANN401 - a tensor
        rows = [{"role": message.role, "content": message.text or ""} for message in request.messages]
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
            return self._tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        text = "\n".join(row["content"] for row in rows)
        # A model without a template goes on with the text; a line break after it would end a sentence of GPT-2's.
        return self._tokenizer(text, return_tensors="pt").input_ids


def _chosen(scores: Any, sampling: Sampling, generator: Any) -> int:  # noqa: ANN401 - tensors
    if sampling.temperature == 0:
        return int(scores.argmax())
    shares, order = (scores / sampling.temperature).softmax(dim=0).sort(descending=True)
    # The smallest set of tokens whose probability reaches top_p: those before which less than that has gathered.
    shares = shares * (shares.cumsum(dim=0) - shares < sampling.top_p)
    return int(order[torch.multinomial(shares, 1, generator=generator)])


def _safe_length(text: str, stops: tuple[str, ...]) -> int:
    """How much of a text can be told: not half a character, nor what a stop sequence may begin with."""
    whole = len(text.rstrip("\ufffd"))
    starts = [len(text) - size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])]
    return min([whole, *starts])


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
