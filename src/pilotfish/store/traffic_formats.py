"""The formats of one recorded exchange: a decoded JSON row in, an `Exchange` out.

It knows the shapes in which people keep what they asked a model and what it answered, and recognises each
row by its keys, so a file may mix them. It does not open files, number lines or join the two files of the
batch API: that is `traffic.py`. A row that fits no format raises a `RowError` whose message says what is missing,
because a row that is dropped without a word would bias every figure computed from the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from pilotfish.core.messages import ChatRequest, Message, Usage

JsonObject = dict[str, Any]

EXPORT_OBJECT = "pilotfish.exchange"
"""The `object` of a row that `pilotfish log export` wrote."""

INPUT_KEYS = ("input", "prompt", "text", "question", "query", "request")
ANSWER_KEYS = ("output", "completion", "label", "answer", "response")
INSTRUCTION_KEYS = ("instructions", "instruction", "system")
TIME_KEYS = ("timestamp", "created", "created_at", "time", "time_s")

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
_REQUEST_FIELDS = tuple(item.name for item in fields(ChatRequest) if item.name not in ("messages", "raw"))


class RowError(Exception):
    """One row cannot be read; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One recorded request with its answer.

    `line` is the line in its file (in a file that is one JSON array, the position in the array), from 1.
    `time_s` is seconds since the epoch; `latency_s` and `usage` are None where the row does not tell.
    """

    request: ChatRequest
    answer: str
    time_s: float | None = None
    usage: Usage | None = None
    latency_s: float | None = None
    line: int = 0
    model: str = ""
    format: str = ""


def read_row(row: object, *, line: int = 0, instructions: str = "") -> Exchange:
    """The exchange in one row of any format. `instructions` become the system message of bare pairs.

    Raises `RowError` where the row is of no known format or lacks a request or a text answer.
    """
    if isinstance(row, list):
        row = {"conversation": row}
    if not isinstance(row, dict):
        raise RowError(f"expected a JSON object, got {_quoted(row)}")
    name, read = next(((name, read) for key, name, read in _FORMATS if key in row), ("input/output pairs", _pair))
    request, answer, model, usage = read(row, instructions)
    if not answer:
        raise RowError("the answer is empty")
    return Exchange(
        request=request,
        answer=answer,
        time_s=_time_s(row),
        usage=usage or _usage(row.get("usage")),
        latency_s=_latency_s(row),
        line=line,
        model=model or request.model,
        format="pilotfish log" if row.get("object") == EXPORT_OBJECT else name,
    )


def is_conversation(rows: list[Any]) -> bool:
    """Whether a JSON list is the messages of one conversation rather than a list of rows."""
    return bool(rows) and all(isinstance(item, dict) and ("role" in item or "from" in item) for item in rows)


_Parts = tuple[ChatRequest, str, str, Usage | None]


def _logged(row: JsonObject, instructions: str) -> _Parts:
    request, response = row["request"], row.get("response")
    if isinstance(request, str):
        return _pair(row, instructions)
    if response is None:
        is_local = row.get("object") == EXPORT_OBJECT
        raise RowError("the reference was not asked (answered locally)" if is_local else "a request without a response")
    answer = (response, "", None) if isinstance(response, str) else _completion(response)
    return _request(request), *answer


def _stored(row: JsonObject, _: str) -> _Parts:
    for key in ("messages", "input", "input_messages"):
        if key in row:
            messages = row[key].get("data") if isinstance(row[key], dict) else row[key]
            return _request({"messages": messages, "model": row.get("model")}), *_completion(row)
    raise RowError('a stored completion without its request: put the messages beside it as "messages"')


def _chat(row: JsonObject, _: str) -> _Parts:
    messages = _messages(row["messages"])
    key = _first_key(row, ANSWER_KEYS)
    if key is None or messages[-1].role == "assistant":
        return _conversation(row["messages"], row)
    return _request(row), *_answer(row[key])


def _conversation(messages: object, row: JsonObject) -> _Parts:
    """The last assistant turn with everything before it."""
    turns = _messages(messages)
    last = max((i for i, turn in enumerate(turns) if turn.role == "assistant"), default=None)
    if last is None:
        raise RowError("no message of the assistant, so no answer")
    if last == 0:
        raise RowError("no message before the assistant's answer")
    request = _request(row, _instructed(turns[:last], row))
    return request, _message_text(turns[last]), "", None


def _pair(row: JsonObject, instructions: str) -> _Parts:
    source, target = _first_key(row, INPUT_KEYS), _first_key(row, ANSWER_KEYS)
    if source is None or target is None:
        missing = "input" if source is None else "output"
        raise RowError(f"no {missing} among the keys {', '.join(map(repr, list(row)[:8])) or '(none)'}")
    value = row[source]
    if isinstance(value, str):
        messages = [Message(role="user", content=value)]
    elif isinstance(value, list) and is_conversation(value):
        messages = _messages(value)
    else:
        raise RowError(f"{source!r} must be text, but is {_quoted(value)}")
    return _request(row, _instructed(messages, row, instructions)), *_answer(row[target])


def _instructed(messages: list[Message], row: JsonObject, instructions: str = "") -> list[Message]:
    """The messages, with the row's own instructions (else `instructions`) first where no system message is."""
    key = _first_key(row, INSTRUCTION_KEYS)
    system = row[key] if key else instructions
    if not isinstance(system, str) or not system or messages[0].role in ("system", "developer"):
        return messages
    return [Message(role="system", content=system), *messages]


