"""A client of OpenAI's responses in front of a server of chat completions.

Carried: instructions, texts, images, functions, their calls and results, limits, sampling, the shape of the answer.
Nothing is stored, and the answer says so; what lives on OpenAI's servers (earlier responses, conversations, tools
of theirs) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotfish.core.messages import Usage
from pilotfish.models.translate.fields import Fields, refuse, unspeakable
from pilotfish.models.translate.responses_events import ResponsesEvents
from pilotfish.models.translate.translation import Asked, Json, Translation
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.responses import call_item, message_item, response_body

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponsesToChat(Translation):
    """See the module."""

    server = CHAT
    names: Mapping[str, str] = {
        "max_tokens": "max_output_tokens",
        "reasoning_effort": "reasoning.effort",
        "response_format": "text.format",
        "verbosity": "text.verbosity",
        "messages": "input",
    }

    def request(self, body: Json) -> Json:
        """See `Translation`."""
        fields = Fields(body)
        there: Json = {"model": fields.take("model") or "", "messages": []}
        if (instructions := fields.take("instructions")) is not None:
            if not isinstance(instructions, str):
                refuse("instructions", "must be a text")
            there["messages"].append({"role": "system", "content": instructions})
        there["messages"] += _messages(fields.take("input"))
        fields.give(
            there,
            max_output_tokens="max_completion_tokens",
            temperature="temperature",
            top_p="top_p",
            user="user",
            parallel_tool_calls="parallel_tool_calls",
            prompt_cache_key="prompt_cache_key",
            safety_identifier="safety_identifier",
        )
        if tools := fields.rows("tools"):
            there["tools"] = [_tool(Fields(tool, f"tools[{index}]")) for index, tool in enumerate(tools)]
        _choose(fields.take("tool_choice"), there)
        _shape(Fields(fields.take("text") or {}, "text"), there)
        reasoning = Fields(fields.take("reasoning") or {}, "reasoning")
        reasoning.give(there, effort="reasoning_effort")
        reasoning.end()
        if fields.take("stream"):
            there |= {"stream": True, "stream_options": {"include_usage": True}}
        fields.end(
            store=False,
            background=False,
            truncation="disabled",
            service_tier="auto",
            top_logprobs=0,
            stream_options={"include_obfuscation": False},
        )
        return there

    def answer(self, body: Json, asked: Asked) -> Json:
        """See `Translation`."""
        choices = body.get("choices") or []
        if len(choices) != 1:
            unspeakable(f"{len(choices)} choices")
        message = choices[0].get("message") or {}
        if message.get("audio") or message.get("function_call"):
            unspeakable("audio or an outdated function call")
        output: list[Json] = []
        if message.get("content") or message.get("refusal"):
            output.append(message_item(message.get("content") or "", refusal=message.get("refusal") or ""))
        for call in message.get("tool_calls") or []:
            function = call.get("function") or {}
            output.append(call_item(call.get("id"), function.get("name"), function.get("arguments") or ""))
        reason = _INCOMPLETE.get(choices[0].get("finish_reason") or "", "")
        model = body.get("model") or asked.model
        return response_body(asked.body, model, output, usage=to_usage(body.get("usage")), incomplete=reason)

    def events(self, asked: Asked) -> ResponsesEvents:
        """See `Translation`."""
        return ResponsesEvents(asked)


def to_usage(counts: Json | None) -> Usage | None:
    """The counts of a chat completion, None where there are none."""
    if not counts or "prompt_tokens" not in counts:
        return None
    cached = (counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Usage(prompt=counts["prompt_tokens"], completion=counts.get("completion_tokens") or 0, cached=cached)


def _messages(given: object) -> list[Json]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list):
        refuse("input", "must be a text or a list of items")
    messages: list[Json] = []
    for index, item in enumerate(given):
        fields = Fields(item, f"input[{index}]")
        kind = fields.take("type") or "message"
        if kind == "message":
            role = fields.text("role")
            if role not in ("user", "system", "developer", "assistant"):
                refuse(fields.at("role"))
            messages.append({"role": role, "content": _content(fields.take("content"), fields.at("content"))})
        elif kind == "function_call":
            _call(fields, messages)
        elif kind == "function_call_output":
            output = {"role": "tool", "tool_call_id": fields.text("call_id")}
            messages.append({**output, "content": _content(fields.take("output"), fields.at("output"))})
        else:
            refuse(fields.at("type"))
        # Ids and states name what lies on the server, where nothing lies.
        fields.take("id")
        fields.end(status="completed")
    return messages


def _call(fields: Fields, messages: list[Json]) -> None:
    """Calls follow the text of the message that makes them."""
    function = {"name": fields.text("name"), "arguments": fields.text("arguments")}
    call = {"id": fields.text("call_id"), "type": "function", "function": function}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _content(content: object, place: str) -> str | list[Json]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        refuse(place, "must be a text or a list of parts")
    parts: list[Json] = []
    for index, part in enumerate(content):
        fields = Fields(part, f"{place}[{index}]")
        kind = fields.text("type")
        if kind in ("input_text", "output_text"):
            parts.append({"type": "text", "text": fields.text("text")})
        elif kind == "input_image":
            image = {"url": fields.text("image_url")}
            fields.give(image, detail="detail")
            parts.append({"type": "image_url", "image_url": image})
        else:
            refuse(fields.at("type"))
        fields.end()
    return parts


def _tool(fields: Fields) -> Json:
    if fields.text("type") != "function":
        refuse(fields.at("type"))
    function: Json = {"name": fields.text("name")}
    fields.give(function, description="description", parameters="parameters", strict="strict")
    fields.end()
    return {"type": "function", "function": function}


def _choose(choice: object, there: Json) -> None:
    if isinstance(choice, dict):
        fields = Fields(choice, "tool_choice")
        if fields.text("type") != "function":
            refuse("tool_choice.type")
        there["tool_choice"] = {"type": "function", "function": {"name": fields.text("name")}}
        fields.end()
    elif choice is not None:
        if choice not in ("auto", "none", "required"):
            refuse("tool_choice")
        there["tool_choice"] = choice


def _shape(fields: Fields, there: Json) -> None:
    fields.give(there, verbosity="verbosity")
    wanted: Any = fields.take("format")
    fields.end()
    if wanted is None or wanted == {"type": "text"}:
        return
    inner = Fields(wanted, "text.format")
    kind = inner.text("type")
    if kind == "json_schema":
        schema: Json = {}
        inner.give(schema, name="name", schema="schema", strict="strict", description="description")
        there["response_format"] = {"type": kind, "json_schema": schema}
    elif kind == "json_object":
        there["response_format"] = {"type": kind}
    else:
        refuse("text.format.type")
    inner.end()
