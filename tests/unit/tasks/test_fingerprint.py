"""The fingerprint of instructions: what it tells apart and what it folds."""

from __future__ import annotations

import json

import pytest

from pilotfish.core.messages import ChatRequest, Message
from pilotfish.tasks.fingerprint import instructions_id, instructions_row, last_user_index

SCHEMA = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": {"type": "object"}}}
SCHEMA_REORDERED = {"json_schema": {"schema": {"type": "object"}, "name": "ticket"}, "type": "json_schema"}


def request(*messages: tuple[str, object], **options: object) -> ChatRequest:
    return ChatRequest(messages=[Message(role=role, content=content) for role, content in messages], **options)


BASE = request(("system", "Sort mail."), ("user", "hello"))


@pytest.mark.parametrize(
    "same",
    [
        request(("system", "Sort mail."), ("user", "something else")),
        request(("system", "Sort mail."), ("user", [{"type": "image_url", "image_url": {"url": "x"}}])),
        request(("system", [{"type": "text", "text": "Sort mail."}]), ("user", "hello")),
        request(("system", "Sort mail."), ("user", "hello"), model="another", tools=[], n=1),
    ],
)
def test_requests_that_differ_in_input_or_options_share_an_id(same: ChatRequest) -> None:
    assert instructions_id(same) == instructions_id(BASE)


@pytest.mark.parametrize(
    "other",
    [
        request(("system", "Sort mail"), ("user", "hello")),
        request(("developer", "Sort mail."), ("user", "hello")),
        request(("user", "hello")),
        request(("system", "Sort mail."), ("user", "hi"), ("assistant", "work"), ("user", "hello")),
        request(("system", "Sort mail."), ("user", "hello"), ("assistant", "")),
        request(("system", "Sort mail.")),
        request(("system", "Sort mail."), ("user", "hello"), response_format=SCHEMA),
        request(("system", "Sort mail."), ("user", "hello"), tools=[SCHEMA]),
        request(("system", "Sort mail."), ("user", "hello"), functions=[{"name": "f"}]),
    ],
)
def test_other_instructions_have_another_id(other: ChatRequest) -> None:
    assert instructions_id(other) != instructions_id(BASE)


def test_key_order_of_json_parts_does_not_count() -> None:
    first = request(("user", "a"), response_format=SCHEMA, tools=[SCHEMA])
    second = request(("user", "b"), response_format=SCHEMA_REORDERED, tools=[SCHEMA_REORDERED])
    assert instructions_id(first) == instructions_id(second)


def test_message_borders_count() -> None:
    first = request(("system", "ab"), ("system", "c"), ("user", "x"))
    second = request(("system", "a"), ("system", "bc"), ("user", "x"))
    assert instructions_id(first) != instructions_id(second)


def test_text_that_looks_like_a_part_is_not_that_part() -> None:
    part = [{"image": 1}]
    as_text = request(("system", json.dumps(part, separators=(",", ":"))), ("user", "x"))
    assert instructions_id(as_text) != instructions_id(request(("system", part), ("user", "x")))


def test_tool_calls_of_a_few_shot_prefix_count() -> None:
    calls = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
    messages = [Message(role="assistant", tool_calls=calls), Message(role="user", content="x")]
    silent = [Message(role="assistant"), Message(role="user", content="x")]
    assert instructions_id(ChatRequest(messages=messages)) != instructions_id(ChatRequest(messages=silent))


def test_half_a_surrogate_pair_has_an_id() -> None:
    assert len(instructions_id(request(("system", "\ud800"), ("user", "x")))) == 16


def test_last_user_index_finds_the_last_or_none() -> None:
    conversation = request(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "{"))
    assert last_user_index(conversation.messages) == 2
    assert last_user_index([]) == -1


def test_the_row_holds_the_instructions_and_never_the_input() -> None:
    asked = request(("system", "Sort mail."), ("user", "a"), ("assistant", "b"), ("user", "c"), response_format=SCHEMA)
    row = instructions_row(asked, instructions_id(asked), 7.0)
    assert (row.instructions_id, row.time_s) == (instructions_id(asked), 7.0)
    assert json.loads(row.body) == {
        "messages": [
            {"role": "system", "content": "Sort mail."},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ],
        "response_format": SCHEMA,
        "tools": None,
    }
    assert row.text.startswith("Sort mail.\n\nuser: a\n\nassistant: b\n\nresponse_format: {")
