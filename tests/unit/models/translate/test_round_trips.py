"""Whole conversations, there and back: nothing is lost, and what cannot be carried is named."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.core.errors import RequestError
from pilotfish.models.translate.chat_to_messages import ChatToMessages
from pilotfish.models.translate.messages_to_chat import MessagesToChat
from pilotfish.models.translate.responses_to_chat import ResponsesToChat
from pilotfish.models.translate.translation import Asked, Chain

TO_CHAT, TO_MESSAGES, FROM_RESPONSES = MessagesToChat(), ChatToMessages(), ResponsesToChat()
ASKED = Asked(model="m", body={})
QUICK = settings(max_examples=40, deadline=None)

WORDS = st.text(min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=3)
TEXTS = st.builds(lambda text: {"type": "text", "text": text}, WORDS)
IMAGES = st.one_of(
    st.just({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
    st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}),
)
CALLS = st.builds(
    lambda number, name, arguments: {"type": "tool_use", "id": f"t{number}", "name": name, "input": arguments},
    st.integers(0, 9),
    WORDS,
    OBJECTS,
)
RESULTS = st.builds(
    lambda number, content: {"type": "tool_result", "tool_use_id": f"t{number}", "content": content},
    st.integers(0, 9),
    WORDS | st.lists(TEXTS, min_size=1, max_size=2),
)
USER = st.builds(
    lambda content: {"role": "user", "content": content},
    WORDS | st.lists(TEXTS | IMAGES, min_size=1, max_size=3) | st.lists(RESULTS, min_size=1, max_size=3),
)
ASSISTANT = st.builds(
    lambda texts, calls: {"role": "assistant", "content": texts + calls},
    st.lists(TEXTS, max_size=2),
    st.lists(CALLS, min_size=1, max_size=2),
) | st.builds(
    lambda content: {"role": "assistant", "content": content}, WORDS | st.lists(TEXTS, min_size=1, max_size=2)
)
TOOLS = st.lists(
    st.builds(
        lambda name, schema, extra: {"name": name, "input_schema": {"type": "object", **schema}, **extra},
        WORDS,
        OBJECTS,
        st.fixed_dictionaries({}, optional={"description": WORDS, "strict": st.booleans()}),
    ),
    min_size=1,
    max_size=2,
)
CHOICES = st.sampled_from(
    [
        {"type": "auto"},
        {"type": "none"},
        {"type": "any"},
        {"type": "tool", "name": "f"},
        {"type": "any", "disable_parallel_tool_use": True},
    ]
)


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    """Requests of Anthropic's family within what chat completions can say."""
    turns = [draw(USER)]
    for _ in range(draw(st.integers(0, 2))):
        turns += [draw(ASSISTANT), draw(USER)]
    body: dict[str, Any] = {"model": "m", "max_tokens": draw(st.integers(1, 99)), "messages": turns}
    optional = st.fixed_dictionaries(
        {},
        optional={
            "system": WORDS | st.lists(TEXTS, min_size=2, max_size=3),
            "temperature": st.sampled_from([0, 0.5, 1]),
            "top_p": st.just(0.9),
            "stop_sequences": st.lists(WORDS, min_size=1, max_size=4),
            "stream": st.just(True),
            "metadata": st.just({"user_id": "u"}),
            "tools": TOOLS,
            "tool_choice": CHOICES,
        },
    )
    return body | draw(optional)


@QUICK
@given(conversations())
def test_a_conversation_survives_the_way_to_chat_completions_and_back(body: dict[str, Any]) -> None:
    # Two messages of results in a row are one to Anthropic, which joins them itself.
    assert joined(TO_MESSAGES.request(TO_CHAT.request(copy.deepcopy(body)))) == joined(body)


def joined(body: dict[str, Any]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for row in body["messages"]:
        rows.append({**row, "content": as_blocks(row["content"])})
    return {**body, "messages": rows, "system": as_blocks(body.get("system", []))}


def as_blocks(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


@QUICK
@given(conversations(), st.sampled_from("abc"), JSON.filter(lambda value: value not in (None, [], {})))
def test_a_field_that_is_not_known_is_refused_by_its_name(body: dict[str, Any], name: str, value: object) -> None:
    """Wherever it stands."""
    field = f"new_{name}"
    places = [body, body["messages"][0]]
    content = body["messages"][0]["content"]
    places += [] if isinstance(content, str) else content
    for place in places:
        place[field] = value
        with pytest.raises(RequestError) as caught:
            TO_CHAT.request(body)
        assert caught.value.param.endswith(field)
        assert field in str(caught.value)
        del place[field]
    chat = TO_CHAT.request(body)
    for place in [chat, chat["messages"][-1]]:
        place[field] = value
        with pytest.raises(RequestError) as caught:
            TO_MESSAGES.request(chat)
        assert caught.value.param.endswith(field)
        del place[field]


MESSAGES = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
CHAT = {"model": "m", "max_completion_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
RESPONSES = {"model": "m", "max_output_tokens": 5, "input": "hi"}
RESULT = {"type": "tool_result", "tool_use_id": "t"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
BROKEN_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "["}}


SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}, "additionalProperties": False}
LOOSE = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
DESCRIBED = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True, "description": "y"}}


