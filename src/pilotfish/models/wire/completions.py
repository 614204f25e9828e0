"""OpenAI's completions (the older interface): a prompt is read as the one message of a user."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from pilotfish.core.errors import ModelFormatError
from pilotfish.core.ids import request_id
from pilotfish.core.messages import Answer, ChatRequest, Message, Usage
from pilotfish.models.wire.chat import DONE, TokenCounts, encode_chunks, usage_row
from pilotfish.models.wire.format import (
    ClientRequest,
    Format,
    StreamSummary,
    encode,
    error_text,
    read_answer,
    read_events,
)


class _Request(msgspec.Struct):
    prompt: Any = None
    model: str | None = None
    stream: bool | None = None
    stream_options: Any = None
    n: Any = None
    logprobs: Any = None
    stop: Any = None
    best_of: Any = None
    echo: Any = None
    suffix: Any = None


class _Choice(msgspec.Struct):
    text: str = ""
    index: int = 0
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    model: str | None = None
    usage: TokenCounts | None = None
    error: Any = None


_requests = msgspec.json.Decoder(_Request)
_completions = msgspec.json.Decoder(_Completion)


class Completions(Format):
    """`/completions`."""

    noun = "completion request"
    path = "/completions"
    end_mark = DONE

    def decode_request(self, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> ClientRequest:
        """See `Format`."""
        request = self._read(_requests, body)
        return ClientRequest(
            format=self,
            messages=_messages(request.prompt),
            model=request.model or "",
            stream=bool(request.stream),
            stream_options=request.stream_options,
            n=request.n,
            # Here a number, of which 0 asks for those of the chosen tokens.
            logprobs=request.logprobs is not None,
            stop=request.stop,
            own_option=_own_option(request),
            raw=body,
            headers=headers,
        )

    def decode_answer(
        self, body: bytes, *, model: str, headers: tuple[tuple[str, str], ...] = (), latency_s: float = 0.0
    ) -> Answer:
        """See `Format`."""
        completion = read_answer(_completions, body, model=model, noun="completion")
        first = next((choice for choice in completion.choices if choice.index == 0), None)
        if first is None:
            raise ModelFormatError(f"{model} answered a completion without choices.", model=model)
        return Answer(
            text=first.text,
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
        finish_reason, error = "", ""
        for event in read_events(_completions, data):
            if event.error:
                error = error_text(event.error)
            if event.usage is not None:
                usage = event.usage.to_usage()
            for choice in event.choices:
                if choice.index == 0:
                    finish_reason = choice.finish_reason or finish_reason
                    parts.append(choice.text)
        return StreamSummary(
            text="".join(parts) if parts else None,
            usage=usage,
            finish_reason=finish_reason,
            is_whole=bool(finish_reason) and not error,
            error=error,
        )

    def encode_answer(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> bytes:
        """A completion."""
        body = {**_head(model), "choices": [_choice(text, "stop")]}
        if usage is not None:
            body["usage"] = usage_row(usage)
        return encode(body)

    def encode_stream(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> list[bytes]:
        """Text, finish, the usage where one is known and asked for, and the end mark."""
        return encode_chunks(_head(model), [_choice(text, None), _choice("", "stop")], request, usage)


COMPLETIONS = Completions()


def _messages(prompt: object) -> list[Message]:
    """A single text is a message. Several prompts, or tokens, are none: nothing reads them as one text."""
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    return [Message(role="user", content=prompt)] if isinstance(prompt, str) else []


def _own_option(request: _Request) -> str:
    if request.best_of not in (None, 1):
        return "best_of"
    return "echo" if request.echo else "suffix" if request.suffix else ""


def _head(model: str) -> dict[str, Any]:
    return {"id": "cmpl-" + request_id(), "object": "text_completion", "created": int(time.time()), "model": model}


def _choice(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}
