"""Every family of endpoints with the official clients: passed through untouched, answered locally in its shape."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tools import families
from tools.gateway import Place, gateway
from tools.served_home import INSTRUCTIONS, TASK_ID, Learnt, adopt
from tools.upstream import Asked, Reply

ANTHROPIC = {"family": "anthropic"}
SERVING = {"max_risk": 0.05, "audit_rate": 0.0}
TEXT = "my car 1 is red"
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
FUNCTION = {"type": "function", "name": "weather", "parameters": TOOL["input_schema"], "strict": True}


def claude(place: Place) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{place.port}", api_key="client-key", max_retries=0, timeout=120
    )


def post(port: int, path: str, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1" + path, json.dumps(body), {"content-type": "application/json", **headers})
    response = connection.getresponse()
    reply = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return reply


REQUESTS: dict[str, dict[str, Any]] = {
    "/chat/completions": {
        "messages": [
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "parallel_tool_calls": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "logprobs": True,
        "n": 2,
    },
    "/completions": {"prompt": [1, 2, 3], "logprobs": 0, "echo": True, "best_of": 2},
    "/responses": {
        "input": [{"type": "function_call_output", "call_id": "c", "output": "x"}],
        "previous_response_id": "resp_1",
        "tools": [{"type": "web_search"}],
        "include": ["reasoning.encrypted_content"],
    },
    "/embeddings": {"input": [[1, 2]], "dimensions": 8},
    "/messages": {
        "max_tokens": 5,
        "system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": []}]}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    },
    "/messages/count_tokens": {"messages": [{"role": "user", "content": "hi"}]},
}


def family_of(path: str) -> dict[str, object]:
    return {"family": "anthropic" if path.startswith("/messages") else "openai"}


@pytest.mark.parametrize("path", REQUESTS)
def test_a_named_model_of_the_same_family_gets_the_very_bytes_and_so_does_the_client(home: Path, path: str) -> None:
    answer = families.whole("/v1" + path, "hello", "other")[:-1] + b', "vendor": 1.10}'
    with gateway(home, [Reply(body=answer)], large=family_of(path)) as place:
        asked = {"model": "other", "vendor": 1.5, **REQUESTS[path]}
        status, headers, got = post(place.port, path, asked)
        assert (status, got) == (200, answer)
        assert headers["x-pilotfish-reason"] == "other-model"
        assert place.server.asked[0].path == "/v1" + path
        assert place.server.asked[0].body == json.dumps(asked).encode()
        row = place.rows(1)[0]
        assert (row.model, row.status, row.error) == ("other", 200, "")


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/messages"])
def test_streams_are_relayed_byte_for_byte_and_read_for_the_log(home: Path, path: str) -> None:
    with gateway(home, large=family_of(path)) as place:
        asked: dict[str, Any] = {"model": "auto", "stream": True, "prompt": "hi", "input": "hi", "messages": []}
        asked |= {"stream_options": {"include_usage": True}} if "completions" in path else {}
        status, _, got = post(place.port, path, asked)
        assert status == 200
        assert got == b"".join(families.events("/v1" + path, "hello", {**asked, "model": "big"}))
        row = place.rows(1)[0]
        assert (row.answer, row.prompt_tokens, row.completion_tokens) == ("hello", 11, 3)


@pytest.mark.parametrize("path", ["/completions", "/responses", "/messages"])
def test_whole_answers_are_read_for_the_log(home: Path, path: str) -> None:
    with gateway(home, large=family_of(path)) as place:
        turns = [{"role": "user", "content": "hi"}]
        bodies: dict[str, dict[str, Any]] = {"/completions": {"prompt": "hi"}, "/responses": {"input": "hi"}}
        post(place.port, path, bodies.get(path, {"messages": turns}))
        row = place.rows(1)[0]
        assert (row.input, row.answer, row.reference_answer) == ("hi", "hello", "hello")
        assert (row.prompt_tokens, row.completion_tokens, row.sampling) == (11, 3, "observe")


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/messages"])
def test_a_cut_stream_ends_with_an_error_event_in_the_words_of_its_family(home: Path, path: str) -> None:
    with gateway(home, [Reply(cut_after=6)], large=family_of(path)) as place:
        asked = {"model": "auto", "stream": True, "prompt": "hi", "input": "hi", "messages": []}
        _, _, got = post(place.port, path, asked)
        last = json.loads(got.rstrip().splitlines()[-1][6:])
        assert (last if path == "/responses" else last["error"])["code"] == "model_unreachable"
        if path == "/responses":
            assert last["sequence_number"] == 6
        row = place.rows(1)[0]
        assert (row.status, row.reference_answer) == (502, None)
        assert row.answer


def test_anthropics_client_gets_answers_streams_and_calls(home: Path) -> None:
    script = [Reply(), Reply(), Reply(call=("weather", {"city": "Bern"})), Reply(), Reply(status=529, body=b"{}")]
    with gateway(home, script, large=ANTHROPIC) as place, claude(place) as client:
        turns: Any = [{"role": "user", "content": "hi"}]
        raw = client.messages.with_raw_response.create(model="auto", max_tokens=9, messages=turns)
        assert raw.parse().content[0].text == "hello"  # type: ignore[union-attr]
        assert raw.headers["x-pilotfish-model"] == "big"
        with client.messages.stream(model="auto", max_tokens=9, messages=turns) as stream:
            assert stream.get_final_text() == "hello"
        with client.messages.stream(model="auto", max_tokens=9, messages=turns, tools=[TOOL]) as stream:  # type: ignore[list-item]
            message = stream.get_final_message()
        assert message.stop_reason == "tool_use"
        assert message.content[1].input == {"city": "Bern"}  # type: ignore[union-attr]
        assert client.messages.count_tokens(model="auto", messages=turns).input_tokens == 42
        # The client's key and version as it sends them: since its version 2 a bearer token.
        assert place.server.asked[0].headers["authorization"] == "Bearer client-key"
        assert place.server.asked[0].headers["anthropic-version"] >= "2023-06-01"
        with pytest.raises(anthropic.APIStatusError):
            client.messages.create(model="auto", max_tokens=9, messages=turns)


def test_openais_client_gets_responses_and_completions(home: Path) -> None:
    with gateway(home) as place:
        client = place.client
        assert client.responses.create(model="auto", input="hi").output_text == "hello"
        with client.responses.stream(model="auto", input="hi") as stream:
            assert stream.get_final_response().output_text == "hello"
        assert client.completions.create(model="auto", prompt="hi").choices[0].text == "hello"
        pieces = client.completions.create(model="auto", prompt="hi", stream=True)
        assert "".join(piece.choices[0].text for piece in pieces) == "hello"
        assert client.embeddings.create(model="other", input="hi", encoding_format="float").data[0].embedding


def test_an_own_key_goes_in_the_header_of_the_family(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIG_KEY", "own")
    with gateway(home, large={**ANTHROPIC, "key_env": "BIG_KEY"}) as place:
        beta = {"x-api-key": "client", "anthropic-beta": "b1", "anthropic-version": "2024-01-01"}
        post(place.port, "/messages", {"messages": []}, **beta)
        headers = place.server.asked[0].headers
        assert headers["x-api-key"] == "own"
        assert (headers["anthropic-beta"], headers["anthropic-version"]) == ("b1", "2024-01-01")
        assert "authorization" not in headers


# Local answers.

Serve = Callable[..., AbstractContextManager[Place]]


@pytest.fixture
def serve(served_home: Path, learnt: Learnt) -> Serve:
    adopt(learnt, served_home)
    return partial(gateway, served_home, learning={"encoder": learnt.encoder, "check_every_s": 0.05})


@pytest.mark.parametrize("large", [{}, ANTHROPIC])
def test_a_task_is_the_same_through_every_family_and_answered_in_its_shape(
    serve: Serve, large: dict[str, object]
) -> None:
    with serve(large=large, quality=SERVING) as place, claude(place) as client:
        turns: Any = [{"role": "user", "content": TEXT}]
        message = client.messages.create(model="auto", max_tokens=9, system=INSTRUCTIONS, messages=turns)
        assert message.content[0].text == "red"  # type: ignore[union-attr]
        assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 0)
        with client.messages.stream(model="auto", max_tokens=9, system=INSTRUCTIONS, messages=turns) as stream:
            assert stream.get_final_text() == "red"
            assert stream.get_final_message().model == "pilotfish/colours"
        response = place.client.responses.create(model="auto", instructions=INSTRUCTIONS, input=TEXT, temperature=0.5)
        assert response.output_text == "red"
        assert (response.status, response.instructions, response.temperature) == ("completed", INSTRUCTIONS, 0.5)
        assert response.store is False  # type: ignore[attr-defined]
        with place.client.responses.stream(model="auto", instructions=INSTRUCTIONS, input=TEXT) as events:
            kinds = [event.type for event in events]
            assert events.get_final_response().output_text == "red"
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        parts = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": TEXT}]
        assert place.client.responses.create(model="auto", input=parts).output_text == "red"  # type: ignore[arg-type]
        assert place.client.chat.completions.create(model="auto", messages=parts).choices[0].message.content == "red"  # type: ignore[arg-type]
        assert place.server.asked == []
        rows = place.rows(6)
        assert {(row.reason, row.task_id) for row in rows} == {("certified", TASK_ID)}


def test_a_prompt_is_answered_locally_where_it_is_a_task(
    served_home: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task's only message is the user's, as it is of a prompt."""
    import dataclasses  # noqa: PLC0415

    from pilotfish.core.messages import ChatRequest, Message  # noqa: PLC0415
    from pilotfish.tasks.fingerprint import instructions_id  # noqa: PLC0415
    from tools import served_home as homes  # noqa: PLC0415

    task_id = instructions_id(ChatRequest(messages=[Message(role="user", content="x")]))
    record = dataclasses.replace(learnt.record, task_id=task_id, instructions_id=task_id)
    monkeypatch.setattr(homes, "TASK_ID", task_id)
    adopt(dataclasses.replace(learnt, record=record), served_home, task_id=task_id)
    with gateway(served_home, quality=SERVING, learning={"encoder": learnt.encoder}) as place:
        completion = place.client.completions.create(model="auto", prompt=TEXT)
        assert (completion.choices[0].text, completion.model) == ("red", "pilotfish/colours")
        assert completion.choices[0].finish_reason == "stop"
        options: Any = {"include_usage": True}
        stream = list(place.client.completions.create(model="auto", prompt=TEXT, stream=True, stream_options=options))
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == "red"
        assert stream[-1].usage is not None
        assert place.server.asked == []


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/messages", {"thinking": {"type": "adaptive"}}),
        ("/messages", {"tools": [TOOL]}),
        ("/messages", {"stop_sequences": ["x"]}),
        ("/responses", {"tools": [FUNCTION]}),
        ("/responses", {"store": True}),
        ("/responses", {"previous_response_id": "resp_1"}),
        ("/responses", {"top_logprobs": 2}),
    ],
)
def test_what_a_specialist_cannot_honour_goes_to_the_reference(serve: Serve, path: str, fields: dict[str, Any]) -> None:
    with serve([Reply(text="violet")], quality=SERVING, large=family_of(path)) as place:
        turns = [{"role": "user", "content": TEXT}]
        shared = {"system": INSTRUCTIONS, "messages": turns} if path == "/messages" else {"input": TEXT}
        status, headers, _ = post(place.port, path, {**shared, "instructions": INSTRUCTIONS, **fields})
        assert (status, headers["x-pilotfish-reason"]) == (200, "unsupported-option")


