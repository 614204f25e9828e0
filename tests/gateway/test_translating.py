"""Clients of one family in front of a model of the other: the official clients cannot tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tools.gateway import Place, gateway
from tools.upstream import Reply, Script

ANTHROPIC = {"family": "anthropic", "max_tokens": 100}
TURNS: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "weather?"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CALL = Reply(text="one moment", call=("weather", {"city": "Bern"}))


@contextmanager
def in_front_of_openai(home: Path, script: Script, **large: object) -> Iterator[tuple[Place, anthropic.Anthropic]]:
    with gateway(home, script, large=large) as place:
        url = f"http://127.0.0.1:{place.port}"
        with anthropic.Anthropic(base_url=url, api_key="client-key", max_retries=0, timeout=120) as client:
            yield place, client


def test_chat_completions_by_a_model_of_anthropics(home: Path) -> None:
    with gateway(home, [Reply(), CALL], large=ANTHROPIC) as place:
        plain = place.client.chat.completions.create(model="auto", messages=TURNS, stop=["x"], temperature=0.5)
        assert (plain.choices[0].message.content, plain.choices[0].finish_reason) == ("hello", "stop")
        assert plain.usage is not None
        assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (11, 3)
        called = place.client.chat.completions.create(model="auto", messages=TURNS, tools=[FUNCTION])
        message = called.choices[0].message
        assert (message.content, called.choices[0].finish_reason) == ("one moment", "tool_calls")
        assert message.tool_calls is not None
        assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Bern"}  # type: ignore[union-attr]
        results: Any = [{"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sun"}]
        place.client.chat.completions.create(model="auto", messages=[*TURNS, message, *results], tools=[FUNCTION])
        first, _, third = (asked.json for asked in place.server.asked)
        assert {asked.path for asked in place.server.asked} == {"/v1/messages"}
        assert (first["model"], first["max_tokens"], first["stop_sequences"]) == ("big", 100, ["x"])
        assert third["messages"][-1]["content"][0]["tool_use_id"] == "toolu_1"
        headers = place.server.asked[0].headers
        assert (headers["x-api-key"], headers["anthropic-version"]) == ("client-key", "2023-06-01")
        assert "authorization" not in headers
        row = place.rows(3)[0]
        assert (row.answer, row.reference_answer, row.prompt_tokens) == ("hello", "hello", 11)


def test_a_stream_of_chat_completions_by_a_model_of_anthropics(home: Path) -> None:
    with gateway(home, [CALL], large=ANTHROPIC) as place:
        usage: Any = {"include_usage": True}
        with place.client.chat.completions.stream(
            model="auto", messages=TURNS, tools=[FUNCTION], stream_options=usage
        ) as stream:
            completion = stream.get_final_completion()
        message = completion.choices[0].message
        assert (message.content, completion.choices[0].finish_reason) == ("one moment", "tool_calls")
        assert message.tool_calls is not None
        assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Bern"}
        assert completion.usage is not None
        assert completion.usage.total_tokens == 14
        assert place.rows(1)[0].prompt_tokens == 11


def test_messages_by_a_model_of_openais(home: Path) -> None:
    with in_front_of_openai(home, [Reply(), CALL, CALL]) as (place, client):
        turns: Any = [{"role": "user", "content": "weather?"}]
        tools: Any = [{"name": "weather", "input_schema": PARAMETERS}]
        plain = client.messages.create(model="auto", max_tokens=9, system="Be kind.", messages=turns)
        assert plain.content[0].text == "hello"  # type: ignore[union-attr]
        assert (plain.stop_reason, plain.usage.input_tokens, plain.usage.cache_read_input_tokens) == ("end_turn", 9, 2)
        called = client.messages.create(model="auto", max_tokens=9, messages=turns, tools=tools)
        with client.messages.stream(model="auto", max_tokens=9, messages=turns, tools=tools) as stream:
            streamed = stream.get_final_message()
        for message in (called, streamed):
            assert message.stop_reason == "tool_use"
            assert message.content[0].text == "one moment"  # type: ignore[union-attr]
            assert message.content[1].input == {"city": "Bern"}  # type: ignore[union-attr]
            assert message.usage.output_tokens == 3
        results: Any = [{"type": "tool_result", "tool_use_id": "call_1", "content": "sun"}]
        turns += [{"role": "assistant", "content": called.content}, {"role": "user", "content": results}]
        asked = place.server.asked[0]
        assert asked.path == "/v1/chat/completions"
        assert asked.headers["authorization"] == "Bearer client-key"
        assert asked.json == {
            "model": "big",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "weather?"}],
            "max_completion_tokens": 9,
        }
        assert place.rows(3)[0].answer == "hello"


@pytest.mark.parametrize("large", [{"responses": False}, ANTHROPIC])
def test_responses_by_a_model_that_speaks_none(home: Path, large: dict[str, object]) -> None:
    with gateway(home, [Reply(), Reply(), CALL, CALL], large=large) as place:
        client = place.client
        whole = client.responses.create(model="auto", input="hi", instructions="Be kind.")
        assert (whole.output_text, whole.status, whole.instructions) == ("hello", "completed", "Be kind.")
        assert whole.usage is not None
        assert (whole.usage.input_tokens, whole.usage.output_tokens) == (11, 3)
        with client.responses.stream(model="auto", input="hi") as stream:
            assert stream.get_final_response().output_text == "hello"
        tools: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}]
        called = client.responses.create(model="auto", input="weather?", tools=tools)
        with client.responses.stream(model="auto", input="weather?", tools=tools) as stream:
            streamed = stream.get_final_response()
        for response in (called, streamed):
            assert response.output_text == "one moment"
            call = response.output[1]
            assert call.type == "function_call"
            assert json.loads(call.arguments) == {"city": "Bern"}
        assert "/v1/responses" not in {asked.path for asked in place.server.asked}
        assert {row.answer for row in place.rows(4)[:2]} == {"hello"}


def test_what_cannot_be_carried_is_a_400_in_the_clients_words_and_asks_nobody(home: Path) -> None:
    with gateway(home, large=ANTHROPIC) as place:
        with pytest.raises(openai.BadRequestError) as caught:
            place.client.chat.completions.create(model="auto", messages=TURNS, logprobs=True)
        assert (caught.value.param, caught.value.code) == ("logprobs", "invalid_request")
        with pytest.raises(openai.BadRequestError, match="embeddings request"):
            place.client.embeddings.create(model="other", input="hi")
        assert place.server.asked == []
        assert place.rows(2)[0].status == 400
    with in_front_of_openai(home / "other", [Reply()]) as (place, client):
        turns: Any = [{"role": "user", "content": "hi"}]
        with pytest.raises(anthropic.BadRequestError, match="thinking"):
            client.messages.create(
                model="auto", max_tokens=2000, messages=turns, thinking={"type": "enabled", "budget_tokens": 1024}
            )
        with pytest.raises(anthropic.BadRequestError, match="no number is made up"):
            client.messages.count_tokens(model="auto", messages=turns)
        assert place.server.asked == []


@pytest.mark.parametrize("stream", [False, True])
def test_the_models_error_comes_in_the_clients_words(home: Path, stream: bool) -> None:
    overloaded = Reply(
        status=529,
        body=b'{"type":"error","error":{"type":"overloaded_error","message":"try later"}}',
        headers=(("Retry-After", "7"),),
    )
    with gateway(home, [overloaded], large=ANTHROPIC) as place:
        with pytest.raises(openai.APIStatusError, match="try later") as caught:
            place.client.chat.completions.create(model="auto", messages=TURNS, stream=stream)
        assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (529, "7")
        assert caught.value.code == "model_status"
    limited = Reply(status=429, body=b'{"error":{"message":"slow down"}}')
    with in_front_of_openai(home / "other", [limited]) as (place, client):
        with pytest.raises(anthropic.RateLimitError, match="slow down"):
            client.messages.create(
                model="auto", max_tokens=9, messages=[{"role": "user", "content": "x"}], stream=stream
            )
        assert place.rows(1)[0].status == 429


def test_a_stream_cut_in_the_middle_is_an_error_event_of_the_clients_family(home: Path) -> None:
    with gateway(home, [Reply(cut_after=6)], large=ANTHROPIC) as place:
        with pytest.raises(openai.APIError, match="broke off"):
            list(place.client.chat.completions.create(model="auto", messages=TURNS, stream=True))
        row = place.rows(1)[0]
        assert (row.status, row.reference_answer, row.answer) == (502, None, "hel")
    with in_front_of_openai(home / "other", [Reply(cut_after=4)]) as (place, client):
        turns: Any = [{"role": "user", "content": "x"}]
        with pytest.raises(anthropic.APIStatusError, match="broke off"):
            list(client.messages.create(model="auto", max_tokens=9, messages=turns, stream=True))
        assert place.rows(1)[0].reference_answer is None


@pytest.mark.parametrize(
    "events",
    [
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m"}}\n\n'
        b'event: error\ndata: {"type":"error","error":{"message":"overloaded"}}\n\n',
        b"data: {broken\n\n",
        b'data: {"type":"message_start","message":{"id":"m"}}\n\ndata: {"type":"content_block_start",'
        b'"content_block":{"type":"server_tool_use"}}\n\n',
    ],
)
def test_what_the_client_has_no_words_for_ends_the_stream_with_an_error(home: Path, events: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(events)
    with gateway(home, [Reply(raw=head + events)], large=ANTHROPIC) as place:
        with pytest.raises(openai.APIError):
            list(place.client.chat.completions.create(model="auto", messages=TURNS, stream=True))
        assert place.rows(1)[0].reference_answer is None
