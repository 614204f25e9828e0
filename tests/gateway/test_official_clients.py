"""What programs rely on in the official clients: parallel calls, parsed answers, images, asyncio, time limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tools import families
from tools.gateway import Place, gateway
from tools.upstream import Asked, Reply

TURNS: Any = [{"role": "user", "content": "hi"}]
CITIES = ("Bern", "Rome")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION: Any = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
TOOL: Any = {"name": "weather", "input_schema": SCHEMA}
ANTHROPIC = {"family": "anthropic", "max_tokens": 99}
LARGE: dict[str, dict[str, object]] = {"openai": {}, "anthropic": ANTHROPIC}
PIXEL = "iVBORw0KGgo="


class Colour(BaseModel):
    colour: str


def claude(place: Place, **options: Any) -> anthropic.Anthropic:
    url = f"http://127.0.0.1:{place.port}"
    return anthropic.Anthropic(**{"base_url": url, "api_key": "none", "max_retries": 0, "timeout": 5, **options})


def two_calls(asked: Asked) -> Reply:
    """Both cities in one answer, whole or streamed, as servers of either family write it."""
    arguments = [json.dumps({"city": city}) for city in CITIES]
    if asked.path == "/v1/messages":
        blocks = [
            {"type": "tool_use", "id": f"toolu_{n}", "name": "weather", "input": {"city": city}}
            for n, city in enumerate(CITIES)
        ]
        whole = {**families.message("", "big"), "content": blocks, "stop_reason": "tool_use"}
        rows = families.message_events("", "big", None)
        calls: list[dict[str, Any]] = []
        for n, block in enumerate(blocks):
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in arguments[n]]
            calls += families.block(n, {**block, "input": {}}, deltas)
        end = {**rows[-2], "delta": {"stop_reason": "tool_use", "stop_sequence": None}}
        events = [families.named(row) for row in (rows[0], *calls, end, rows[-1])]
    else:
        found = [
            {"id": f"call_{n}", "type": "function", "function": {"name": "weather", "arguments": text}}
            for n, text in enumerate(arguments)
        ]
        whole = json.loads(families.whole(asked.path, "", "big"))
        whole["choices"][0] |= {
            "message": {"role": "assistant", "content": None, "tool_calls": found},
            "finish_reason": "tool_calls",
        }
        chunks = families.chat_chunks("", "big", None)
        deltas = [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(found)]
        middle = [{**chunks[0], "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        chunks[-1]["choices"][0]["finish_reason"] = "tool_calls"
        rows = [chunks[0], *middle, chunks[-1]]
        events = [b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows] + [b"data: [DONE]\n\n"]
    if asked.json.get("stream"):
        return Reply(body=b"".join(events), content_type="text/event-stream")
    return Reply(body=json.dumps(whole).encode())


@pytest.mark.parametrize("behind", LARGE)
@pytest.mark.parametrize("stream", [False, True])
def test_calls_in_parallel_and_their_results(home: Path, behind: str, stream: bool) -> None:
    def script(asked: Asked) -> Reply:
        has_results = b"tool_call_id" in asked.body or b"tool_result" in asked.body
        return Reply(text="sun") if has_results else two_calls(asked)

    with gateway(home, script, large=LARGE[behind]) as place, claude(place) as client:
        asked: dict[str, Any] = {"model": "auto", "messages": TURNS, "tools": [FUNCTION]}
        if stream:
            with place.client.chat.completions.stream(**asked) as events:
                completion: Any = events.get_final_completion()
        else:
            completion = place.client.chat.completions.create(**asked)
        said = completion.choices[0].message
        assert [json.loads(call.function.arguments)["city"] for call in said.tool_calls] == list(CITIES)
        results = [{"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in said.tool_calls]
        calls = [{"id": call.id, "type": "function", "function": call.function.to_dict()} for call in said.tool_calls]
        for call in calls:
            call["function"] = {name: call["function"][name] for name in ("name", "arguments")}
        turns = [*TURNS, {"role": "assistant", "tool_calls": calls}, *results]
        after = place.client.chat.completions.create(model="auto", messages=turns, tools=[FUNCTION])
        assert after.choices[0].message.content == "sun"

        message = _message(client, stream, messages=TURNS, tools=[TOOL])
        assert [block.input["city"] for block in message.content] == list(CITIES)
        blocks = [
            {"type": "tool_use", "id": block.id, "name": block.name, "input": block.input} for block in message.content
        ]
        answers = [{"type": "tool_result", "tool_use_id": block.id, "content": "sun"} for block in message.content]
        turns = [*TURNS, {"role": "assistant", "content": blocks}, {"role": "user", "content": answers}]
        assert _message(client, stream, messages=turns, tools=[TOOL]).content[0].text == "sun"


def _message(client: anthropic.Anthropic, stream: bool, **fields: Any) -> Any:
    if not stream:
        return client.messages.create(model="auto", max_tokens=9, **fields)
    with client.messages.stream(model="auto", max_tokens=9, **fields) as events:
        return events.get_final_message()


@pytest.mark.parametrize("behind", ["openai", "anthropic"])
def test_answers_are_parsed_by_the_clients_own_helpers(home: Path, behind: str) -> None:
    with gateway(home, [Reply(text='{"colour": "red"}')], large=LARGE[behind]) as place:
        parsed = place.client.chat.completions.parse(model="auto", messages=TURNS, response_format=Colour)
        assert parsed.choices[0].message.parsed == Colour(colour="red")
        with place.client.chat.completions.stream(model="auto", messages=TURNS, response_format=Colour) as events:
            assert events.get_final_completion().choices[0].message.parsed == Colour(colour="red")
        response = place.client.responses.parse(model="auto", input="hi", text_format=Colour)
        assert response.output_parsed == Colour(colour="red")
        said = claude(place).messages.parse(model="auto", max_tokens=9, messages=TURNS, output_format=Colour)
        assert said.parsed_output == Colour(colour="red")
        for asked in place.server.asked:
            shape = (
                asked.json["output_config"]["format"] if behind == "anthropic" else asked.json.get("response_format")
            )
            shape = shape or asked.json["text"]["format"]
            assert (shape.get("json_schema") or shape)["schema"]["required"] == ["colour"]


def test_an_images_bytes_reach_a_model_of_either_family(home: Path) -> None:
    url = f"data:image/png;base64,{PIXEL}"
    seen: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    block: Any = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    for behind, expected in (("openai", seen), ("anthropic", block)):
        with gateway(home / behind, large=LARGE[behind]) as place, claude(place) as client:
            place.client.chat.completions.create(model="auto", messages=seen)
            client.messages.create(model="auto", max_tokens=9, messages=block)
            assert [asked.json["messages"] for asked in place.server.asked] == [expected, expected]


def test_the_asynchronous_clients_at_once(home: Path) -> None:
    async def ask(port: int) -> list[str | None]:
        url = f"http://127.0.0.1:{port}"
        async with (
            openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=120) as one,
            anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0, timeout=120) as other,
        ):

            async def whole() -> str | None:
                return (await one.chat.completions.create(model="auto", messages=TURNS)).choices[0].message.content

            async def pieces() -> str:
                stream = await one.chat.completions.create(model="auto", messages=TURNS, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            async def message() -> str:
                async with other.messages.stream(model="auto", max_tokens=9, messages=TURNS) as stream:
                    return await stream.get_final_text()

            return await asyncio.gather(*(ask() for ask in (whole, pieces, message) for _ in range(5)))

    with gateway(home) as place:
        assert asyncio.run(ask(place.port)) == ["hello"] * 15
        place.rows(15)


def test_a_client_told_to_come_back_does_and_is_answered(home: Path) -> None:
    """What is longer than the gateway itself would wait for."""
    headers = (("retry-after", "0.05"),)
    busy = Reply(status=429, body=b'{"error": {"message": "slow down"}}', headers=headers)
    large = {"retry_wait_s": 0.0}
    with gateway(home, [busy, Reply(), busy, Reply()], large=large) as place, claude(place, max_retries=1) as client:
        patient = place.client.with_options(max_retries=1)
        raw = patient.chat.completions.with_raw_response.create(model="auto", messages=TURNS)
        assert raw.retries_taken == 1
        assert raw.parse().choices[0].message.content == "hello"
        assert client.messages.create(model="auto", max_tokens=9, messages=TURNS).content[0].text == "hello"  # type: ignore[union-attr]
        assert [row.status for row in place.rows(4)] == [429, 200, 429, 200]


def test_a_client_whose_time_is_over_leaves_and_the_model_is_told(home: Path) -> None:
    impatient: list[Callable[[Place], Any]] = [
        lambda place: place.client.with_options(timeout=0.2).chat.completions.create(model="auto", messages=TURNS),
        lambda place: claude(place, timeout=0.2).messages.create(model="auto", max_tokens=9, messages=TURNS),
    ]
    with gateway(home, [Reply(hangs=True)]) as place:
        for n, ask in enumerate(impatient, 1):
            with pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError)):
                ask(place)
            place.server.wait_for_hang_up(n)
        assert {row.status for row in place.rows(2)} == {499}


def test_a_stream_of_a_server_that_counts_nothing_has_no_count(home: Path) -> None:
    """Anthropic's client needs the object that would hold it; the log must not take it for nothing spent."""
    rows = families.chat_chunks("hello", "big", None)
    events = b"".join(b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows) + b"data: [DONE]\n\n"
    with gateway(home, [Reply(body=events, content_type="text/event-stream")]) as place, claude(place) as client:
        message = _message(client, True, messages=TURNS)
        assert (message.content[0].text, message.usage.output_tokens) == ("hello", None)
        row = place.rows(1)[0]
        assert (row.answer, row.prompt_tokens, row.completion_tokens) == ("hello", None, None)


def test_two_variables_lead_a_program_that_says_nothing_of_it_to_the_gateway(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(home, large={"model": "gpt-4o"}) as place:
        url = f"http://127.0.0.1:{place.port}"
        for name, value in (("OPENAI_BASE_URL", url + "/v1"), ("ANTHROPIC_BASE_URL", url)):
            monkeypatch.setenv(name, value)
            monkeypatch.setenv(name.replace("BASE_URL", "API_KEY"), "none")
        with openai.OpenAI() as client, anthropic.Anthropic() as other:
            raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=TURNS)
            assert raw.headers["x-pilotfish-reason"] == "observing"
            message = other.messages.create(model="auto", max_tokens=9, messages=TURNS)
            assert message.content[0].text == "hello"  # type: ignore[union-attr]