# The first key that a row has decides; a row with none of them is read as a bare pair.
_FORMATS: tuple[tuple[str, str, Callable[[JsonObject, str], _Parts]], ...] = (
    ("request", "request and response", _logged),
    ("choices", "stored completions", _stored),
    ("messages", "chat messages", _chat),
    ("conversation", "conversations", lambda row, _: _conversation(row["conversation"], row)),
    ("conversations", "conversations", lambda row, _: _conversation(row["conversations"], row)),
)


def _request(body: object, messages: list[Message] | None = None) -> ChatRequest:
    """The request in a body; `messages` where they do not stand in it as `messages`."""
    if not isinstance(body, dict) or (messages is None and "messages" not in body):
        raise RowError('a request without "messages"')
    known = {name: body[name] for name in _REQUEST_FIELDS if body.get(name) is not None}
    for name, kind in (("model", str), ("stream", bool), ("n", int)):
        if not isinstance(known.get(name), kind):
            known.pop(name, None)
    return ChatRequest(messages=messages or _messages(body["messages"]), **known)


def _messages(rows: object) -> list[Message]:
    if not isinstance(rows, list) or not rows:
        raise RowError(f"expected a list of messages, got {_quoted(rows)}")
    messages = []
    for row in rows:
        role = row.get("role", row.get("from")) if isinstance(row, dict) else None
        if not isinstance(role, str):
            raise RowError(f"expected a message with a role, got {_quoted(row)}")
        content = row.get("content", row.get("value"))
        messages.append(Message(role=_ROLES.get(role, role), content=content, tool_calls=row.get("tool_calls")))
    return messages


def _completion(response: object) -> tuple[str, str, Usage | None]:
    """Text, model and usage of a chat completion, or of the bare message of one."""
    if not isinstance(response, dict):
        raise RowError(f"expected a chat completion, got {_quoted(response)}")
    if response.get("error"):
        raise RowError(f"the model answered with an error: {_quoted(response['error'])}")
    choices = response.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else response
    if not isinstance(message, dict) or "role" not in message:
        raise RowError("the response holds no message of the assistant")
    model = response.get("model")
    text = _message_text(_messages([message])[0])
    return text, model if isinstance(model, str) else "", _usage(response.get("usage"))


def _message_text(message: Message) -> str:
    text = message.text
    if text is None:
        raise RowError("the answer is a tool call" if message.tool_calls else "the answer is not text")
    return text


def _answer(value: object) -> tuple[str, str, Usage | None]:
    """An answer as the model would have written it: text as is, any other value as JSON."""
    if isinstance(value, dict) and ("choices" in value or "role" in value):
        return _completion(value)
    if isinstance(value, list) and is_conversation(value):
        return _message_text(_messages(value)[-1]), "", None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), "", None


def _first_key(row: JsonObject, keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if row.get(key) is not None), None)


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt, completion = value.get("prompt_tokens"), value.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(prompt=prompt, completion=completion, cached=cached if isinstance(cached, int) else 0)


def _latency_s(row: JsonObject) -> float | None:
    for key, per_s in (("latency_s", 1.0), ("latency_ms", 1e3)):
        value = row.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value / per_s
    return None


def _time_s(row: JsonObject) -> float | None:
    response = row.get("response")
    for holder in (row, response if isinstance(response, dict) else {}):
        key = _first_key(holder, TIME_KEYS)
        if key is not None:
            return parse_time_s(holder[key])
    return None


def parse_time_s(value: object) -> float | None:
    """Seconds since the epoch of an ISO 8601 text (UTC where it names no zone) or a number; None for anything else.

    A number counts seconds, or milli-, micro- or nanoseconds where it would otherwise lie beyond the year 5138.
    """
    if isinstance(value, str):
        return parse_time_s(float(value)) if _is_number(value) else _iso_s(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    time_s = float(value)
    while abs(time_s) >= 1e11:
        time_s /= 1e3
    return time_s


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _iso_s(text: str) -> float | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _quoted(value: object, width: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."
