"""The fingerprint of a request's instructions: what stays when only the user's last message changes.

Few-shot prefixes and system prompts recur and so share an id; two real conversations hardly ever do. The
id covers all messages but the last user message (and the place it was taken from), the response format and
the tools. JSON parts count by content, not by key order or spacing, and text parts count as their text. Model name and
sampling options are left out: the same task asked with another temperature is the same task. Constant parts
inside the user message are the business of `templates.py` and `recognise.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pilotfish.core.ids import fingerprint
from pilotfish.core.log_row import InstructionsRow
from pilotfish.core.messages import ChatRequest, Message

_SORTED = msgspec.json.Encoder(order="sorted")


def last_user_index(messages: Sequence[Message]) -> int:
    """The index of the last user message, -1 where there is none."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            return index
    return -1


def instructions_id(request: ChatRequest) -> str:
    """16 hexadecimal digits that name the instructions of `request`."""
    return instructions_id_without(request, last_user_index(request.messages))


def instructions_id_without(request: ChatRequest, input_index: int) -> str:
    """The same where the index of the last user message is known, -1 for none."""
    parts = []
    for index, message in enumerate(request.messages):
        if index == input_index:
            parts.append("<input>")
            continue
        text = message.content if isinstance(message.content, str) else message.text
        content = _canonical(message.content) if text is None else text
        calls = _canonical(message.tool_calls) if message.tool_calls else ""
        # Lengths keep parts from running into one another; one joined text is hashed faster than many parts.
        parts.append(f"{len(message.role)},{len(content)},{len(calls)},{text is None}:{message.role}{content}{calls}")
    return fingerprint("".join(parts), _canonical(request.response_format), _canonical(_tools(request)))


def instructions_row(request: ChatRequest, instructions_id: str, time_s: float) -> InstructionsRow:
    """The log's record of the instructions of `request`, whose id the caller has computed already."""
    input_index = last_user_index(request.messages)
    messages = [message for index, message in enumerate(request.messages) if index != input_index]
    body = {
        "messages": [_as_sent(message) for message in messages],
        "response_format": request.response_format,
        "tools": _tools(request),
    }
    blocks = [_readable(message) for message in messages]
    blocks += [f"{key}: {_canonical(body[key])}" for key in ("response_format", "tools") if body[key]]
    return InstructionsRow(
        instructions_id=instructions_id,
        time_s=time_s,
        body=msgspec.json.encode(body).decode(),
        text="\n\n".join(blocks),
    )


def _tools(request: ChatRequest) -> object:
    return request.tools or request.functions or None


def _canonical(part: object) -> str:
    """Sorted compact JSON; empty for what is absent, which clients also send as null or an empty list."""
    return _SORTED.encode(part).decode() if part else ""


def _as_sent(message: Message) -> dict[str, Any]:
    sent = {"role": message.role, "content": message.content}
    return sent if message.tool_calls is None else {**sent, "tool_calls": message.tool_calls}


def _readable(message: Message) -> str:
    """The message for people. A system prompt stands bare, since it mostly is the whole of the instructions."""
    text = message.text
    content = _canonical(message.content or message.tool_calls) if text is None else text
    return content if message.role in ("system", "developer") else f"{message.role}: {content}"
