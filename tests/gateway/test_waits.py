"""A smaller model that hangs is given up after so many times what its answers take; without any setting."""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pilotfish.models.breaker import N_FAILURES
from pilotfish.routing import latency
from tools.command_line import CommandLine
from tools.keyed import make_key, used
from tools.routed import HI, SURE, ask, content, routed, status
from tools.routes import adopt, route
from tools.upstream import Asked, Reply

HANGS = Reply(hangs=True)


@pytest.fixture
def least_s(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(latency, "LEAST_S", 0.4)
    return 0.4


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("reads_answer", "prefix"), [(True, 0), (True, 4), (False, 0)])
def test_one_that_hangs_is_given_up_and_the_large_model_answers(
    home: Path, least_s: float, reads_answer: bool, prefix: int, stream: bool, capsys: Any
) -> None:
    adopt(home, route(reads_answer=reads_answer, prefix=prefix, own_s=0.01))
    with routed(home, [HANGS]) as (place, server):
        _, headers, data = ask(place, stream=stream)
        assert (content(data), headers["x-pilotfish-reason"]) == ("from big", "smaller-failed")
        assert "x-pilotfish-certificate" not in headers
        assert f"small was given up after {least_s} s" in headers["x-pilotfish-route"]
        server.wait_for_hang_up()
        row = place.rows(1)[0]
        assert (row.model, row.reference_answer, row.tried_usd) == ("big", "from big", None)
        assert json.loads(row.route)["late"] == [{"model": "small", "waited_s": least_s}]
        connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
        connection.request("GET", f"/requests/{row.request_id}")
        assert "small was given up" in connection.getresponse().read().decode()
        connection.close()
    out = CommandLine(capsys)("explain", row.request_id, "--home", home).out
    assert f"gave up small after {least_s} s: nothing had come of its answer" in out


def test_what_its_own_answers_took_goes_before_what_the_outcomes_said_and_hanging_does_not_count(
    home: Path, least_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "FEWEST", 1)
    # By the outcomes it would be waited for 500 s.
    adopt(home, route(own_s=100.0))
    with routed(home, [SURE, HANGS]) as (place, _):
        said = [content(ask(place)[2]) for _ in range(3)]
        assert said == ["from small", "from big", "from big"]
        first, second = (json.loads(row.route)["late"][0]["waited_s"] for row in place.rows(3)[1:])
        assert least_s <= first == second < 500


