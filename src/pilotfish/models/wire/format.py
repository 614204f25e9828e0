"""What a wire format is: one kind of request, its answers and streams, and how its family words an error.

A tolerant reader: only the fields Pilotfish acts on are decoded, and a body is passed on as the
bytes it came in, so a new vendor field needs no release. Streams are read only after they have been
relayed, for the log. Each format stands in a file beside this one; nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from pilotfish.core.errors import ModelFormatError, RequestError
from pilotfish.core.messages import Answer, ChatRequest, Family, Usage

NOTHING_BOUGHT = Usage(prompt=0, completion=0)
"""The usage of a local answer: no token was bought."""

IN_THREAD_BYTES = 64 << 10
"""A longer stream is read in a thread, so that others go on: of events of 10 bytes 8 MiB took 2 s, this 16 ms."""

SLICE_BYTES = 64 << 10

encode = msgspec.json.Encoder().encode
_raw_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class ClientRequest(ChatRequest):
    """A request that came over HTTP: its format, and those of the client's headers that travel on."""

    format: Format
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """What a relayed stream said. `text` is None where the first choice was not plain text.

    `is_whole` is False where the stream ended without its end mark: it was cut, and its text
    must not be taken for an answer. `error` is the message of an error event.
    """

    text: str | None
    usage: Usage | None
    finish_reason: str
    is_whole: bool
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error as it is told to a client. `param` is the field it is about, empty where there is none."""

    message: str
    kind: str
    code: str
    status: int
    param: str = ""


class Format(ABC):
    """One wire format. `noun` names its request in messages, `path` is where it is posted below a base URL."""

    noun: str
    path: str
    family: Family = "openai"
    end_mark = b""
    """What a stream ends with, after its last event."""
    is_text = True
    """Whether a request has a text for an answer, so that it may belong to a task."""

    @abstractmethod
    def decode_request(self, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> ClientRequest:
        """The request in `body`. Raises `RequestError` (400) where it is none."""

    @abstractmethod
    def decode_answer(
        self, body: bytes, *, model: str, headers: tuple[tuple[str, str], ...] = (), latency_s: float = 0.0
    ) -> Answer:
        """The answer in the body of a reply. Raises `ModelFormatError` where it is none."""

    def decode_stream(self, data: bytes) -> StreamSummary:
        """Text, usage and finish reason of server-sent-event bytes. Never raises: unreadable events are skipped."""
        return StreamSummary(text=None, usage=None, finish_reason="", is_whole=False)

    async def read_stream(self, data: bytes) -> StreamSummary:
        """The same, without holding up the event loop."""
        if len(data) <= IN_THREAD_BYTES:
            return self.decode_stream(data)
        return await asyncio.to_thread(self.decode_stream, data)

    def encode_answer(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> bytes:
        """A reply that carries `text`. An unknown usage is left out, never written as 0."""
        raise ModelFormatError(f"{model} cannot answer {self.noun}.", model=model)

    def encode_stream(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> list[bytes]:
        """The same as server-sent events."""
        raise ModelFormatError(f"{model} cannot answer {self.noun}.", model=model)

    def encode_event(self, event: dict[str, Any]) -> bytes:
        """One server-sent event."""
        return data_event(event)

    def encode_error(self, fault: Fault) -> bytes:
        """An error as the family's clients read it."""
        return encode(error_object(self.family, fault))

    def encode_error_event(self, fault: Fault, sent: bytes) -> bytes:
        """The same as the last event of a stream of which `sent` has left."""
        return data_event(error_object(self.family, fault))

    def answer_of(
        self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None, latency_s: float = 0.0
    ) -> Answer:
        """A text as the answer of a model that speaks no HTTP itself."""
        body = self.encode_answer(text, request, model=model, usage=usage)
        return Answer(text=text, model=model, body=body, usage=usage, latency_s=latency_s)

    def _read(self, decoder: msgspec.json.Decoder[T], body: bytes) -> T:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            raise RequestError(f"The request body is no {self.noun}: {detail(error)}.") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"The request body could not be parsed as JSON: {detail(error)}.") from error


_ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_object(family: Family, fault: Fault) -> dict[str, Any]:
    """The error before it is encoded. Anthropic's clients know fixed types, so ours stands beside, as the code."""
    if family == "anthropic":
        kind = _ANTHROPIC_KINDS.get(fault.status, "invalid_request_error" if fault.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": fault.message, "code": fault.code}}
    error = {"message": fault.message, "type": fault.kind, "param": fault.param or None, "code": fault.code}
    return {"error": error}


def read_answer(decoder: msgspec.json.Decoder[T], body: bytes, *, model: str, noun: str) -> T:
    """The reply of a model. Raises `ModelFormatError` where it cannot be read."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFormatError(f"{model} answered no {noun}: {detail(error)}.", model=model) from error


def read_events(decoder: msgspec.json.Decoder[T], data: bytes) -> Iterator[T]:
    """The readable data of server-sent-event bytes; the rest is skipped."""
    for line in _lines(data):
        if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
            continue
        try:
            yield decoder.decode(line[5:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines of `data`, split a slice at a time: to split all at once would keep other threads waiting."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start + SLICE_BYTES) + 1 or len(data)
        yield from data[start:end].splitlines()
        start = end


def error_text(error: Any) -> str:  # noqa: ANN401 - whatever a vendor puts there
    """The message of an error object, whatever it is."""
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)


def data_event(event: dict[str, Any]) -> bytes:
    """One server-sent event without a name."""
    return b"data: " + encode(event) + b"\n\n"


def named_event(event: dict[str, Any]) -> bytes:
    """One server-sent event named by its type."""
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + encode(event) + b"\n\n"


def detail(error: Exception) -> str:
    """What a decoder found wrong, without its full stop."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).rstrip(".")


def replace_model(body: bytes, model: str) -> bytes:
    """`body` with its `model` set; every other value keeps its bytes.

    The values are not decoded: measured at 1 µs for 1 KB and 72 µs for 200 KB, where searching for
    the name and splicing took 1.1 and 322 µs and can hit a key inside a tool's schema.
    """
    values: dict[str, Any] = _raw_objects.decode(body)
    values["model"] = model
    return encode(values)
