"""A real server behind the gateway: llama.cpp's own, over a model of 200 kB with random weights made here.

What it says means nothing; that it arrives whole, in its order, with its numbers and its errors, is what is tested.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tools.gateway import Place, gateway
from tools.llama_server import ALIAS, N_CONTEXT, llama_server

pytest.importorskip("xllamacpp", reason="llama.cpp's server is not installed: pip install xllamacpp")

TURNS: Any = [{"role": "user", "content": "hi"}]
GREEDY: dict[str, Any] = {"model": "auto", "messages": TURNS, "temperature": 0}
COLOUR = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_server(tmp_path_factory.mktemp("llama")) as address:
        yield address


@pytest.fixture
def place(home: Path, llama: str) -> Iterator[Place]:
    with gateway(home, large={"url": llama + "/v1", "model": ALIAS, "timeout_s": 30.0}) as place:
        place.client = place.client.with_options(timeout=120)
        yield place


def is_busy(llama: str) -> bool:
    with urllib.request.urlopen(llama + "/slots", timeout=120) as reply:
        return any(slot["is_processing"] for slot in json.load(reply))


def wait_until(is_so: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_chat_is_the_same_whole_and_streamed_and_logged_with_its_tokens(place: Place) -> None:
    whole = place.client.chat.completions.create(**GREEDY, max_tokens=20)
    usage: Any = {"include_usage": True}
    chunks = list(place.client.chat.completions.create(**GREEDY, max_tokens=20, stream=True, stream_options=usage))
    text = whole.choices[0].message.content
    assert text
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens == 20
    for row in place.rows(2):
        assert (row.answer, row.reference_answer, row.completion_tokens) == (text, text, 20)
        assert row.prompt_tokens == whole.usage.prompt_tokens


def test_logprobs_and_several_choices_come_as_the_server_gives_them(place: Place) -> None:
    found = place.client.chat.completions.create(**GREEDY, max_tokens=4, logprobs=True, top_logprobs=3, n=2)
    assert [choice.index for choice in found.choices] == [0, 1]
    logprobs = found.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(token.token for token in logprobs.content) == found.choices[0].message.content
    assert [len(token.top_logprobs) for token in logprobs.content] == [3] * 4


def test_a_prompt_is_completed_whole_and_streamed(place: Place) -> None:
    asked: dict[str, Any] = {"model": "auto", "prompt": "once", "max_tokens": 8, "temperature": 0}
    text = place.client.completions.create(**asked).choices[0].text
    assert len(text) == 8
    stream = place.client.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == text


def test_embeddings_of_a_real_server(place: Place) -> None:
    found = place.client.embeddings.create(model=ALIAS, input=["one", "two"])
    assert [row.index for row in found.data] == [0, 1]
    assert sum(value**2 for value in found.data[0].embedding) == pytest.approx(1, abs=1e-4)
    again = place.client.embeddings.create(model=ALIAS, input="one", encoding_format="float")
    assert again.data[0].embedding == pytest.approx(found.data[0].embedding, abs=1e-5)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_bound_to_a_schema_or_a_grammar(place: Place, stream: bool) -> None:
    def said(**fields: Any) -> str:
        reply = place.client.chat.completions.create(**GREEDY, max_tokens=200, stream=stream, **fields)
        if not stream:
            return reply.choices[0].message.content or ""
        return "".join(chunk.choices[0].delta.content or "" for chunk in reply if chunk.choices)

    schema = {"type": "json_schema", "json_schema": {"name": "colour", "schema": COLOUR, "strict": True}}
    assert json.loads(said(response_format=schema))["colour"] in {"red", "green"}
    assert said(extra_body={"grammar": 'root ::= "yes" | "no"'}) in {"yes", "no"}


def test_tools_and_their_results_reach_the_model(place: Place) -> None:
    """Random weights never choose to call a tool; that its words count among the prompt's is what can be seen."""
    tools: Any = [{"type": "function", "function": {"name": "paint", "parameters": COLOUR}}]
    call = {"id": "call_1", "type": "function", "function": {"name": "paint", "arguments": '{"colour": "red"}'}}
    turns: Any = [*TURNS, {"role": "assistant", "content": None, "tool_calls": [call]}]
    turns += [{"role": "tool", "tool_call_id": "call_1", "content": "done"}]
    asked = [{}, {"tools": tools}, {"tools": tools, "messages": turns}]
    counts = []
    for fields in asked:
        usage = place.client.chat.completions.create(**{**GREEDY, **fields}, max_tokens=2).usage
        assert usage is not None
        counts.append(usage.prompt_tokens)
    assert counts[0] + 100 < counts[1] < counts[2] - 50


def test_a_context_that_is_too_small_is_the_servers_own_error(place: Place) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="exceeds the available context size") as caught:
            place.client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "x" * (N_CONTEXT + 1)}], stream=stream
            )
        body: Any = caught.value.body
        assert (body["type"], body["n_ctx"]) == ("exceed_context_size_error", N_CONTEXT)
    assert [row.status for row in place.rows(2)] == [400, 400]


def test_a_client_that_leaves_a_stream_frees_the_servers_slot(place: Place, llama: str) -> None:
    """Of a whole answer the gateway closes the connection too, which this server notices only at its end."""
    with place.client.chat.completions.create(**GREEDY, stream=True) as stream:
        next(iter(stream))
        assert is_busy(llama)
    wait_until(lambda: not is_busy(llama))
    row = place.rows(1)[0]
    assert (row.status, row.reference_answer) == (499, None)


def test_responses_are_the_servers_own_or_translated(home: Path, llama: str) -> None:
    said = []
    for responses in (True, False):
        large = {"url": llama + "/v1", "model": ALIAS, "responses": responses, "timeout_s": 30.0}
        with gateway(home / str(responses), large=large) as place:
            asked: dict[str, Any] = {"model": "auto", "input": "hi", "max_output_tokens": 12, "temperature": 0}
            said.append(place.client.responses.create(**asked).output_text)
            events = place.client.responses.create(**asked, stream=True)
            said.append("".join(event.delta for event in events if event.type == "response.output_text.delta"))
    assert len(said[0]) == 12
    assert len(set(said)) == 1


@pytest.mark.parametrize("family", ["openai", "anthropic"])
def test_anthropics_client_gets_the_same_through_translation_and_from_the_servers_own_messages(
    home: Path, llama: str, family: str
) -> None:
    with gateway(home, large={"url": llama + "/v1", "model": ALIAS, "family": family, "timeout_s": 30.0}) as place:
        url = f"http://127.0.0.1:{place.port}"
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=120) as client:
            asked: dict[str, Any] = {
                "model": "auto",
                "messages": TURNS,
                "max_tokens": 9,
                "extra_body": {"temperature": 0},
            }
            message = client.messages.create(**asked)
            with client.messages.stream(**asked) as stream:
                streamed = stream.get_final_message()
        assert (message.stop_reason, streamed.stop_reason) == ("max_tokens", "max_tokens")
        assert len(message.content[0].text) == 9  # type: ignore[union-attr]
        assert streamed.content[0].text == message.content[0].text  # type: ignore[union-attr]
        assert streamed.usage.output_tokens == 9
