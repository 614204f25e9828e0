"""What real servers of either family send, whole and streamed, written by hand from their documentation.

Nothing here is shared with the code under test. A reply says a text, or calls a tool after it.
"""

from __future__ import annotations

import json
from typing import Any

Call = tuple[str, dict[str, Any]]

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 3,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 2},
}
COUNTS = {"input_tokens": 9, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 0, "output_tokens": 3}


def whole(path: str, text: str, model: str, call: Call | None = None) -> bytes:
    """The body of a whole answer at `path`."""
    kind = path.rpartition("/v1")[2]
    if kind == "/messages":
        body = message(text, model, call)
    elif kind == "/messages/count_tokens":
        body = {"input_tokens": 42}
    elif kind == "/responses":
        body = response(text, model, call)
    elif kind == "/completions":
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}
        body = {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": model, "choices": [choice]}
        body["usage"] = USAGE
    elif kind == "/embeddings":
        rows = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
        usage = {"prompt_tokens": 4, "total_tokens": 4}
        body = {"object": "list", "data": rows, "model": model, "usage": usage}
    else:
        said: dict[str, Any] = {"role": "assistant", "content": text or None}
        if call is not None:
            said["tool_calls"] = [chat_call(call)]
        choice = {"index": 0, "message": said, "finish_reason": "tool_calls" if call else "stop"}
        body = {"id": "chatcmpl-upstream", "object": "chat.completion", "created": 1, "model": model}
        body |= {"vendor_field": {"kept": True}, "choices": [choice], "usage": USAGE}
    return json.dumps(body).encode()


def events(path: str, text: str, asked: dict[str, Any], call: Call | None = None) -> list[bytes]:
    """The server-sent events of the same, a character each."""
    kind = path.rpartition("/v1")[2]
    model = asked["model"]
    if kind == "/messages":
        return [named(row) for row in message_events(text, model, call)]
    if kind == "/responses":
        rows = response_events(text, model)
        return [named({**row, "sequence_number": number}) for number, row in enumerate(rows)]
    rows = completion_chunks(text, model) if kind == "/completions" else chat_chunks(text, model, call)
    if (asked.get("stream_options") or {}).get("include_usage"):
        rows.append({**{name: rows[0][name] for name in ("id", "object", "model")}, "choices": [], "usage": USAGE})
    return [b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows] + [b"data: [DONE]\n\n"]


def with_logprobs(body: bytes, logprob: float | None) -> bytes:
    """A chat completion, or a chunk of one, that tells each character's log-probability; the next best lies 1 below."""
    row = json.loads(body)
    if logprob is None:
        return body
    for choice in row.get("choices", ()):
        said = choice.get("message", choice.get("delta", {})).get("content") or ""
        tokens = [{"token": one, "logprob": logprob} for one in said]
        next_best = {"token": "~", "logprob": logprob - 1}
        choice["logprobs"] = {"content": [{**token, "top_logprobs": [token, next_best]} for token in tokens]}
    return json.dumps(row).encode()


def named(row: dict[str, Any]) -> bytes:
    """An event named by its type."""
    return b"event: %s\ndata: %s\n\n" % (row["type"].encode(), json.dumps(row).encode())


def chat_call(call: Call) -> dict[str, Any]:
    """A call as chat completions write it."""
    return {"id": "call_1", "type": "function", "function": {"name": call[0], "arguments": json.dumps(call[1])}}


def message(text: str, model: str, call: Call | None = None) -> dict[str, Any]:
    """Anthropic's message."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    if call is not None:
        content.append({"type": "tool_use", "id": "toolu_1", "name": call[0], "input": call[1]})
    reason = "tool_use" if call else "end_turn"
    head = {"id": "msg_up", "type": "message", "role": "assistant", "model": model, "content": content}
    return {**head, "stop_reason": reason, "stop_sequence": None, "usage": COUNTS}


def message_events(text: str, model: str, call: Call | None) -> list[dict[str, Any]]:
    """Anthropic's stream."""
    begun = {**message("", model), "stop_reason": None, "usage": {**COUNTS, "output_tokens": 1}}
    rows: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    deltas = [{"type": "text_delta", "text": character} for character in text]
    rows += block(0, {"type": "text", "text": ""}, deltas)
    if call is not None:
        start = {"type": "tool_use", "id": "toolu_1", "name": call[0], "input": {}}
        pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *json.dumps(call[1]))]
        rows += block(1, start, pieces if call[1] else [])
    end = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
    return [*rows, {"type": "message_delta", "delta": end, "usage": {"output_tokens": 3}}, {"type": "message_stop"}]


def block(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of one block."""
    begun = {"type": "content_block_start", "index": index, "content_block": start}
    rows = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [begun, *rows, {"type": "content_block_stop", "index": index}]


def chat_chunks(text: str, model: str, call: Call | None) -> list[dict[str, Any]]:
    """OpenAI's stream of a chat completion."""
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": character}, None) for character in text]
    if call is not None:
        begun = chat_call(call)
        begun["function"]["arguments"] = ""
        deltas.append(({"tool_calls": [{"index": 0, **begun}]}, None))
        for piece in json.dumps(call[1]):
            deltas.append(({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None))
    deltas.append(({}, "tool_calls" if call else "stop"))
    head = {"id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1, "model": model}
    return [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in deltas]


def completion_chunks(text: str, model: str) -> list[dict[str, Any]]:
    """OpenAI's stream of a completion."""
    head = {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": model}
    said = [(character, None) for character in text] + [("", "stop")]
    return [{**head, "choices": [{"text": piece, "index": 0, "finish_reason": reason}]} for piece, reason in said]


def response(text: str, model: str, call: Call | None = None) -> dict[str, Any]:
    """OpenAI's response."""
    output: list[dict[str, Any]] = []
    if text:
        part = {"type": "output_text", "text": text, "annotations": []}
        output.append({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]})
    if call is not None:
        said = {"name": call[0], "arguments": json.dumps(call[1])}
        output.append({"id": "fc_1", "type": "function_call", "call_id": "call_1", "status": "completed", **said})
    usage = {"input_tokens": 11, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 3, "total_tokens": 14}
    head = {"id": "resp_up", "object": "response", "created_at": 1, "status": "completed", "model": model}
    return {**head, "output": output, "usage": usage, "parallel_tool_calls": True, "tools": [], "tool_choice": "auto"}


def response_events(text: str, model: str) -> list[dict[str, Any]]:
    """OpenAI's stream of a response."""
    done = response(text, model)
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    item = done["output"][0]
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    rows: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **place, "part": part},
    ]
    rows += [{"type": "response.output_text.delta", **place, "delta": character} for character in text]
    return [
        *rows,
        {"type": "response.output_text.done", **place, "text": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
