"""Models of transformers in the gateway's own process, named by clients like any other."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

pytest.importorskip("transformers", reason="needs the transformers extra")

from pilotfish.config.settings import ModelSettings
from tools.gateway import Place, gateway
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
    working = threading.Thread(target=lambda: place.client.chat.completions.create(**question))
    working.start()
    started_s = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/healthz", timeout=20) as reply:
        assert reply.status == 200
    took_s = time.monotonic() - started_s
    was_working = working.is_alive()
    working.join()
    assert was_working
    assert took_s < time.monotonic() - started_s