def test_a_reply_that_has_begun_is_never_given_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "LEAST_S", 3.0)
    adopt(home, route(reads_answer=False, own_s=0.01))
    gate = threading.Event()
    with routed(home, [Reply(text="from small", gate=gate)]) as (place, _):
        connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
        connection.request(
            "POST", "/v1/chat/completions", json.dumps({"model": "auto", "messages": HI, "stream": True})
        )
        answer = connection.getresponse()
        data = answer.read1()
        time.sleep(3.1)
        gate.set()
        assert content(data + answer.read()) == "from small"
        connection.close()
        assert place.rows(1)[0].reason == "kept"


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_that_it_began_goes_on_with_the_large_model(
    home: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(latency, "LEAST_S", 120.0)
    adopt(home, route(own_s=0.01))

    def script(asked: Asked) -> Reply:
        return SURE if len(asked.json["messages"]) == 1 else HANGS

    with routed(home, script) as (place, _):
        rows = [*HI, {"role": "assistant", "content": content(ask(place)[2])}, {"role": "user", "content": "go on"}]
        monkeypatch.setattr(latency, "LEAST_S", 0.4)
        _, headers, data = ask(place, rows, stream=stream)
        assert (content(data), headers["x-pilotfish-reason"]) == ("from big", "smaller-failed")
        assert headers["x-pilotfish-route"] == "small was given up after 0.4 s"
        assert json.loads(place.rows(2)[1].route)["late"][0]["model"] == "small"


def test_where_the_large_model_would_miss_the_deadline_too_a_conversation_is_not_taken_from_its_model(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "FEWEST", 1)
    adopt(home, route(own_s=0.01, further_s=0.01))
    script = [SURE, Reply(text="from small", logprob=-2.0), SURE]
    with routed(home, script, [Reply(text="from big", delay_s=2.0)], routing={"deadline_s": 1.5}) as (place, server):
        rows = [*HI, {"role": "assistant", "content": content(ask(place)[2])}, {"role": "user", "content": "go on"}]
        assert content(ask(place)[2]) == "from big"
        _, headers, data = ask(place, rows)
        # To be given up after no time at all would cost its call, and make the answer later.
        assert (content(data), headers["x-pilotfish-reason"]) == ("from small", "same-model")
        assert len(server.asked) == 3


def test_a_key_pays_for_the_request_that_was_given_up(home: Path, least_s: float) -> None:
    adopt(home, route(own_s=0.01))
    key = make_key(home, "own", usd_per_day=1.0)
    with routed(home, [HANGS]) as (place, _):
        assert content(ask(place, key=key, max_tokens=10)[2]) == "from big"
        place.rows(1)
    # Its prompt is paid for, estimated from the request's 84 bytes; of an answer nothing has come.
    spent = used(home, time.time(), "own")["usd_total"]
    assert spent == pytest.approx(10 * (11 * 1 + 3 * 2) / 1e6 + 28 / 1e6, abs=3e-6)


def test_what_only_the_budget_has_kept_is_waited_for(home: Path, least_s: float) -> None:
    adopt(home, route(own_s=0.01))
    # The day cannot pay for anybody else.
    with routed(home, [Reply(text="from small", delay_s=2 * least_s)], routing={"usd_per_day": 1e-9}) as (place, _):
        _, headers, data = ask(place)
        assert (content(data), headers["x-pilotfish-reason"]) == ("from small", "budget")


@pytest.mark.parametrize("reads_answer", [True, False])
def test_one_that_hangs_again_and_again_is_left_alone_until_it_answers(
    home: Path, monkeypatch: pytest.MonkeyPatch, reads_answer: bool, capsys: Any
) -> None:
    monkeypatch.setattr(latency, "LEAST_S", 0.1)
    adopt(home, route(reads_answer=reads_answer, own_s=0.01))
    is_mended = threading.Event()
    with routed(home, lambda _: SURE if is_mended.is_set() else HANGS) as (place, server):
        said = [ask(place)[1]["x-pilotfish-route"] for _ in range(N_FAILURES)]
        assert all("small was given up" in one for one in said)
        assert status(place)["left_alone"] == ["small"]
        n, route_said = N_FAILURES, ""
        while "small is left alone" not in route_said:  # in the first second, unless the machine is slow
            n_asked, n = len(server.asked), n + 1
            _, headers, data = ask(place)
            route_said = headers["x-pilotfish-route"]
            assert (content(data), headers["x-pilotfish-reason"]) == ("from big", "smaller-failed")
        assert len(server.asked) == n_asked
        row = place.rows(n)[-1]
        assert row.tried_usd == 0.0
        is_mended.set()
        monkeypatch.setattr(latency, "LEAST_S", 60.0)
        connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
        connection.request("GET", f"/requests/{row.request_id}")
        assert "small was left alone" in connection.getresponse().read().decode()
        connection.close()
        while content(ask(place)[2]) != "from small":
            time.sleep(0.05)
        assert status(place)["left_alone"] == []
    assert "did not ask small" in CommandLine(capsys)("explain", row.request_id, "--home", home).out


def test_a_conversation_does_not_wait_for_one_that_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adopt(home, route(own_s=0.01))

    def script(asked: Asked) -> Reply:
        return SURE if asked.json["messages"][0]["content"] == "first" else HANGS

    with routed(home, script) as (place, server):
        first = [{"role": "user", "content": "first"}]
        rows = [*first, {"role": "assistant", "content": content(ask(place, first)[2])}, *HI]
        monkeypatch.setattr(latency, "LEAST_S", 0.1)
        for _ in range(N_FAILURES):
            ask(place)
        n_asked = len(server.asked)
        assert content(ask(place, rows)[2]) == "from big"
        assert len(server.asked) == n_asked
