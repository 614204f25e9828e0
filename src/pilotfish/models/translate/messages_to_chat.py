"""A client of Anthropic's messages in front of a server of chat completions.

Carried: texts, images, tools, their calls and results, stops, limits, sampling. Chat completions do not tell which
stop sequence ended an answer, so that it ends with `end_turn`; and they count tokens at the end of a stream, so that
its `message_start` holds none.
"""

from __future__ import annotations

import json
from typing import Any

from pilotfish.core.errors import ModelConnectionError, ModelError
from pilotfish.core.messages import Usage
from pilotfish.models.translate.fields import Fields, refuse, unspeakable
from pilotfish.models.translate.translation import Asked, Json, Translation
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.format import error_text
from pilotfish.models.wire.messages import message_id, usage_row

_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_CHOICES = {"auto": "auto", "none": "none", "any": "required"}
MAX_STOPS = 4


class MessagesToChat(Translation):
    """See the module."""

    server = CHAT

    def request(self, body: Json) -> Json:
        """See `Translation`."""
        fields = Fields(body)
        there: Json = {"model": fields.take("model") or "", "messages": _system(fields.take("system"))}
        rows = fields.rows("messages")
        for index, row in enumerate(rows):
            there["messages"] += _message(Fields(row, f"messages[{index}]"))
        if rows and rows[-1]["role"] == "assistant":
            refuse(f"messages[{len(rows) - 1}].role", "begins the model's answer, which this model cannot continue")
        fields.give(there, max_tokens="max_completion_tokens", temperature="temperature", top_p="top_p")
        stops = fields.rows("stop_sequences")
        if len(stops) > MAX_STOPS:
            refuse("stop_sequences", f"holds more than the {MAX_STOPS} that this model takes")
        if stops:
            there["stop"] = stops
        metadata = Fields(fields.take("metadata") or {}, "metadata")
        metadata.give(there, user_id="user")
        metadata.end()
        if tools := fields.rows("tools"):
            there["tools"] = [_tool(Fields(tool, f"tools[{index}]")) for index, tool in enumerate(tools)]
        _choose(fields.take("tool_choice"), there)
        _shape(fields.take("output_config"), there)
        if fields.take("stream"):
            there |= {"stream": True, "stream_options": {"include_usage": True}}
        fields.end(thinking={"type": "disabled"}, service_tier="auto", speed="standard")
        return there

    def answer(self, body: Json, asked: Asked) -> Json:
        """See `Translation`."""
        choices = body.get("choices") or []
        if len(choices) != 1:
            unspeakable(f"{len(choices)} choices")
        message, blocks = choices[0].get("message") or {}, []
        if message.get("audio") or message.get("function_call"):
            unspeakable("audio or an outdated function call")
        blocks += [{"type": "text", "text": text} for text in (message.get("content"), message.get("refusal")) if text]
        for call in message.get("tool_calls") or []:
            function = call.get("function") or {}
            arguments = _arguments(function.get("arguments") or "{}")
            blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": arguments})
        reason = _reason(choices[0].get("finish_reason"), is_call=bool(message.get("tool_calls")))
        return {
            **_head(body, asked),
            "content": blocks,
            "stop_reason": "refusal" if message.get("refusal") else reason,
            "stop_sequence": None,
            **_usage(body.get("usage") or {}),
        }

    def events(self, asked: Asked) -> _Events:
        """See `Translation`."""
        return _Events(asked)


def _shape(config: object, there: Json) -> None:
    """A schema the answer must keep to, under a name that chat completions want and nobody reads."""
    fields = Fields(config or {}, "output_config")
    if (wanted := fields.take("format")) is not None:
        inner = Fields(wanted, "output_config.format")
        if inner.take("type") != "json_schema":
            refuse("output_config.format.type")
        schema = {"name": "answer", "schema": inner.take("schema"), "strict": True}
        there["response_format"] = {"type": "json_schema", "json_schema": schema}
        inner.end()
    fields.end()


