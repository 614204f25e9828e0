"""Anthropic's messages and its count of tokens: bytes to nouns and back.

`system` is read as a first message, so that the same instructions are the same task in every family.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pilotfish.core.ids import request_id
from pilotfish.core.messages import Answer, ChatRequest, Message, Usage
from pilotfish.models.wire.format import (
    ClientRequest,
    Fault,
    Format,
    StreamSummary,
    encode,
    error_object,
    error_text,
    named_event,
    read_answer,
    read_events,
)


class _Request(msgspec.Struct):
    messages: list[Message]
    model: str | None = None
    system: Any = None
    stream: bool | None = None
    tools: Any = None
    stop_sequences: Any = None
    thinking: Any = None
    output_config: Any = None
    mcp_servers: Any = None
    container: Any = None
    context_management: Any = None


class _Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Block(msgspec.Struct):
    type: str = ""
    text: Any = None


class _Message(msgspec.Struct):
    content: list[_Block]
    model: str | None = None
    usage: _Counts | None = None
    stop_reason: str | None = None


class _Begun(msgspec.Struct):
    usage: _Counts | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Begun | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Counts | None = None
    error: Any = None


_requests = msgspec.json.Decoder(_Request)
_messages = msgspec.json.Decoder(_Message)
_events = msgspec.json.Decoder(_Event)
_objects = msgspec.json.Decoder(dict[str, Any])

# Blocks beside which a text is still the whole of what the model says.
_SILENT = frozenset(("thinking", "redacted_thinking"))


class Messages(Format):
    """`/messages`."""

    noun = "messages request"
    path = "/messages"
    family = "anthropic"

    def decode_request(self, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> ClientRequest:
        """See `Format`."""
        request = self._read(_requests, body)
        messages = request.messages
        if request.system:
            messages = [Message(role="system", content=request.system), *messages]
        return ClientRequest(
            format=self,
            messages=messages,
            model=request.model or "",
            stream=bool(request.stream),
            tools=request.tools,
            stop=request.stop_sequences,
            response_format=_response_format(request.output_config),
            own_option=_own_option(request),
            raw=body,
            headers=headers,
        )

    def decode_answer(
        self, body: bytes, *, model: str, headers: tuple[tuple[str, str], ...] = (), latency_s: float = 0.0
    ) -> Answer:
        """See `Format`."""
        message = read_answer(_messages, body, model=model, noun="message")
        return Answer(
            text=_text(message.content),
            model=message.model or model,
            body=body,
            usage=_usage(message.usage),
            finish_reason=message.stop_reason or "",
            headers=headers,
            latency_s=latency_s,
        )

    def decode_stream(self, data: bytes) -> StreamSummary:
        """See `Format`."""
        parts: list[str] = []
        counts = _Counts()
        finish_reason, error, is_plain, has_ended, is_counted = "", "", True, False, True
        for event in read_events(_events, data):
            # A null at the end is of a translated stream whose model counted nothing: the zeros before it say nothing.
            is_counted = is_counted and (event.usage is None or event.usage.output_tokens is not None)
            has_ended = has_ended or event.type == "message_stop"
            if event.error:
                error = error_text(event.error)
            for found in (event.message.usage if event.message is not None else None, event.usage):
                if found is not None:
                    counts = _updated(counts, found)
            if event.content_block is not None:
                is_plain = is_plain and (event.content_block.type in _SILENT or event.content_block.type == "text")
                parts.append(event.content_block.text or "")
            if event.delta is not None:
                finish_reason = event.delta.stop_reason or finish_reason
                parts.append(event.delta.text)
        return StreamSummary(
            text="".join(parts) if is_plain and any(parts) else None,
            usage=_usage(counts) if is_counted else None,
            finish_reason=finish_reason,
            is_whole=has_ended and bool(finish_reason) and not error,
            error=error,
        )

    def encode_answer(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> bytes:
        """A message with one block of text."""
        return encode(_message([{"type": "text", "text": text}], model, "end_turn", usage))

    def encode_stream(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> list[bytes]:
        """From `message_start` to `message_stop`, the text in one block."""
        end: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
        if usage is not None:
            end["usage"] = usage_row(usage)
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": _message([], model, None, usage)},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
            {"type": "content_block_stop", "index": 0},
            end,
            {"type": "message_stop"},
        ]
        return [named_event(event) for event in events]

    def encode_event(self, event: dict[str, Any]) -> bytes:
        """Named by its type."""
        return named_event(event)

    def encode_error_event(self, fault: Fault, sent: bytes) -> bytes:
        """The event named `error`."""
        return named_event(error_object(self.family, fault))


class CountTokens(Messages):
    """`/messages/count_tokens`: only a model server can count its own tokens, so nothing is answered here."""

    noun = "request to count tokens"
    path = "/messages/count_tokens"
    is_text = False

    def decode_answer(
        self, body: bytes, *, model: str, headers: tuple[tuple[str, str], ...] = (), latency_s: float = 0.0
    ) -> Answer:
        """Without text and usage: nothing was bought."""
        read_answer(_objects, body, model=model, noun="count of tokens")
        return Answer(text=None, model=model, body=body, finish_reason="", headers=headers, latency_s=latency_s)

    encode_answer = Format.encode_answer
    encode_stream = Format.encode_stream


MESSAGES = Messages()
COUNT_TOKENS = CountTokens()


def usage_row(usage: Usage) -> dict[str, int]:
    """`usage` as Anthropic reports it: the input without what came from the cache."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    }


def message_id() -> str:
    """A new message's id."""
    return "msg_" + request_id()


def _message(content: list[dict[str, Any]], model: str, stop_reason: str | None, usage: Usage | None) -> dict[str, Any]:
    body = {
        "id": message_id(),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
    }
    return body if usage is None else {**body, "usage": usage_row(usage)}


def _own_option(request: _Request) -> str:
    if isinstance(request.thinking, dict) and request.thinking.get("type") != "disabled":
        return "thinking"
    for name in ("mcp_servers", "container", "context_management"):
        if getattr(request, name):
            return name
    return ""


def _response_format(output_config: object) -> object:
    """The shape asked for, as chat requests name it, so that the task is the same."""
    wanted = output_config.get("format") if isinstance(output_config, dict) else None
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {"schema": wanted.get("schema")}}
    return wanted


def _text(blocks: list[_Block]) -> str | None:
    """The text, None where there is none, or anything but text and thinking."""
    if any(block.type != "text" and block.type not in _SILENT for block in blocks):
        return None
    parts = [block.text for block in blocks if isinstance(block.text, str)]
    return "".join(parts) if parts else None


def _usage(counts: _Counts | None) -> Usage | None:
    """Anthropic counts the input without what came from the cache or went there."""
    if counts is None or counts.input_tokens is None:
        return None
    cached = counts.cache_read_input_tokens or 0
    prompt = counts.input_tokens + cached + (counts.cache_creation_input_tokens or 0)
    return Usage(prompt=prompt, completion=counts.output_tokens or 0, cached=cached)


def _updated(counts: _Counts, found: _Counts) -> _Counts:
    """The counts of an event are those of the whole so far."""
    values = {name: getattr(counts, name) for name in _Counts.__struct_fields__}
    return _Counts(**(values | {name: value for name in values if (value := getattr(found, name)) is not None}))
