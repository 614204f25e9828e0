"""A model for clients' tests that answers what a request asks for: a tool where one is offered, else a word."""

from __future__ import annotations

import json

from tools.upstream import Asked, Reply

BUSY = "make it fail"


def answer(asked: Asked) -> Reply:
    """A call of `weather` where tools are offered and no result has come yet; an error where the text asks for one."""
    said = json.dumps(asked.json)
    if BUSY in said:
        error = b'{"error": {"type": "rate_limit_error", "message": "slow down"}}'
        return Reply(status=429, body=error, headers=(("retry-after", "1"),))
    if '"json_schema"' in said:
        return Reply(text='{"colour": "red"}')
    if asked.json.get("tools") and not any(word in said for word in ('"tool_call_id"', '"tool_result"')):
        return Reply(text="one moment", call=("weather", {"city": "Bern"}))
    return Reply()
