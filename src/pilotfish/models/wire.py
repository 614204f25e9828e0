"""The chat-completions wire format: bytes to nouns and back.

A tolerant reader: only the fields Pilotfish acts on are decoded, and a body is passed on as the
bytes it came in, so a new vendor field needs no release. Streams are read here only after they
have been relayed, for the log. Nothing here knows HTTP.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import msgspec

from pilotfish.core.errors import ModelFormatError, RequestError
from pilotfish.core.ids import request_id
from pilotfish.core.messages import Answer, ChatRequest, Message, Usage

DONE = b"data: [DONE]\n\n"
NOTHING_BOUGHT = Usage(prompt=0, completion=0)
"""The usage of a local answer: no token was bought."""

_OPTIONS = (
    "stream_options",
    "response_format",
    "tools",
    "functions",
    "n",
    "logprobs",
    "stop",
    "modalities",
    "audio",
)


@dataclass(slots=True, kw_only=True)
class ClientRequest(ChatRequest):
    """A chat request that came over HTTP, with those of the client's headers that travel on."""

    headers: tuple[tuple[str, str], ...] = ()


class _Request(msgspec.Struct):
    """What is read of a request; options that are only looked at are not checked here but by the model."""

    messages: list[Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: Any = None
    response_format: Any = None
    tools: Any = None
    functions: Any = None
    n: Any = None
    logprobs: Any = None
    stop: Any = None
    modalities: Any = None
    audio: Any = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None

    def to_usage(self) -> Usage:
        details = self.prompt_tokens_details
        cached = details.cached_tokens if details is not None and details.cached_tokens else 0
        return Usage(prompt=self.prompt_tokens, completion=self.completion_tokens, cached=cached)


class _AnswerMessage(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None

    @property
    def is_plain(self) -> bool:
        return not (self.refusal or self.tool_calls or self.function_call or self.audio)


class _Choice(msgspec.Struct):
    message: _AnswerMessage
    index: int = 0
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None


class _ChunkChoice(msgspec.Struct):
    index: int = 0
    delta: _AnswerMessage | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice] = []
    usage: _Usage | None = None
    error: Any = None


_requests = msgspec.json.Decoder(_Request)
_completions = msgspec.json.Decoder(_Completion)
_chunks = msgspec.json.Decoder(_Chunk)
_raw_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> ClientRequest:
    """The chat request in `body`. Raises `RequestError` (400) where it is none."""
    try:
        request = _requests.decode(body)
    except msgspec.ValidationError as error:
        raise RequestError(f"The request body is no chat request: {_detail(error)}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"The request body could not be parsed as JSON: {_detail(error)}.") from error
    return ClientRequest(
        messages=request.messages,
        model=request.model or "",
        stream=bool(request.stream),
        raw=body,
        headers=headers,
        **{name: getattr(request, name) for name in _OPTIONS},
    )


def _detail(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).rstrip(".")


def encode_request(request: ChatRequest) -> bytes:
    """The body of a request that was made in process; the fields that are set, nothing else."""
    body: dict[str, Any] = {"model": request.model, "messages": [_encode_message(item) for item in request.messages]}
    if request.stream:
        body["stream"] = True
    for name in _OPTIONS:
        if (value := getattr(request, name)) is not None:
            body[name] = value
    return _encode(body)


def answer_of(text: str, *, model: str, usage: Usage | None = None, latency_s: float = 0.0) -> Answer:
    """A text as the answer of a model that speaks no HTTP itself."""
    body = encode_completion(text, model=model, usage=usage)
    return Answer(text=text, model=model, body=body, usage=usage, latency_s=latency_s)


def _encode_message(message: Message) -> dict[str, Any]:
    row = {"role": message.role, "content": message.content}
    if message.tool_calls is not None:
        row["tool_calls"] = message.tool_calls
    return row


def replace_model(body: bytes, model: str) -> bytes:
    """`body` with its `model` set; every other value keeps its bytes.

    The values are not decoded: measured at 1 µs for 1 KB and 72 µs for 200 KB, where searching for
    the name and splicing took 1.1 and 322 µs and can hit a key inside a tool's schema.
    """
    values: dict[str, Any] = _raw_objects.decode(body)
    values["model"] = model
    return _encode(values)


def decode_answer(
    body: bytes, *, model: str, headers: tuple[tuple[str, str], ...] = (), latency_s: float = 0.0
) -> Answer:
    """The answer in the body of a chat completion. Raises `ModelFormatError` where it is none."""
    try:
        completion = _completions.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelFormatError(f"{model} answered no chat completion: {_detail(error)}.", model=model) from error
    first = next((choice for choice in completion.choices if choice.index == 0), None)
    if first is None:
        raise ModelFormatError(f"{model} answered a chat completion without choices.", model=model)
    return Answer(
        text=Message(role="assistant", content=first.message.content).text if first.message.is_plain else None,
        model=completion.model or model,
        body=body,
        usage=completion.usage.to_usage() if completion.usage is not None else None,
        finish_reason=first.finish_reason or "",
        headers=headers,
        latency_s=latency_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """What a relayed stream said. `text` is None where the first choice was not plain text.

    `is_whole` is False where the stream ended without a finish reason: it was cut, and its text
    must not be taken for an answer. `error` is the message of an error event.
    """

    text: str | None
    usage: Usage | None
    finish_reason: str
    is_whole: bool
    error: str = ""


def decode_stream(data: bytes) -> StreamSummary:
    """Text, usage and finish reason of server-sent-event bytes. Never raises: unreadable events are skipped."""
    parts: list[str] = []
    usage: Usage | None = None
    finish_reason, error, is_plain = "", "", True
    for event in _events(data):
        if event.error:
            error = _error_text(event.error)
        if event.usage is not None:
            usage = event.usage.to_usage()
        for choice in event.choices:
            if choice.index != 0:
                continue
            finish_reason = choice.finish_reason or finish_reason
            if choice.delta is not None:
                is_plain = is_plain and choice.delta.is_plain
                if isinstance(choice.delta.content, str):
                    parts.append(choice.delta.content)
    return StreamSummary(
        text="".join(parts) if is_plain and parts else None,
        usage=usage,
        finish_reason=finish_reason,
        is_whole=bool(finish_reason) and not error,
        error=error,
    )


def _events(data: bytes) -> list[_Chunk]:
    chunks = []
    for line in data.splitlines():
        if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
            continue
        try:
            chunks.append(_chunks.decode(line[5:]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return chunks


def _error_text(error: Any) -> str:  # noqa: ANN401 - whatever a vendor puts there
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)


def encode_completion(text: str, *, model: str, usage: Usage | None = None) -> bytes:
    """A chat completion that carries `text`. An unknown usage is left out, never written as 0."""
    message = {"role": "assistant", "content": text, "refusal": None}
    body = {
        "id": _completion_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
    }
    if usage is not None:
        body["usage"] = _usage_row(usage)
    return _encode(body)


def encode_stream(text: str, *, model: str, usage: Usage | None = None) -> list[bytes]:
    """The same as server-sent events: role, content, finish, the usage where one is given, and the end mark."""
    head = {"id": _completion_id(), "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": text}, None),
        ({}, "stop"),
    ]
    events: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    if usage is not None:
        events = [{**event, "usage": None} for event in events]
        events.append({**head, "choices": [], "usage": _usage_row(usage)})
    return [encode_event(event) for event in events] + [DONE]


def encode_event(event: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + _encode(event) + b"\n\n"


def _completion_id() -> str:
    return "chatcmpl-" + request_id()


def _usage_row(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