def test_a_schema_is_kept_to_in_either_family() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert TO_MESSAGES.request({**CHAT, "response_format": wanted}) == {**MESSAGES, "output_config": config}
    assert TO_CHAT.request({**MESSAGES, "output_config": config})["response_format"] == wanted
    text = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}
    assert Chain(FROM_RESPONSES, TO_MESSAGES).request({**RESPONSES, "text": text})["output_config"] == config


def said(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}, {"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"top_k": 5}, "top_k"),
        ({"service_tier": "standard_only"}, "service_tier"),
        ({"stop_sequences": list("abcde")}, "stop_sequences"),
        ({"output_config": {"effort": "low"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format.type"),
        ({"cache_control": {"type": "ephemeral"}}, "cache_control"),
        (
            {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
            "system[0].cache_control",
        ),
        (
            said("user", {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}),
            "messages[0].content[0].cache_control",
        ),
        (said("user", {"type": "document", "source": {}}), "messages[0].content[0].type"),
        (
            said("user", {"type": "tool_result", "tool_use_id": "t", "is_error": True}),
            "messages[0].content[0].is_error",
        ),
        (
            said("user", {"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t"}),
            "messages[0].content[1].type",
        ),
        (said("assistant", {"type": "thinking", "thinking": "x", "signature": "y"}), "messages[0].content[0].type"),
        (
            said("assistant", {"type": "tool_use", "id": "t", "name": "f", "input": {}}, {"type": "text", "text": "x"}),
            "messages[0].content[1].type",
        ),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]}, "messages[1].role"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"metadata": {"user_id": "u", "session": "s"}}, "metadata.session"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ],
)
def test_what_chat_completions_cannot_say_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        TO_CHAT.request({**MESSAGES, **fields})
    assert (caught.value.param, caught.value.status) == (param, 400)
    assert param in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"seed": 1}, "seed"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": LOOSE}, "response_format.json_schema.strict"),
        ({"response_format": DESCRIBED}, "response_format.json_schema.description"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"temperature": 1.5}, "temperature"),
        ({"max_tokens": 7}, "max_tokens"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u", "detail": "low"}}]}
                ]
            },
            "messages[0].content[0].image_url.detail",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [BROKEN_CALL]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_messages_cannot_say_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        TO_MESSAGES.request({**CHAT, **fields})
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"input": 5}, "input"),
    ],
)
def test_what_of_responses_chat_completions_cannot_say_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        FROM_RESPONSES.request({**RESPONSES, **fields})
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, "text.format"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ({"max_output_tokens": None}, "max_output_tokens"),
    ],
)
def test_a_chain_names_what_its_second_half_refuses_as_the_client_knows_it(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        Chain(FROM_RESPONSES, TO_MESSAGES).request({**RESPONSES, **fields})
    assert caught.value.param == param
    assert param in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "logprobs": False, "store": False, "presence_penalty": 0.0, "tools": [], "stop": None},
        {"response_format": {"type": "text"}, "service_tier": "auto", "parallel_tool_calls": True},
    ],
)
def test_what_means_nothing_is_left_out(fields: dict[str, Any]) -> None:
    assert TO_MESSAGES.request({**CHAT, **fields}) == {**MESSAGES}


def test_without_a_limit_the_configured_one_is_asked_for() -> None:
    assert ChatToMessages(512).request({"messages": CHAT["messages"]})["max_tokens"] == 512


