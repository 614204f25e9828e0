"""Writes logged requests as JSON lines that `read_traffic` reads back: what `pilotfish log export` prints.

Each line holds request and response as the chat API has them, so other programs can read it too, and the log row
beside. The response is the reference's answer, never the specialist's: an export is traffic to learn from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from pilotfish.core.log_row import RequestRow
from pilotfish.store.base import Log, LogFilter
from pilotfish.store.traffic_formats import EXPORT_OBJECT


def export(log: Log, where: LogFilter) -> Iterator[bytes]:
    """One line of JSON (with its line break) for each request row that `where` selects."""
    bodies: dict[str, dict[str, Any]] = {}
    for row in log.rows(where):
        if row.instructions_id not in bodies:
            found = log.instructions(row.instructions_id)
            bodies[row.instructions_id] = json.loads(found.body) if found else {}
        yield msgspec.json.encode(_exchange(row, bodies[row.instructions_id])) + b"\n"


def _exchange(row: RequestRow, shared: dict[str, Any]) -> dict[str, Any]:
    return {
        "object": EXPORT_OBJECT,
        "time_s": row.time_s,
        "latency_s": row.latency_s,
        "request": None if row.input is None else _request(row.input, shared, is_stream=row.is_stream),
        "response": None if row.reference_answer is None else _response(row, row.reference_answer),
        "row": row,
    }


def _request(text: str, shared: dict[str, Any], *, is_stream: bool) -> dict[str, Any]:
    options = {key: value for key, value in shared.items() if value is not None}
    messages = [*options.pop("messages", []), {"role": "user", "content": text}]
    return {"messages": messages, "stream": is_stream, **options}


def _response(row: RequestRow, answer: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer}
    response: dict[str, Any] = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    if row.reason != "certified":  # else model and tokens are the specialist's
        response["model"] = row.model
        if row.prompt_tokens is not None and row.completion_tokens is not None:
            response["usage"] = {"prompt_tokens": row.prompt_tokens, "completion_tokens": row.completion_tokens}
    return response