def test_an_audit_asks_in_the_clients_own_format(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(text="red")

    with serve(answer, quality={"max_risk": 0.05, "audit_rate": 1.0}, large=ANTHROPIC) as place:
        turns = [{"role": "user", "content": TEXT}]
        for stream in (False, True):
            post(place.port, "/messages", {"system": INSTRUCTIONS, "messages": turns, "stream": stream})
        place.server.wait_for_request(2)
        assert {asked.path for asked in place.server.asked} == {"/v1/messages"}
        for row in place.rows(2):
            assert (row.sampling, row.answer) == ("audit", "red")


def test_a_local_answer_cannot_be_continued_by_its_id(serve: Serve) -> None:
    with serve(quality=SERVING) as place:
        first = place.client.responses.create(model="auto", instructions=INSTRUCTIONS, input=TEXT)
        with pytest.raises(openai.BadRequestError) as caught:
            place.client.responses.create(model="auto", input="and this?", previous_response_id=first.id)
        assert caught.value.param == "previous_response_id"


# Embeddings by the shared encoder.


def test_the_shared_encoder_is_asked_by_its_name(serve: Serve, learnt: Learnt) -> None:
    name = Path(learnt.encoder).name
    with serve() as place:
        raw = place.client.embeddings.with_raw_response.create(model=name, input=[TEXT, "other"])
        reply = raw.parse()
        assert raw.headers["x-pilotfish-reason"] == "encoder"
        assert [row.index for row in reply.data] == [0, 1]
        assert sum(value**2 for value in reply.data[0].embedding) == pytest.approx(1, abs=1e-5)
        plain = place.client.embeddings.create(model=name, input=TEXT, encoding_format="float")
        assert plain.data[0].embedding == pytest.approx(reply.data[0].embedding)
        assert plain.usage.prompt_tokens < reply.usage.prompt_tokens
        _, _, body = post(place.port, "/embeddings", {"model": name, "input": TEXT, "encoding_format": "base64"})
        data = base64.b64decode(json.loads(body)["data"][0]["embedding"])
        assert struct.unpack(f"<{len(data) // 4}f", data) == pytest.approx(plain.data[0].embedding)
        assert place.server.asked == []
        row = place.rows(3)[0]
        assert (row.reason, row.model, row.input) == ("encoder", name, None)
        assert row.prompt_tokens == reply.usage.prompt_tokens
        assert name in [model.id for model in place.client.models.list()]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"dimensions": 5}, "dimensions"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": []}, "input"),
        ({"input": ["", "x"]}, "input"),
        ({"input": None}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_the_encoder_cannot_honour_is_a_400_that_names_it(
    serve: Serve, learnt: Learnt, fields: dict[str, Any], param: str
) -> None:
    with serve() as place:
        body = {"model": Path(learnt.encoder).name, "input": "x", **fields}
        status, _, got = post(place.port, "/embeddings", body)
        assert (status, json.loads(got)["error"]["param"]) == (400, param)
        assert place.server.asked == []


# Models.


def test_models_are_told_to_either_client(home: Path) -> None:
    with gateway(home) as place, claude(place) as client:
        assert place.client.models.retrieve("big").id == "big"
        assert [model.id for model in client.models.list()][:2] == ["big", "auto"]
        assert client.models.retrieve("auto").type == "model"
        with pytest.raises(openai.NotFoundError, match="nothing-such"):
            place.client.models.retrieve("nothing-such")


def test_an_encoder_that_cannot_run_here_is_not_listed_and_says_what_is_missing(home: Path) -> None:
    """In a process of its own, in which the libraries of the `local` extra cannot be imported."""
    script = """
import sys

sys.modules.update(numpy=None, onnxruntime=None)
import openai
from pilotfish import ScriptedModel, ServerSettings, Settings, serving

with serving(Settings(home=sys.argv[1], server=ServerSettings(port=0)), reference=ScriptedModel(["x"])) as port:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    print([model.id for model in client.models.list()])
    try:
        client.embeddings.create(model="all-MiniLM-L6-v2", input="x")
    except openai.NotFoundError as error:
        print(error.code, error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)], capture_output=True, text=True, timeout=120, check=False
    )
    listed, error = done.stdout.splitlines()
    assert "all-MiniLM-L6-v2" not in listed
    assert error.startswith("model_not_found")
    assert "pip install 'pilotfish[local]'" in error
