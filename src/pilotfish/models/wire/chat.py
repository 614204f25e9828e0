"""OpenAI's chat completions: bytes to nouns and back."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from pilotfish.core.errors import ModelFormatError
from pilotfish.core.ids import request_id
from pilotfish.core.messages import Answer, ChatRequest, Message, Usage
from pilotfish.models.wire.format import (
    ClientRequest,
    Format,
    StreamSummary,
    data_event,
    encode,
    error_text,
    read_answer,
    read_events,
)

DONE = b"data: [DONE]\n\n"

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


class TokenCounts(msgspec.Struct):
    """`usage` as chat completions, completions and embeddings report it."""

    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None

    def to_usage(self) -> Usage:
        """The noun."""
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
    def text(self) -> str | None:
        if not self.is_plain:
            return None
        if isinstance(self.content, str):
            return self.content
        return Message(role="assistant", content=self.content).text

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
    usage: TokenCounts | None = None


class _ChunkChoice(msgspec.Struct):
    index: int = 0
    delta: _AnswerMessage | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice] = []
    usage: TokenCounts | None = None
    error: Any = None


_requests = msgspec.json.Decoder(_Request)
_completions = msgspec.json.Decoder(_Completion)
_chunks = msgspec.json.Decoder(_Chunk)


class Chat(Format):
    """`/chat/completions`."""

    noun = "chat request"
    path = "/chat/completions"
    end_mark = DONE

    def decode_request(self, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> ClientRequest:
        """See `Format`."""
        request = self._read(_requests, body)
        return ClientRequest(
            format=self,
            messages=request.messages,
            model=request.model or "",
            stream=bool(request.stream),
            raw=body,
            headers=headers,
            stream_options=request.stream_options,
            response_format=request.response_format,
            tools=request.tools,
            functions=request.functions,
            n=request.n,
            logprobs=request.logprobs,
            stop=request.stop,
            modalities=request.modalities,
            audio=request.audio,
        )

    def decode_answer(
        self, body: bytes, *, model: str, headers: tuple[tuple[str, str], ...] = (), latency_s: float = 0.0
    ) -> Answer:
        """See `Format`."""
        completion = read_answer(_completions, body, model=model, noun="chat completion")
        for first in completion.choices:
            if first.index == 0:
                break
        else:
            raise ModelFormatError(f"{model} answered a chat completion without choices.", model=model)
        return Answer(
            text=first.message.text,
            model=completion.model or model,
            body=body,
            usage=completion.usage.to_usage() if completion.usage is not None else None,
            finish_reason=first.finish_reason or "",
            headers=headers,
            latency_s=latency_s,
        )

    def decode_stream(self, data: bytes) -> StreamSummary:
        """See `Format`."""
        parts: list[str] = []
        usage: Usage | None = None
        finish_reason, error, is_plain = "", "", True
        for event in read_events(_chunks, data):
            if event.error:
                error = error_text(event.error)
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

    def encode_answer(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> bytes:
        """A chat completion."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        body = {**_head("chat.completion", model), "choices": [choice]}
        if usage is not None:
            body["usage"] = usage_row(usage)
        return encode(body)

    def encode_stream(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> list[bytes]:
        """Role, content, finish, the usage where one is known and asked for, and the end mark."""
        deltas: list[tuple[dict[str, str], str | None]] = [
            ({"role": "assistant", "content": ""}, None),
            ({"content": text}, None),
            ({}, "stop"),
        ]
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason} for delta, reason in deltas]
        return encode_chunks(_head("chat.completion.chunk", model), choices, request, usage)


CHAT = Chat()


def encode_chunks(
    head: dict[str, Any], choices: list[dict[str, Any]], request: ChatRequest, usage: Usage | None
) -> list[bytes]:
    """A stream of OpenAI's chunks with one choice each; the last is the usage where one is known and asked for."""
    events: list[dict[str, Any]] = [{**head, "choices": [choice]} for choice in choices]
    if usage is not None and request.wants_usage_chunk:
        events = [{**event, "usage": None} for event in events]
        events.append({**head, "choices": [], "usage": usage_row(usage)})
    return [data_event(event) for event in events] + [DONE]


def encode_request(request: ChatRequest) -> bytes:
    """The body of a request that was made in process; the fields that are set, nothing else."""
    body: dict[str, Any] = {"model": request.model, "messages": [_encode_message(item) for item in request.messages]}
    if request.stream:
        body["stream"] = True
    for name in _OPTIONS:
        if (value := getattr(request, name)) is not None:
            body[name] = value
    return encode(body)


def _encode_message(message: Message) -> dict[str, Any]:
    row = {"role": message.role, "content": message.content}
    if message.tool_calls is not None:
        row["tool_calls"] = message.tool_calls
    return row


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-" + request_id(), "object": kind, "created": int(time.time()), "model": model}


def usage_row(usage: Usage) -> dict[str, Any]:
    """`usage` as chat completions and completions report it."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
