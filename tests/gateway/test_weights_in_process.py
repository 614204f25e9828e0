"""Models of transformers and llama.cpp in the gateway's own process, named by clients like any other."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

pytest.importorskip("transformers", reason="needs the transformers extra")

from pilotfish.config.settings import ModelSettings
from tools.gateway import Place, gateway
from tools.tiny_gguf import write_gguf
from tools.tiny_transformers import (
    LABELS,
    write_tiny_classifier,
    write_tiny_encoder,
    write_tiny_gpt2,
    write_tiny_reader,
)

TEXT = "forty sacks of rice"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSettings]:
    folder = tmp_path_factory.mktemp("models")
    written = {
        "gpt": ("generate", write_tiny_gpt2(folder / "gpt")),
        "mood": ("classify", write_tiny_classifier(folder / "mood")),
        "reader": ("answer", write_tiny_reader(folder / "reader")),
        "vectors": ("embed", write_tiny_encoder(folder / "vectors")),
    }
    return {name: ModelSettings(weights=str(path), task=task) for name, (task, path) in written.items()}  # type: ignore[arg-type]


@pytest.fixture
def place(home: Path, models: dict[str, ModelSettings]) -> Iterator[Place]:
    with gateway(home, models=models, privacy={"mode": "local"}) as place:
        yield place


def test_clients_name_them_like_any_other_model(place: Place) -> None:
    ask = place.client.chat.completions.create
    whole = ask(model="gpt", messages=[{"role": "user", "content": "hi"}], max_tokens=6, logprobs=True)
    assert (whole.model, whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("gpt", "length", 6)
    assert len(whole.choices[0].logprobs.content) == 6
    streamed = ask(model="gpt", messages=[{"role": "user", "content": "hi"}], max_tokens=6, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole.choices[0].message.content
    label = ask(model="mood", messages=[{"role": "user", "content": "hi"}]).choices[0].message.content
    assert label in LABELS
    turns = [{"role": "user", "content": TEXT}, {"role": "user", "content": "how many sacks?"}]
    assert ask(model="reader", messages=turns).choices[0].message.content in TEXT
    vectors = place.client.embeddings.create(model="vectors", input=["one", "two"])
    assert [round(sum(value * value for value in row.embedding), 4) for row in vectors.data] == [1, 1]
    with pytest.raises(openai.BadRequestError, match="cannot honour tools") as caught:
        ask(model="gpt", messages=[{"role": "user", "content": "hi"}], tools=[{"type": "function", "function": {}}])
    assert caught.value.param == "tools"
    assert place.server.asked == []


def test_what_must_stay_here_may_go_to_them(place: Place) -> None:
    private = [{"role": "user", "content": "my mail is jane.doe@example.org"}]
    reply = place.client.chat.completions.with_raw_response.create(model="gpt", messages=private, max_tokens=2)
    assert reply.headers["x-pilotfish-reason"] == "private"
    assert place.server.asked == []


def test_the_gateway_goes_on_while_one_works(place: Place) -> None:
    question = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 110}
    for _ in range(10):  # this machine has other things to do
        working = threading.Thread(target=lambda: place.client.chat.completions.create(**question))
        working.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/healthz", timeout=120) as reply:
            assert reply.status == 200
        was_working = working.is_alive()
        working.join()
        if was_working:
            return
    pytest.fail("nothing was answered while it worked")


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSettings]:
    pytest.importorskip("xllamacpp", reason="needs the llama extra")
    path = str(write_gguf(tmp_path_factory.mktemp("llama") / "tiny.gguf"))
    return {"llama": ModelSettings(weights=path, max_tokens=7), "vectors": ModelSettings(weights=path, task="embed")}


@pytest.fixture
def llama(home: Path, llamas: dict[str, ModelSettings]) -> Iterator[Place]:
    with gateway(home, models=llamas, privacy={"mode": "local"}) as place:
        yield place


def test_a_gguf_file_is_named_likewise_in_every_format(llama: Place) -> None:
    asked: dict[str, Any] = {"model": "llama", "temperature": 0}
    turns: Any = [{"role": "user", "content": "my mail is jane.doe@example.org"}]
    whole = llama.client.chat.completions.create(**asked, messages=turns, logprobs=True)
    text = whole.choices[0].message.content
    assert (whole.model, whole.choices[0].finish_reason, len(text)) == ("llama", "length", 7)
    assert len(whole.choices[0].logprobs.content) == 7
    streamed = llama.client.chat.completions.create(**asked, messages=turns, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == text
    stopped = llama.client.chat.completions.create(**asked, messages=turns, stop=text[3:5])
    assert stopped.choices[0].message.content == text[: text.index(text[3:5])]
    assert llama.client.responses.create(**asked, input=turns).output_text == text
    events = llama.client.responses.create(**asked, input=turns, stream=True)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text
    assert len(llama.client.completions.create(**asked, prompt="once").choices[0].text) == 7
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{llama.port}", api_key="none", max_retries=0) as client:
        extra = {"temperature": 0}
        message = client.messages.create(model="llama", messages=turns, max_tokens=7, extra_body=extra)
    assert (message.content[0].text, message.stop_reason) == (text, "max_tokens")  # type: ignore[union-attr]
    vectors = llama.client.embeddings.create(model="vectors", input=["one", "two"])
    assert [round(sum(value * value for value in row.embedding), 4) for row in vectors.data] == [1, 1]
    assert llama.server.asked == []


@pytest.mark.parametrize("streams", [False, True])
def test_its_answer_is_json_of_the_schema_asked_for(llama: Place, streams: bool) -> None:
    shape = {"type": "object", "properties": {"n": {"enum": [3, 4]}}, "required": ["n"], "additionalProperties": False}
    form: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": shape, "strict": True}}
    turns: Any = [{"role": "user", "content": "hi"}]
    said: Any = llama.client.chat.completions.create(
        model="llama", messages=turns, response_format=form, stream=streams, max_tokens=60
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in said] if streams else [said.choices[0].message.content]
    assert json.loads("".join(pieces))["n"] in (3, 4)
    free = llama.client.chat.completions.create(
        model="llama", messages=turns, response_format={"type": "json_object"}, max_tokens=200, temperature=2, seed=1
    )
    assert isinstance(json.loads(free.choices[0].message.content), dict)


def test_what_a_gguf_file_does_not_do_is_refused_by_name(llama: Place) -> None:
    with pytest.raises(openai.BadRequestError, match="llama generates text"):
        llama.client.embeddings.create(model="llama", input="one")
    with pytest.raises(openai.BadRequestError, match="vectors embeds texts"):
        llama.client.chat.completions.create(model="vectors", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.BadRequestError, match="exceeds the available context size"):
        llama.client.chat.completions.create(model="llama", messages=[{"role": "user", "content": "x" * 9000}])
