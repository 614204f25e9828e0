"""OpenAI's responses: bytes to nouns and back.

`instructions` are read as a first message and text input as a user's, so that the same instructions are the same
task in every family. A local answer is not stored, and says so: no later request can name it as its predecessor.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from pilotfish.core.errors import RequestError
from pilotfish.core.ids import request_id
from pilotfish.core.messages import Answer, ChatRequest, Message, Usage
from pilotfish.models.wire.format import (
    ClientRequest,
    Fault,
    Format,
    StreamSummary,
    encode,
    error_text,
    named_event,
    read_answer,
    read_events,
)

_PREFIX = "resp_pf-"

# What only the reference can honour, beside tools and logprobs.
_OWN_OPTIONS = (
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "store",
    "include",
    "context_management",
)
_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


class _Request(msgspec.Struct):
    input: Any = None
    instructions: Any = None
    model: str | None = None
    stream: bool | None = None
    tools: Any = None
    text: Any = None
    top_logprobs: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    background: Any = None
    store: Any = None
    include: Any = None
    context_management: Any = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Counts(msgspec.Struct):
    input_tokens: int
    output_tokens: int = 0
    input_tokens_details: _Details | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: Any = None


class _Item(msgspec.Struct):
    type: str = ""
    content: list[_Part] | None = None


class _Response(msgspec.Struct):
    output: list[_Item]
    status: str = "completed"
    model: str | None = None
    usage: _Counts | None = None
    error: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: Any = None
    message: Any = None
    error: Any = None
    response: _Response | None = None


_requests = msgspec.json.Decoder(_Request)
_responses = msgspec.json.Decoder(_Response)
_events = msgspec.json.Decoder(_Event)
_objects = msgspec.json.Decoder(dict[str, Any])


class Responses(Format):
    """`/responses`."""

    noun = "responses request"
    path = "/responses"

    def decode_request(self, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> ClientRequest:
        """See `Format`. Also raises where the request continues a local answer, which nobody has kept."""
        request = self._read(_requests, body)
        previous = request.previous_response_id
        if isinstance(previous, str) and previous.startswith(_PREFIX):
            raise RequestError(
                "previous_response_id names an answer that was given locally and not stored.",
                param="previous_response_id",
                hint='Send the conversation itself as input, or ask with "store": true for an answer that is stored.',
            )
        messages = [] if request.instructions is None else [Message(role="system", content=request.instructions)]
        return ClientRequest(
            format=self,
            messages=messages + _messages(request.input),
            model=request.model or "",
            stream=bool(request.stream),
            tools=request.tools,
            logprobs=request.top_logprobs,
            response_format=_response_format(request.text),
            own_option=next((name for name in _OWN_OPTIONS if getattr(request, name)), ""),
            raw=body,
            headers=headers,
        )

    def decode_answer(
        self, body: bytes, *, model: str, headers: tuple[tuple[str, str], ...] = (), latency_s: float = 0.0
    ) -> Answer:
        """See `Format`."""
        response = read_answer(_responses, body, model=model, noun="response")
        return Answer(
            text=_text(response.output),
            model=response.model or model,
            body=body,
            usage=_usage(response.usage),
            finish_reason=response.status,
            headers=headers,
            latency_s=latency_s,
        )

    def decode_stream(self, data: bytes) -> StreamSummary:
        """See `Format`. The last event carries the whole response; the deltas count only where it is missing."""
        parts: list[str] = []
        last: _Response | None = None
        error = ""
        for event in read_events(_events, data):
            if event.type == "response.output_text.delta" and isinstance(event.delta, str):
                parts.append(event.delta)
            elif event.type in ("response.completed", "response.incomplete", "response.failed"):
                last = event.response
            if event.type == "error" or event.error:
                error = error_text(event.error or event.message)
        if last is None:
            text = "".join(parts) if parts else None
            return StreamSummary(text=text, usage=None, finish_reason="", is_whole=False, error=error)
        error = error_text(last.error) if last.error else error
        return StreamSummary(
            text=_text(last.output),
            usage=_usage(last.usage),
            finish_reason=last.status,
            is_whole=last.status != "failed" and not error,
            error=error,
        )

    def encode_answer(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> bytes:
        """A response with one message."""
        return encode(response_body(_asked(request), model, [message_item(text)], usage=usage))

    def encode_stream(self, text: str, request: ChatRequest, *, model: str, usage: Usage | None = None) -> list[bytes]:
        """From `response.created` to `response.completed`, the text in one delta."""
        item = message_item(text)
        whole = response_body(_asked(request), model, [item], usage=usage)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        part = item["content"][0]
        place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            {
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {**item, "status": "in_progress", "content": []},
            },
            {"type": "response.content_part.added", **place, "part": text_part("")},
            {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []},
            {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **place, "part": part},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        return [named_event({**event, "sequence_number": number}) for number, event in enumerate(events)]

    def encode_event(self, event: dict[str, Any]) -> bytes:
        """Named by its type."""
        return named_event(event)

    def encode_error_event(self, fault: Fault, sent: bytes) -> bytes:
        """The event named `error`, numbered after those that have left."""
        number = (b"\n" + sent).count(b"\ndata:")
        body = {"code": fault.code, "message": fault.message, "param": fault.param or None}
        return named_event({"type": "error", **body, "sequence_number": number})


RESPONSES = Responses()


def _messages(given: object) -> list[Message]:
    """Items with a role are messages; any other (a call, its output, reasoning) counts as it is."""
    if isinstance(given, str):
        return [Message(role="user", content=given)]
    items = given if isinstance(given, list) else []
    return [
        Message(role=str(item.get("role") or item.get("type")), content=item.get("content") if "role" in item else item)
        for item in items
        if isinstance(item, dict)
    ]


def _response_format(text: object) -> object:
    """The shape asked for, as chat requests name it, so that the task is the same."""
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") == "text":
        return None
    if wanted.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {key: value for key, value in wanted.items() if key != "type"}}
    return wanted


def _text(output: list[_Item]) -> str | None:
    """The text, None where there is none, or anything but text and reasoning."""
    parts: list[str] = []
    for item in output:
        if item.type == "reasoning":
            continue
        for part in item.content or []:
            if part.type != "output_text" or not isinstance(part.text, str):
                return None
            parts.append(part.text)
        if item.type != "message":
            return None
    return "".join(parts) if parts else None


def _usage(counts: _Counts | None) -> Usage | None:
    if counts is None:
        return None
    details = counts.input_tokens_details
    cached = details.cached_tokens if details is not None and details.cached_tokens else 0
    return Usage(prompt=counts.input_tokens, completion=counts.output_tokens, cached=cached)


def usage_row(usage: Usage) -> dict[str, Any]:
    """`usage` as responses report it."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt + usage.completion,
    }


