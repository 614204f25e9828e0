"""Log-probabilities of a chat completion: asked for, read, and taken out again where the client did not ask.

They say how sure a model was of its own words, which a route may decide by. What is added to a request for our own
sake (log-probabilities, and the usage of a stream) never reaches the client. Only OpenAI's chat completions carry them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pilotfish.models.wire.format import ClientRequest, encode, read_events

N_TOP = 2
"""The token itself and the next best one: enough for a margin."""

_objects = msgspec.json.Decoder(dict[str, Any])
_raw_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BOUNDARY = re.compile(rb"(\r?\n\r?\n)")


class _Top(msgspec.Struct):
    token: str = ""
    logprob: float | None = None


class _Token(msgspec.Struct):
    token: str = ""
    logprob: float | None = None
    top_logprobs: list[_Top] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    logprobs: _Logprobs | None = None
    delta: _Delta | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []


_bodies = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The tokens of an answer, their log-probabilities, and by how much each lay above the next best one.

    All are empty where the server does not tell, or tells less than one number a token.
    """

    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A request with what was added to it; `names` are the fields that the client had not set so."""

    request: ClientRequest
    names: frozenset[str] = field(default_factory=frozenset)

    def without(self, body: bytes) -> bytes:
        """A whole answer as the client asked for it."""
        if "logprobs" not in self.names:
            return body
        row = _objects.decode(body)
        _strip(row)
        return encode(row)

    def stream_without(self, data: bytes) -> bytes:
        """The same of a stream's events."""
        cleaner = Cleaner(self)
        return cleaner.feed(data) + cleaner.end()

    def event_without(self, event: bytes) -> bytes | None:
        """One event, None where it is there for our sake alone."""
        if not event.startswith(b"data:") or event[5:].strip() == b"[DONE]":
            return event
        try:
            row = _objects.decode(event[5:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return event
        if "logprobs" in self.names:
            _strip(row)
        if "stream_options" in self.names and "usage" in row:
            if not row.get("choices") and row["usage"]:
                return None
            del row["usage"]
        return b"data: " + encode(row)


class Cleaner:
    """Takes what was added out of a stream while it comes: whole events go on, the beginning of one waits."""

    def __init__(self, added: Added) -> None:
        self._added = added
        self._begun = b""

    def feed(self, piece: bytes) -> bytes:
        """What of the stream the client may have by now."""
        if not self._added.names:
            return piece
        *parts, self._begun = _BOUNDARY.split(self._begun + piece)
        kept: list[bytes] = []
        for event, end in zip(parts[::2], parts[1::2], strict=True):
            said = self._added.event_without(event)
            if said is not None:
                kept += (said, end)
        return b"".join(kept)

    def end(self) -> bytes:
        """What was still waiting when the stream ended."""
        return (self._added.event_without(self._begun) or b"") if self._begun else b""


class Beginning:
    """Reads the first `n` tokens of a stream while it comes, each byte once: thoughts may go before them at length."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._rest = b""
        self._found: list[_Token] = []

    def feed(self, piece: bytes) -> Tokens | None:
        """The tokens once all of them have come, None before.

        They are empty where the server sends text and says nothing about it.
        """
        lines, end, self._rest = (self._rest + piece).rpartition(b"\n")
        bodies = list(read_events(_bodies, lines + end))
        self._found += _content(bodies)
        if not self._found and any(one.delta and one.delta.content for body in bodies for one in body.choices):
            return Tokens()
        return _of(self._found[: self._n]) if len(self._found) >= self._n else None


def asking(request: ClientRequest, *, logprobs: bool) -> Added:
    """A copy of a chat request that asks for log-probabilities, and for the usage of a stream, where it did not yet.

    The model's own name is left to whoever sends it.
    """
    values: dict[str, Any] = _raw_objects.decode(request.raw)
    names = set()
    if logprobs and not request.logprobs:
        values |= {"logprobs": True, "top_logprobs": N_TOP}
        names.add("logprobs")
    if request.stream and not request.wants_usage_chunk:
        given = request.stream_options if isinstance(request.stream_options, dict) else {}
        values["stream_options"] = {**given, "include_usage": True}
        names.add("stream_options")
    copy = ClientRequest(
        format=request.format,
        messages=request.messages,
        stream=request.stream,
        raw=encode(values) if names else request.raw,
        headers=tuple(header for header in request.headers if header[0] != "idempotency-key"),
        stream_options=values.get("stream_options"),
        response_format=request.response_format,
        stop=request.stop,
        logprobs=True if logprobs else request.logprobs,
    )
    return Added(request=copy, names=frozenset(names))


def read(body: bytes) -> Tokens:
    """Those of a whole answer."""
    try:
        return _tokens([_bodies.decode(body)])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Tokens()


def alternatives(body: bytes) -> list[tuple[str, float]]:
    """The likeliest first tokens of a whole answer with their log-probabilities; empty where the server tells none."""
    try:
        first = next(_content([_bodies.decode(body)]), None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    tops = (first.top_logprobs or [_Top(token=first.token, logprob=first.logprob)]) if first is not None else []
    return [(top.token, top.logprob) for top in tops if top.logprob is not None]


def read_stream(data: bytes) -> Tokens:
    """Those of a stream."""
    return _tokens(read_events(_bodies, data))


def _tokens(bodies: Iterable[_Body]) -> Tokens:
    return _of(list(_content(bodies)))


def _of(found: list[_Token]) -> Tokens:
    if not found or any(token.logprob is None for token in found):
        return Tokens()
    logprobs = tuple(token.logprob for token in found if token.logprob is not None)
    margins = tuple(margin for token in found if (margin := _margin(token)) is not None)
    return Tokens(
        tokens=tuple(token.token for token in found),
        logprobs=logprobs,
        margins=margins if len(margins) == len(found) else (),
    )


def _content(bodies: Iterable[_Body]) -> Iterator[_Token]:
    for body in bodies:
        for choice in body.choices:
            if choice.index == 0 and choice.logprobs is not None:
                yield from choice.logprobs.content or ()


def _margin(token: _Token) -> float | None:
    others = [top.logprob for top in token.top_logprobs or () if top.token != token.token and top.logprob is not None]
    return None if not others or token.logprob is None else token.logprob - max(others)


def _strip(row: dict[str, Any]) -> None:
    """Servers say null, or nothing, where nobody asked."""
    for choice in row.get("choices") or ():
        if isinstance(choice, dict):
            choice.pop("logprobs", None)
