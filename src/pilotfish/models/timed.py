"""One streamed answer with the times that a user feels: first text, every later piece, the end.

Times count from `sent_s`, the moment the call was meant to be sent, so that a queue before the model counts too. The
first token is the first chunk with non-empty content: role chunks, empty ones and reasoning do not count. Chunks are
not tokens; where a server packs several into one, gaps are those of its chunks.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec

from pilotfish.core.errors import ModelFormatError
from pilotfish.core.messages import ChatRequest, Usage
from pilotfish.models.base import Model
from pilotfish.models.wire.formats import format_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedAnswer:
    """What was answered, and when. `ttft_s` is None where no text came; `certainty` where no log-probabilities did.

    `certainty` is the geometric mean of the tokens' probabilities.
    """

    text: str
    usage: Usage | None
    finish_reason: str
    ttft_s: float | None
    latency_s: float
    gaps_s: list[float] = field(default_factory=list)
    certainty: float | None = None


class _Delta(msgspec.Struct):
    content: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    logprobs: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


_chunks = msgspec.json.Decoder(_Chunk)


async def timed_answer(model: Model, request: ChatRequest, *, sent_s: float | None = None) -> TimedAnswer:
    """The answer of `model`, streamed; `sent_s` is a `time.perf_counter` value (now where None).

    Raises a `ModelError` where there is no answer, and `ModelFormatError` where the stream was cut.
    """
    started_s = time.perf_counter() if sent_s is None else sent_s
    reader = _Reader()
    pieces: list[bytes] = []
    stream = model.stream(request)
    try:
        async for piece in stream:
            reader.feed(piece, time.perf_counter())
            pieces.append(piece)
    finally:
        await stream.aclose()
    ended_s = time.perf_counter()
    summary = await format_of(request).read_stream(b"".join(pieces))
    if summary.error or not summary.is_whole:
        why = summary.error or "its stream ended without a finish reason"
        raise ModelFormatError(f"{model.card.name} gave no whole answer: {why}", model=model.card.name)
    times = reader.content_s
    return TimedAnswer(
        text=summary.text or "",
        usage=summary.usage,
        finish_reason=summary.finish_reason,
        ttft_s=times[0] - started_s if times else None,
        latency_s=ended_s - started_s,
        gaps_s=[later - earlier for earlier, later in pairwise(times)],
        certainty=math.exp(sum(reader.log_probabilities) / len(reader.log_probabilities))
        if reader.log_probabilities
        else None,
    )


class _Reader:
    """Notes when each content chunk was complete; pieces may cut events anywhere."""

    def __init__(self) -> None:
        self.content_s: list[float] = []
        self.log_probabilities: list[float] = []
        self._rest = b""

    def feed(self, piece: bytes, now_s: float) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and b"[DONE]" not in line[:14]:
                self._event(line[5:], now_s)

    def _event(self, data: bytes, now_s: float) -> None:
        try:
            chunk = _chunks.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        for choice in chunk.choices:
            if choice.index == 0 and choice.delta is not None and choice.delta.content:
                self.content_s.append(now_s)
            tokens = choice.logprobs.get("content") if isinstance(choice.logprobs, dict) else None
            for token in tokens or ():
                if isinstance(token, dict) and isinstance(token.get("logprob"), int | float):
                    self.log_probabilities.append(float(token["logprob"]))
