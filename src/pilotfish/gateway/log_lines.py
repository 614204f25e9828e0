"""The gateway's own output: one line on standard error for each event, for people or as JSON.

Events are what the code logs (start, stop, faults, withdrawals, drift, breakers). What an exception says may hold a
text of a request, so of one that nobody expected only its type and the places in the code are told, unless
`PILOTFISH_DEBUG` is set. Every other message is written by us, and holds no text and no key.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any, Literal

LogFormat = Literal["text", "json"]

PLACES = 6
"""Of the code, innermost last, that are told of an exception."""


class _Formatter(logging.Formatter):
    """A record as one line."""

    def __init__(self, kind: LogFormat) -> None:
        super().__init__()
        self._is_json = kind == "json"

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its break."""
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        event = fields.pop("event", "error" if record.levelno >= logging.ERROR else "note")
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        if record.exc_info and record.exc_info[1] is not None:
            fields |= _exception(record.exc_info[1])
        level, message = record.levelname.lower(), record.getMessage()
        if self._is_json:
            head = {"time": moment, "level": level, "event": event, "message": message}
            return json.dumps({**head, **fields}, ensure_ascii=False, default=str)
        told = "".join(f" {name}={value}" for name, value in fields.items() if name in ("error", "at"))
        line = " ".join(f"{moment} {level} {event}: {message}{told}".splitlines())
        return "".join(c if c.isprintable() else "\ufffd" for c in line)


@contextlib.contextmanager
def to_standard_error(kind: LogFormat) -> Iterator[None]:
    """Send what is logged to standard error: ours from `info` on, that of libraries from `warning` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(kind))
    root, ours = logging.getLogger(), logging.getLogger("pilotfish")
    level = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(level)
        root.removeHandler(handler)


def _exception(error: BaseException) -> dict[str, str]:
    if os.environ.get("PILOTFISH_DEBUG"):
        return {"error": "".join(traceback.format_exception(error)).strip()}
    frames = traceback.extract_tb(error.__traceback__)[-PLACES:]
    places = [f"{frame.filename.rpartition('pilotfish/')[2]}:{frame.lineno}" for frame in frames]
    return {"error": type(error).__name__, "at": " ".join(places)}