def test_an_input_of_items_becomes_a_conversation() -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "one moment", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "c1",
            "name": "w",
            "arguments": '{"city":"Bern"}',
            "status": "completed",
        },
        {"type": "function_call", "call_id": "c2", "name": "w", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
    ]
    there = FROM_RESPONSES.request({**RESPONSES, "instructions": "Answer.", "input": items})
    assert [row["role"] for row in there["messages"]] == ["system", "developer", "user", "assistant", "tool"]
    assert [call["id"] for call in there["messages"][3]["tool_calls"]] == ["c1", "c2"]
    assert there["messages"][4] == {"role": "tool", "tool_call_id": "c1", "content": "sun"}
    both = Chain(FROM_RESPONSES, TO_MESSAGES).request({**RESPONSES, "input": items})
    assert both["system"] == "Be kind."
    assert both["messages"][1]["content"][1]["input"] == {"city": "Bern"}


ANSWERS = st.builds(
    lambda texts, calls, counts: {
        "id": "msg_1",
        "model": "m",
        "type": "message",
        "role": "assistant",
        "content": texts + calls,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": counts[0],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": counts[1],
            "output_tokens": counts[2],
        },
    },
    st.lists(TEXTS, max_size=1),
    st.lists(CALLS, max_size=2),
    st.tuples(*[st.integers(0, 1000)] * 3),
)


@QUICK
@given(ANSWERS)
def test_an_answer_survives_the_way_to_a_client_of_chat_completions_and_back(answer: dict[str, Any]) -> None:
    chat = TO_MESSAGES.answer(answer, ASKED)
    usage = chat["usage"]
    assert usage["total_tokens"] == sum(answer["usage"].values())
    assert TO_CHAT.answer(chat, ASKED) == answer


@QUICK
@given(ANSWERS, st.data())
def test_a_stream_says_what_the_whole_answer_says(answer: dict[str, Any], data: st.DataObject) -> None:
    """From Anthropic's events to chunks, and from those to Anthropic's events and to those of a response."""
    chunks = run(TO_MESSAGES, messages_events(answer, data))
    chat = TO_MESSAGES.answer(answer, ASKED)
    assert whole_of_chunks(chunks) == whole_of_message(chat["choices"][0])
    assert chunks[-1]["usage"] == chat["usage"]
    events = run(TO_CHAT, chunks)
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    assert blocks_of_events(events) == answer["content"]
    assert events[-2]["delta"]["stop_reason"] == answer["stop_reason"]
    assert events[-2]["usage"] == answer["usage"]
    last = run(FROM_RESPONSES, chunks)[-1]
    assert last["type"] == "response.completed"
    expected = FROM_RESPONSES.answer(chat, ASKED)
    assert without_ids(last["response"]["output"]) == without_ids(expected["output"])
    assert last["response"]["usage"] == expected["usage"]


def run(translation: Any, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    translator = translation.events(ASKED)
    return [last for event in events for last in translator.feed(event)] + translator.end()


def messages_events(answer: dict[str, Any], data: st.DataObject) -> list[dict[str, Any]]:
    begun = {**answer, "content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(answer["content"]):
        is_text = block["type"] == "text"
        written = block["text"] if is_text else json.dumps(block["input"])
        empty = {**block, "text": ""} if is_text else {**block, "input": {}}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        cut = data.draw(st.integers(0, len(written)))
        for piece in (written[:cut], written[cut:]):
            delta = (
                {"type": "text_delta", "text": piece}
                if is_text
                else {"type": "input_json_delta", "partial_json": piece}
            )
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    usage = {"output_tokens": answer["usage"]["output_tokens"]}
    events.append({"type": "message_delta", "delta": {"stop_reason": answer["stop_reason"]}, "usage": usage})
    return [*events, {"type": "ping"}, {"type": "message_stop"}]


def whole_of_chunks(chunks: list[dict[str, Any]]) -> tuple[str, list[list[str]], str]:
    text, calls, reason = "", [], ""
    for chunk in chunks:
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
            for call in choice["delta"].get("tool_calls") or []:
                if "id" in call:
                    calls.append([call["id"], call["function"]["name"], ""])
                calls[call["index"]][2] += call["function"]["arguments"]
    return text, calls, reason


def whole_of_message(choice: dict[str, Any]) -> tuple[str, list[list[str]], str]:
    message = choice["message"]
    calls = [
        [call["id"], call["function"]["name"], call["function"]["arguments"]] for call in message.get("tool_calls", [])
    ]
    return message["content"] or "", calls, choice["finish_reason"]


def blocks_of_events(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    written = ""
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(dict(event["content_block"]))
            written = ""
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(blocks) - 1
            written += event["delta"].get("text") or event["delta"].get("partial_json") or ""
        elif event["type"] == "content_block_stop":
            is_text = blocks[-1]["type"] == "text"
            blocks[-1] |= {"text": written} if is_text else {"input": json.loads(written)}
    return blocks


def without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name != "id"} for item in items]