class _Events:
    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._has_begun = False
        self._n_blocks = 0
        # What the open block is: "text", or the index of a call.
        self._open: str | int | None = None
        self._usage: Json = {}
        self._reason: str | None = None
        self._is_refusal = False
        self._n_calls = 0

    def feed(self, event: Json) -> list[Json]:
        if event.get("error"):
            raise ModelError(f"The model broke off its answer: {error_text(event['error'])}")
        begun = [] if self._has_begun else [self._start(event)]
        self._has_begun = True
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices") or []:
            if choice.get("index"):
                unspeakable("several choices")
            begun += self._delta(choice.get("delta") or {})
            self._reason = choice.get("finish_reason") or self._reason
        return begun

    def end(self) -> list[Json]:
        if self._reason is None:
            raise ModelConnectionError("The model broke off its answer.")
        reason = "refusal" if self._is_refusal else _reason(self._reason, is_call=self._n_calls > 0)
        delta = {"stop_reason": reason, "stop_sequence": None}
        # A server that counts nothing leaves the number open; without the object Anthropic's client breaks.
        usage = _usage(self._usage) or {"usage": {"output_tokens": None}}
        last = {"type": "message_delta", "delta": delta, **usage}
        return [*self._close(), last, {"type": "message_stop"}]

    def _start(self, event: Json) -> Json:
        counts = {"input_tokens": 0, "output_tokens": 0}
        head = _head(event, self._asked)
        message = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": counts}
        return {"type": "message_start", "message": message}

    def _delta(self, delta: Json) -> list[Json]:
        events: list[Json] = []
        if delta.get("function_call") or delta.get("audio"):
            unspeakable("audio or an outdated function call")
        self._is_refusal = self._is_refusal or bool(delta.get("refusal"))
        for text in (delta.get("content"), delta.get("refusal")):
            if text:
                events += self._switch("text", {"type": "text", "text": ""})
                events.append(self._block_delta({"type": "text_delta", "text": text}))
        for call in delta.get("tool_calls") or []:
            events += self._call(call)
        return events

    def _call(self, call: Json) -> list[Json]:
        index, function, events = call.get("index") or 0, call.get("function") or {}, []
        if index != self._open:
            if index < self._n_calls:
                unspeakable("calls in turns")
            self._n_calls = index + 1
            block: Json = {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": {}}
            events += self._switch(index, block)
        if piece := function.get("arguments"):
            events.append(self._block_delta({"type": "input_json_delta", "partial_json": piece}))
        return events

    def _switch(self, what: str | int, block: Json) -> list[Json]:
        if self._open == what:
            return []
        closed = self._close()
        self._open = what
        return [*closed, {"type": "content_block_start", "index": self._n_blocks, "content_block": block}]

    def _block_delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._n_blocks, "delta": delta}

    def _close(self) -> list[Json]:
        if self._open is None:
            return []
        self._open = None
        self._n_blocks += 1
        return [{"type": "content_block_stop", "index": self._n_blocks - 1}]


def _system(system: object) -> list[Json]:
    if not system:
        return []
    return [{"role": "system", "content": _content(system, "system", only_text=True)}]


def _message(fields: Fields) -> list[Json]:
    role, content, place = fields.text("role"), fields.take("content"), fields.at("content")
    fields.end()
    if role not in ("user", "assistant"):
        refuse(fields.at("role"))
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list):
        refuse(place, "must be a text or a list of blocks")
    return _assistant(content, place) if role == "assistant" else _user(content, place)


def _user(content: list[Any], place: str) -> list[Json]:
    """Results of tools are messages of their own, which come first."""
    results: list[Json] = []
    for index, block in enumerate(content):
        if not isinstance(block, dict) or block.get("type") != "tool_result":
            break
        fields = Fields(block, f"{place}[{index}]")
        fields.take("type")
        result: Json = {"role": "tool", "tool_call_id": fields.text("tool_use_id")}
        said = fields.take("content")
        result["content"] = "" if said is None else _content(said, fields.at("content"), only_text=True)
        fields.end(is_error=False)
        results.append(result)
    rest = content[len(results) :]
    if not rest and results:
        return results
    return [*results, {"role": "user", "content": _content(rest, place, offset=len(results))}]


