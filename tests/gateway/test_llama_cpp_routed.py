"""Two real servers of different size behind the gateway: the cascade, its streams and receipts, its budget, its end."""

from __future__ import annotations

import json
import math
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotfish.config.settings import ModelSettings
from pilotfish.evals import pair_judge
from pilotfish.routing.gain import Gain
from pilotfish.routing.route import Route, Step
from pilotfish.store.build import open_log
from tools.gateway import Place, gateway
from tools.llama_server import llama_server
from tools.routed import ask, content, status
from tools.routes import adopt

pytest.importorskip("xllamacpp", reason="llama.cpp's server is not installed: pip install xllamacpp")

PROMPTS = [f"say {letter}" for letter in "abcdef"]
ASKED: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
PRICE: dict[str, Any] = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folders = [tmp_path_factory.mktemp(name) for name in ("small", "big")]
    with llama_server(folders[0], n_layers=1) as small, llama_server(folders[1], n_layers=4) as big:
        yield small, big


def messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def straight(server: str, prompt: str, n_tokens: int | None = None) -> tuple[str, float]:
    """What a server says when it is asked without us, and its mean negative log-probability, of its first tokens."""
    body = {"messages": messages(prompt), **ASKED, "logprobs": True}
    request = urllib.request.Request(
        server + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        choice = json.load(reply)["choices"][0]
    logprobs = [token["logprob"] for token in choice["logprobs"]["content"]][:n_tokens]
    return choice["message"]["content"], -math.fsum(logprobs) / len(logprobs)


def settings(servers: tuple[str, str], **routing: object) -> dict[str, Any]:
    small, big = (server + "/v1" for server in servers)
    return {
        "large": {"url": big, "model": "big", "timeout_s": 30.0, **PRICE},
        "models": {"small": ModelSettings(url=small, **PRICE)},
        "routing": {"models": ("small",), "margin": 0.05, "audit_rate": 0.0} | routing,
    }


def reading(threshold: float, prefix: int = 0) -> Route:
    gain = Gain(signals=("mean logprob",), weights=(1.0,))
    step = Step(model="small", gain=gain, reads_answer=True, prefix=prefix)
    return Route(steps=(step,), reference="big", threshold=threshold)


def test_the_surest_answers_of_the_small_one_are_kept_whole_and_streamed(home: Path, servers: tuple[str, str]) -> None:
    small = {prompt: straight(servers[0], prompt) for prompt in PROMPTS}
    big = {prompt: straight(servers[1], prompt)[0] for prompt in PROMPTS}
    assert all(small[prompt][0] != big[prompt] for prompt in PROMPTS)
    needs = sorted(need for _, need in small.values())
    threshold = (needs[2] + needs[3]) / 2
    adopt(home, reading(threshold))
    with gateway(home, **settings(servers)) as place:
        for prompt, (said, need) in small.items():
            is_kept = need <= threshold
            for stream in (False, True):
                _, headers, data = ask(place, messages(prompt), stream=stream, **ASKED)
                assert content(data) == (said if is_kept else big[prompt])
                assert headers["x-pilotfish-model"] == ("small" if is_kept else "big")
                assert f"mean logprob={need:.4g}" in headers["x-pilotfish-route"]
                assert b"logprob" not in data.replace(b"x-pilotfish", b"")
        rows = place.rows(2 * len(PROMPTS))
    assert {row.reason for row in rows} == {"kept", "asked-further"}
    assert all(row.tried_usd == 0 for row in rows if row.reason == "kept")
    assert all(row.tried_usd for row in rows if row.reason == "asked-further")
    # Of a kept stream the usage is known, which was asked for our own sake.
    assert all(row.cost_usd for row in rows if row.reason == "kept" and row.is_stream)


def test_the_first_tokens_decide_about_a_stream_as_about_a_whole_answer(home: Path, servers: tuple[str, str]) -> None:
    small = {prompt: straight(servers[0], prompt, 2) for prompt in PROMPTS}
    needs = sorted(need for _, need in small.values())
    threshold = (needs[2] + needs[3]) / 2
    adopt(home, reading(threshold, prefix=2))
    with gateway(home, **settings(servers)) as place:
        for prompt, (said, need) in small.items():
            for stream in (False, True):
                _, headers, data = ask(place, messages(prompt), stream=stream, **ASKED)
                assert (headers["x-pilotfish-model"] == "small") is (need <= threshold)
                assert content(data) == said or need > threshold
                assert f"mean logprob={need:.4g}" in headers["x-pilotfish-route"]
        rows = place.rows(2 * len(PROMPTS))
    assert all(row.cost_usd for row in rows if row.reason == "kept")


def wait_for(place: Place, key: str, value: object) -> None:
    deadline = time.monotonic() + 120
    while status(place)[key] != value:
        assert time.monotonic() < deadline, status(place)
        time.sleep(0.02)


def test_a_judge_that_says_nothing_that_can_be_read_ends_the_promise(
    home: Path, servers: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_judge, "MOST_TOKENS", 2)
    adopt(home, reading(100.0), margin=0.01)
    with gateway(home, **settings(servers, margin=0.01, audit_rate=1.0, judge="big")) as place:
        for _ in range(100):
            _, headers, _ = ask(place, messages("say a"), **ASKED)
            if headers["x-pilotfish-model"] == "big":
                break
        wait_for(place, "why_none", "the route was withdrawn")
        assert ask(place, messages("say a"), **ASKED)[1]["x-pilotfish-model"] == "big"


def test_what_is_collected_stays_within_the_day(home: Path, servers: tuple[str, str]) -> None:
    with gateway(home, **settings(servers, margin=None, collect=1.0, collect_usd_per_day=1e-4)) as place:
        for prompt in PROMPTS:
            ask(place, messages(prompt), **ASKED)
        place.rows(len(PROMPTS))
        spent = status(place)["collecting"]["spent_usd_today"]
    rows = open_log(home).tried()
    assert 0 < spent <= 1e-4
    assert 1 <= len(rows) < len(PROMPTS)
    assert len(json.loads(next(row.tried for row in rows if row.tried))["logprobs"]) == 8