def _asked(request: ChatRequest) -> dict[str, Any]:
    return _objects.decode(request.raw) if request.raw else {}


def response_body(
    asked: dict[str, Any], model: str, output: list[dict[str, Any]], *, usage: Usage | None, incomplete: str = ""
) -> dict[str, Any]:
    """A response of ours, with what it repeats of the body `asked`; `incomplete` says why it is not whole."""
    echoed = {key: value if asked.get(key) is None else asked[key] for key, value in _ECHOED.items()}
    return {
        "id": f"resp_{request_id()}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if incomplete else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "model": model,
        "output": output,
        "previous_response_id": None,
        "store": False,
        "usage": None if usage is None else usage_row(usage),
        **echoed,
    }


def message_item(text: str, *, refusal: str = "") -> dict[str, Any]:
    """An item of the output that says `text`, or declines to."""
    content = [text_part(text)] if text or not refusal else []
    if refusal:
        content.append({"type": "refusal", "refusal": refusal})
    head = {"id": f"msg_{request_id()}", "type": "message", "status": "completed", "role": "assistant"}
    return {**head, "content": content}


def text_part(text: str) -> dict[str, Any]:
    """A text inside an item."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(call_id: object, name: object, arguments: str) -> dict[str, Any]:
    """An item of the output that calls a function."""
    head = {"id": f"fc_{request_id()}", "type": "function_call", "status": "completed"}
    return {**head, "call_id": call_id, "name": name, "arguments": arguments}