def _content(content: object, place: str, *, only_text: bool = False, offset: int = 0) -> str | list[Json]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        refuse(place, "must be a text or a list of blocks")
    parts: list[Json] = []
    for index, block in enumerate(content, start=offset):
        fields = Fields(block, f"{place}[{index}]")
        kind = fields.text("type")
        if kind == "text":
            parts.append({"type": "text", "text": fields.text("text")})
        elif kind == "image" and not only_text:
            source = Fields(fields.take("source"), fields.at("source"))
            parts.append({"type": "image_url", "image_url": {"url": _url(source)}})
        else:
            refuse(fields.at("type"))
        fields.end()
    return parts


def _url(source: Fields) -> str:
    kind = source.text("type")
    if kind == "url":
        url = source.text("url")
    elif kind == "base64":
        url = f"data:{source.text('media_type')};base64,{source.text('data')}"
    else:
        refuse(source.at("type"))
    source.end()
    return url


def _assistant(content: list[Any], place: str) -> list[Json]:
    texts: list[Json] = []
    calls: list[Json] = []
    for index, block in enumerate(content):
        fields = Fields(block, f"{place}[{index}]")
        kind = fields.text("type")
        if kind == "text" and calls:
            refuse(fields.at("type"), "is a text after a call, which this model takes only before it")
        elif kind == "text":
            texts.append({"type": "text", "text": fields.text("text")})
        elif kind == "tool_use":
            call: Json = {"id": fields.text("id"), "type": "function"}
            function = {"name": fields.text("name"), "arguments": _written(fields)}
            calls.append({**call, "function": function})
        else:
            refuse(fields.at("type"))
        fields.end()
    message: Json = {"role": "assistant", "content": texts or None}
    return [{**message, "tool_calls": calls} if calls else message]


def _written(fields: Fields) -> str:
    arguments = fields.take("input")
    if not isinstance(arguments, dict):
        refuse(fields.at("input"), "must be an object")
    return json.dumps(arguments, ensure_ascii=False)


def _tool(fields: Fields) -> Json:
    kind = fields.take("type")
    if kind not in (None, "custom"):
        refuse(fields.at("type"))
    function: Json = {"name": fields.text("name")}
    fields.give(function, description="description", input_schema="parameters", strict="strict")
    fields.end(defer_loading=False)
    return {"type": "function", "function": function}


def _choose(choice: object, there: Json) -> None:
    if choice is None:
        return
    fields = Fields(choice, "tool_choice")
    kind = fields.text("type")
    if kind == "tool":
        there["tool_choice"] = {"type": "function", "function": {"name": fields.text("name")}}
    elif kind in _CHOICES:
        there["tool_choice"] = _CHOICES[kind]
    else:
        refuse("tool_choice.type")
    if fields.take("disable_parallel_tool_use"):
        there["parallel_tool_calls"] = False
    fields.end()


def _arguments(text: str) -> Json:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        unspeakable("arguments of a call that are no JSON object")
    return arguments


def _reason(reason: object, *, is_call: bool) -> str:
    if reason not in _REASONS:
        unspeakable(f"the finish reason {reason!r}")
    # Some servers end their calls with "stop".
    return "tool_use" if is_call and reason == "stop" else _REASONS[str(reason)]


def _head(body: Json, asked: Asked) -> Json:
    model = body.get("model") or asked.model
    return {"id": body.get("id") or message_id(), "type": "message", "role": "assistant", "model": model}


def _usage(counts: Json) -> Json:
    """The field `usage`, left out where the server has counted nothing."""
    if "prompt_tokens" not in counts:
        return {}
    cached = (counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    completion = counts.get("completion_tokens") or 0
    return {"usage": usage_row(Usage(prompt=counts["prompt_tokens"], completion=completion, cached=cached))}
