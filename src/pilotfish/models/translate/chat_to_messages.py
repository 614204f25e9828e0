"""A client of chat completions in front of a server of Anthropic's messages.

Carried: texts, images, tools, their calls and results, stops, limits, sampling. The answer's `stop_sequence` becomes
`stop`, as everywhere in chat completions.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from pilotfish.core.errors import ModelConnectionError, ModelError
from pilotfish.core.messages import Usage
from pilotfish.models.translate.fields import Fields, refuse, unspeakable
from pilotfish.models.translate.translation import Asked, Json, Translation
from pilotfish.models.wire.chat import usage_row
from pilotfish.models.wire.format import error_text
from pilotfish.models.wire.messages import MESSAGES

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


class ChatToMessages(Translation):
    """See the module. `max_tokens` is asked for where the client names no limit, which Anthropic's interface needs."""

    server = MESSAGES

    def __init__(self, max_tokens: int | None = None) -> None:
        self._max_tokens = max_tokens

    def request(self, body: Json) -> Json:
        """See `Translation`."""
        fields = Fields(body)
        there: Json = {"model": fields.take("model") or "", "max_tokens": self._limit(fields)}
        there |= _messages(fields.rows("messages"))
        fields.give(there, stream="stream", top_p="top_p", temperature="temperature")
        if isinstance(there.get("temperature"), int | float) and there["temperature"] > 1:
            refuse("temperature", "must be at most 1 for this model")
        if (stop := fields.take("stop")) is not None:
            there["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        if (user := fields.take("user")) is not None:
            there["metadata"] = {"user_id": user}
        if tools := fields.rows("tools"):
            there["tools"] = [_tool(Fields(tool, f"tools[{index}]")) for index, tool in enumerate(tools)]
        _choose(fields, there)
        _shape(fields, there)
        options = Fields(fields.take("stream_options") or {}, "stream_options")
        options.take("include_usage")
        options.end(include_obfuscation=False)
        fields.end(
            n=1,
            logprobs=False,
            store=False,
            frequency_penalty=0,
            presence_penalty=0,
            modalities=["text"],
            service_tier="auto",
        )
        return there

    def _limit(self, fields: Fields) -> object:
        newer, older = fields.take("max_completion_tokens"), fields.take("max_tokens")
        if None not in (newer, older) and newer != older:
            refuse("max_tokens", "differs from max_completion_tokens, and this model has but one limit")
        limit = newer if newer is not None else older if older is not None else self._max_tokens
        if limit is None:
            refuse("max_tokens", "must be set, since this model is always told how long its answer may be")
        return limit

    def answer(self, body: Json, asked: Asked) -> Json:
        """See `Translation`."""
        texts, thoughts, calls = [], [], []
        for block in body.get("content") or []:
            if block.get("type") == "text":
                texts.append(block.get("text") or "")
            elif block.get("type") == "thinking":
                thoughts.append(block.get("thinking") or "")
            elif block.get("type") == "tool_use":
                function = {"name": block.get("name"), "arguments": json.dumps(block.get("input") or {})}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
            else:
                unspeakable(f"a block of type {block.get('type')!r}")
        message: Json = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
        if thoughts:
            message["reasoning_content"] = "".join(thoughts)
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(body.get("stop_reason"))}
        return {
            "id": body.get("id"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.get("model") or asked.model,
            "choices": [choice],
            **_usage(body.get("usage") or {}),
        }

    def events(self, asked: Asked) -> _Events:
        """See `Translation`."""
        return _Events(asked)


def _shape(fields: Fields, there: Json) -> None:
    """A schema the answer must keep to. Its name is a label; no looser kind of schema is known there."""
    wanted = fields.take("response_format")
    if wanted is None or wanted == {"type": "text"}:
        return
    outer = Fields(wanted, "response_format")
    if outer.take("type") != "json_schema":
        refuse("response_format")
    inner = Fields(outer.take("json_schema"), "response_format.json_schema")
    inner.take("name")
    if inner.take("strict") is not True:
        refuse("response_format.json_schema.strict", "must be true, since this model keeps to a schema or has none")
    there["output_config"] = {"format": {"type": "json_schema", "schema": inner.take("schema")}}
    inner.end()
    outer.end()


class _Events:
    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._head: Json = {}
        self._usage: Json = {}
        self._reason: str | None = None
        self._n_calls = 0
        self._is_call = self._has_arguments = self._has_ended = False

    def feed(self, event: Json) -> list[Json]:
        kind = event.get("type")
        if kind == "error":
            raise ModelError(f"The model broke off its answer: {error_text(event.get('error'))}")
        if kind == "message_start":
            message = event.get("message") or {}
            self._usage = dict(message.get("usage") or {})
            model = message.get("model") or self._asked.model
            head = {"id": message.get("id"), "object": "chat.completion.chunk", "created": int(time.time())}
            self._head = {**head, "model": model}
            return [self._chunk({"role": "assistant", "content": ""})]
        if kind == "content_block_start":
            return self._begin(event.get("content_block") or {})
        if kind == "content_block_delta":
            return self._delta(event.get("delta") or {})
        if kind == "content_block_stop" and self._is_call and not self._has_arguments:
            return [self._arguments("{}")]
        if kind == "message_delta":
            self._reason = (event.get("delta") or {}).get("stop_reason") or self._reason
            self._usage |= {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
        self._has_ended = self._has_ended or kind == "message_stop"
        return []

    def end(self) -> list[Json]:
        if not self._has_ended:
            raise ModelConnectionError("The model broke off its answer.")
        last = [self._chunk({}, _reason(self._reason))]
        if not self._asked.wants_usage:
            return last
        return [*last, {**self._head, "choices": [], **_usage(self._usage)}]

    def _begin(self, block: Json) -> list[Json]:
        self._is_call = block.get("type") == "tool_use"
        self._has_arguments = False
        if self._is_call:
            function = {"name": block.get("name"), "arguments": ""}
            call = {"index": self._n_calls, "id": block.get("id"), "type": "function", "function": function}
            self._n_calls += 1
            begun = [self._chunk({"tool_calls": [call]})]
            return [*begun, self._arguments(json.dumps(block["input"]))] if block.get("input") else begun
        if block.get("type") not in ("text", "thinking"):
            unspeakable(f"a block of type {block.get('type')!r}")
        return [self._chunk({"content": block["text"]})] if block.get("text") else []

    def _delta(self, delta: Json) -> list[Json]:
        if text := delta.get("text"):
            return [self._chunk({"content": text})]
        if thinking := delta.get("thinking"):
            return [self._chunk({"reasoning_content": thinking})]
        return [self._arguments(piece)] if (piece := delta.get("partial_json")) else []

    def _arguments(self, piece: str) -> Json:
        self._has_arguments = True
        return self._chunk({"tool_calls": [{"index": self._n_calls - 1, "function": {"arguments": piece}}]})

    def _chunk(self, delta: Json, reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = {**self._head, "choices": [choice]}
        return {**chunk, "usage": None} if self._asked.wants_usage else chunk


def _messages(rows: list[Any]) -> Json:
    system: list[Json] = []
    there: list[Json] = []
    for index, row in enumerate(rows):
        place = f"messages[{index}]"
        fields = Fields(row, place)
        role = fields.text("role")
        if role in ("system", "developer"):
            if there:
                refuse(f"{place}.role", "is a system message inside the conversation, which this model does not take")
            system += _texts(fields.take("content"), f"{place}.content")
        elif role == "tool":
            result: Json = {"type": "tool_result", "tool_use_id": fields.text("tool_call_id")}
            result["content"] = _result(fields.take("content"), f"{place}.content")
            if there and there[-1]["role"] == "user" and _is_results(there[-1]["content"]):
                there[-1]["content"].append(result)
            else:
                there.append({"role": "user", "content": [result]})
        elif role == "assistant":
            there.append({"role": "assistant", "content": _assistant(fields, place)})
        elif role == "user":
            there.append({"role": "user", "content": _content(fields.take("content"), f"{place}.content")})
        else:
            refuse(f"{place}.role")
        fields.end()
    if not system:
        return {"messages": there}
    is_one = len(system) == 1
    return {"system": system[0]["text"] if is_one else system, "messages": there}


def _is_results(content: object) -> bool:
    return isinstance(content, list) and all(block["type"] == "tool_result" for block in content)


def _result(content: object, place: str) -> object:
    return content if isinstance(content, str) else _texts(content, place)


def _texts(content: object, place: str) -> list[Json]:
    blocks = _content(content, place)
    if isinstance(blocks, str):
        return [{"type": "text", "text": blocks}]
    for index, block in enumerate(blocks):
        if block["type"] != "text":
            refuse(f"{place}[{index}].type")
    return blocks


def _content(content: object, place: str) -> str | list[Json]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        refuse(place, "must be a text or a list of parts")
    blocks = []
    for index, part in enumerate(content):
        fields = Fields(part, f"{place}[{index}]")
        kind = fields.text("type")
        if kind == "text":
            blocks.append({"type": "text", "text": fields.text("text")})
        elif kind == "image_url":
            blocks.append(_image(Fields(fields.take("image_url"), fields.at("image_url"))))
        else:
            refuse(fields.at("type"))
        fields.end()
    return blocks


def _image(fields: Fields) -> Json:
    url = fields.text("url")
    fields.end(detail="auto")
    if found := _DATA_URL.fullmatch(url):
        return {"type": "image", "source": {"type": "base64", "media_type": found[1], "data": found[2]}}
    if not url.startswith(("http://", "https://")):
        refuse(fields.at("url"), "must be a web address or base64 data")
    return {"type": "image", "source": {"type": "url", "url": url}}


def _assistant(fields: Fields, place: str) -> str | list[Json]:
    content, calls = fields.take("content"), fields.rows("tool_calls")
    if not calls:
        return _content(content, f"{place}.content")
    blocks = [] if content in (None, "") else _texts(content, f"{place}.content")
    for index, call in enumerate(calls):
        outer = Fields(call, f"{place}.tool_calls[{index}]")
        inner = Fields(outer.take("function"), outer.at("function"))
        block: Json = {"type": "tool_use", "id": outer.text("id"), "name": inner.text("name")}
        block["input"] = _arguments(inner.text("arguments"), inner.at("arguments"))
        inner.end()
        outer.end(type="function")
        blocks.append(block)
    return blocks


def _arguments(text: str, place: str) -> Json:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        refuse(place, "must be a JSON object")
    return arguments


def _tool(fields: Fields) -> Json:
    if fields.text("type") != "function":
        refuse(fields.at("type"))
    inner = Fields(fields.take("function"), fields.at("function"))
    tool: Json = {"name": inner.text("name")}
    inner.give(tool, description="description", strict="strict")
    tool["input_schema"] = inner.take("parameters") or {"type": "object", "properties": {}}
    inner.end()
    fields.end()
    return tool


def _choose(fields: Fields, there: Json) -> None:
    choice, parallel = fields.take("tool_choice"), fields.take("parallel_tool_calls")
    if isinstance(choice, dict):
        outer = Fields(choice, "tool_choice")
        if outer.text("type") != "function":
            refuse("tool_choice.type")
        inner = Fields(outer.take("function"), "tool_choice.function")
        there["tool_choice"] = {"type": "tool", "name": inner.text("name")}
        inner.end()
        outer.end()
    elif choice is not None:
        if choice not in _CHOICES:
            refuse("tool_choice")
        there["tool_choice"] = {"type": _CHOICES[choice]}
    if parallel not in (None, True, False):
        refuse("parallel_tool_calls", "must be true or false")
    if parallel is False and there.get("tool_choice") != {"type": "none"}:
        there["tool_choice"] = {**there.get("tool_choice", {"type": "auto"}), "disable_parallel_tool_use": True}


def _reason(reason: object) -> str:
    if reason not in _REASONS:
        unspeakable(f"the stop reason {reason!r}")
    return _REASONS[str(reason)]


def _usage(counts: Json) -> Json:
    """The field `usage`, left out where the server has counted nothing."""
    if "input_tokens" not in counts:
        return {}
    cached = counts.get("cache_read_input_tokens") or 0
    prompt = (counts.get("input_tokens") or 0) + cached + (counts.get("cache_creation_input_tokens") or 0)
    completion = counts.get("output_tokens") or 0
    return {"usage": usage_row(Usage(prompt=prompt, completion=completion, cached=cached))}
