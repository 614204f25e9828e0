"""A certified route in the live path: the smaller model first, one answer, one model a conversation, both costs."""

from __future__ import annotations

import dataclasses
import json
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pilotfish.routing import latency
from pilotfish.routing.signals import BY_NAME
from pilotfish.store.build import open_routes
from tools.command_line import CommandLine
from tools.forms import get
from tools.keyed import make_key
from tools.routed import HI, SMALL_USD, SURE, UNSURE, ask, content, routed, status
from tools.routes import adopt, route
from tools.upstream import Asked, Reply


@pytest.mark.parametrize("stream", [False, True])
def test_a_sure_answer_is_kept_and_everything_says_why(home: Path, stream: bool, capsys: Any) -> None:
    certificate = adopt(home)
    with routed(home, [SURE]) as (place, server):
        code, headers, data = ask(place, stream=stream)
        assert (code, content(data)) == (200, "from small")
        assert (headers["x-pilotfish-model"], headers["x-pilotfish-reason"]) == ("small", "kept")
        assert headers["x-pilotfish-certificate"] == certificate.id
        assert "why=kept; need 0.1 <= 0.5; least logprob=0.1" in headers["x-pilotfish-route"]
        # What was asked for our own sake does not reach the client.
        assert b"logprobs" not in data
        assert b"usage" not in data or not stream
        assert server.asked[0].json["top_logprobs"] == 2
        assert place.server.asked == []
        row = place.rows(1)[0]
        assert (row.reason, row.model, row.answer, row.reference_answer) == ("kept", "small", "from small", None)
        assert (row.cost_usd, row.tried_usd, row.sampling) == (pytest.approx(SMALL_USD), 0.0, "none")
        said = json.loads(row.route)
        assert (said["why"], said["signals"]) == ("kept", {"least logprob": 0.1})
        assert "hedging" in said["not_used"]
        assert said["asked"][0]["cost_usd"] == pytest.approx(SMALL_USD)
    out = CommandLine(capsys)("explain", row.request_id, "--home", home).out
    assert "need 0.1000, kept up to 0.5000" in out
    assert "signals: least logprob 0.1000; not used: broken format" in out


@pytest.mark.parametrize("stream", [False, True])
def test_an_unsure_answer_goes_on_to_the_reference_and_both_costs_are_known(home: Path, stream: bool) -> None:
    adopt(home)
    with routed(home, [UNSURE]) as (place, server):
        _, headers, data = ask(place, stream=stream, stream_options={"include_usage": True} if stream else None)
        assert content(data) == "from big"
        assert data.count(b"[DONE]") == int(stream)
        assert (headers["x-pilotfish-model"], headers["x-pilotfish-reason"]) == ("big", "asked-further")
        assert "need 2 > 0.5" in headers["x-pilotfish-route"]
        assert "x-pilotfish-certificate" not in headers
        assert (len(server.asked), len(place.server.asked)) == (1, 1)
        assert "logprobs" not in place.server.asked[0].json
        row = place.rows(1)[0]
        assert (row.reason, row.model, row.reference_answer) == ("asked-further", "big", "from big")
        assert (row.cost_usd, row.tried_usd) == (pytest.approx(10 * SMALL_USD), pytest.approx(SMALL_USD))


def test_what_the_client_asked_for_itself_stays_in_the_answer(home: Path) -> None:
    adopt(home)
    with routed(home, [SURE]) as (place, _):
        whole = json.loads(ask(place, logprobs=True, top_logprobs=2)[2])
        assert len(whole["choices"][0]["logprobs"]["content"]) == len("from small")
        data = ask(place, stream=True, stream_options={"include_usage": True})[2]
        assert b'"usage":{' in data.replace(b" ", b"")


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
BEGUN = [*HI, {"role": "assistant", "content": "so far"}, {"role": "user", "content": "on"}]


@pytest.mark.parametrize(
    ("routing", "fields"),
    [
        ({"margin": None}, {}),
        ({"margin": 0.01}, {}),
        ({"models": ()}, {}),
        ({"audit_rate": None}, {}),
        ({}, {"n": 2}),
        ({}, {"tools": TOOLS}),
        ({}, {"model": "big"}),
        ({}, {"rows": BEGUN}),
        ({}, {"rows": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
    ],
    ids=["no margin", "stricter", "no models", "no judge", "n", "tools", "named", "begun elsewhere", "image"],
)
def test_nothing_is_tried_where_the_promise_does_not_reach(
    home: Path, routing: dict[str, object], fields: dict[str, object]
) -> None:
    adopt(home)
    with routed(home, [SURE], routing=routing) as (place, server):
        _, headers, data = ask(place, **fields)  # type: ignore[arg-type]
        assert (content(data), server.asked) == ("from big", [])
        assert "x-pilotfish-route" not in headers
        assert (status(place)["why_none"] is not None) is bool(routing)


@pytest.mark.parametrize(
    ("reply", "reads_answer"),
    [
        (Reply(status=500, body=b"{}"), True),
        (Reply(status=500, body=b"{}"), False),
        (Reply(closes=True), True),
        (Reply(hangs=True), True),
    ],
    ids=["500", "500, relayed", "closes", "hangs"],
)
def test_whatever_fails_goes_to_the_reference(home: Path, reply: Reply, reads_answer: bool) -> None:
    # What the reference is expected to need is kept back for it: 1.2 s less 0.2 s are the smaller model's.
    adopt(home, route(reads_answer=reads_answer, further_s=0.2))
    with routed(home, [reply], routing={"deadline_s": 1.2}) as (place, _):
        _, headers, data = ask(place)
        assert content(data) == "from big"
        assert headers["x-pilotfish-reason"] == "smaller-failed"
        if reads_answer:
            # Nothing was heard that could have been kept.
            said = headers["x-pilotfish-route"].split("; ")
            assert said[0] == "why=unknown"
            assert [one.startswith("small was given up after ") for one in said[1:]] == [True] * reply.hangs


def test_a_server_that_refuses_logprobs_is_asked_without_and_the_reference_answers(home: Path) -> None:
    adopt(home)

    def script(asked: Asked) -> Reply:
        return Reply(status=400, body=b"{}") if "logprobs" in asked.json else SURE

    with routed(home, script) as (place, server):
        assert [content(ask(place)[2]) for _ in range(2)] == ["from big", "from big"]
        assert ["logprobs" in asked.json for asked in server.asked] == [True, False, False]
        assert {json.loads(row.route)["why"] for row in place.rows(2)} == {"unknown"}


def test_an_answer_that_a_signal_breaks_on_costs_no_reply(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adopt(home)
    broken = dataclasses.replace(BY_NAME["least logprob"], read=lambda _, tried: float(str(tried.text)))
    monkeypatch.setitem(BY_NAME, "least logprob", broken)
    with routed(home, [SURE]) as (place, _):
        _, headers, data = ask(place)
        assert (headers["x-pilotfish-reason"], content(data)) == ("asked-further", "from big")
        assert "why=unknown" in headers["x-pilotfish-route"]


def test_a_cascade_that_would_be_late_is_not_begun(home: Path) -> None:
    adopt(home, route(further_s=2.0))
    with routed(home, [SURE], routing={"deadline_s": 2.5}) as (place, server):
        _, headers, _ = ask(place)
        assert (headers["x-pilotfish-reason"], server.asked) == ("asked-at-once", [])
        assert "why=deadline" in headers["x-pilotfish-route"]


@pytest.mark.parametrize("stream", [False, True])
def test_three_models_are_asked_one_after_the_other_and_one_answers(home: Path, stream: bool) -> None:
    found = route(further_s=0.1, prefix=4)
    middle = dataclasses.replace(found.steps[0], model="judge")
    adopt(home, dataclasses.replace(found, steps=(found.steps[0], middle)))
    doubts = {"small": [2.0, 2.0, 0.1], "judge": [0.1, 2.0]}

    def script(asked: Asked) -> Reply:
        name = asked.json["model"]
        return Reply(text=f"from {name}", logprob=-doubts[name].pop(0))

    routing: dict[str, object] = {"models": ("small", "judge")}
    with routed(home, script, routing=routing) as (place, server):
        said = [content(ask(place, stream=stream)[2]) for _ in range(3)]
        assert said == ["from judge", "from big", "from small"]
        assert [asked.json["model"] for asked in server.asked] == ["small", "judge", "small", "judge", "small"]
        rows = place.rows(3)
        assert [row.reason for row in rows] == ["kept", "asked-further", "kept"]
        # Of a stream that was cancelled the cost is not known.
        assert [row.tried_usd for row in rows] == [None if stream else SMALL_USD, None if stream else 2 * SMALL_USD, 0]


@pytest.mark.parametrize("prefix", [0, 4])
def test_what_was_measured_lately_goes_before_what_the_outcomes_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, prefix: int
) -> None:
    monkeypatch.setattr(latency, "FEWEST", 2)
    adopt(home, route(own_s=0.05, further_s=0.05, prefix=prefix))
    # Each could make the deadline alone. Of a stream the beginning alone is waited for, and that is fast.
    slow = Reply(text="from small", logprob=-2.0, delay_s=0.0 if prefix else 0.2, pace_s=0.02)
    expected = ["asked-further", "asked-further", "asked-further" if prefix else "asked-at-once"]
    for _ in range(5):  # other work on the machine may make an answer late
        with routed(home, [slow], [Reply(text="from big", delay_s=0.25)], routing={"deadline_s": 0.42}) as (place, _):
            said = [ask(place, stream=bool(prefix))[1]["x-pilotfish-reason"] for _ in range(3)]
        if said == expected:
            break
    assert said == expected


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_stays_with_the_model_that_began_it_or_goes_to_the_reference(home: Path, stream: bool) -> None:
    adopt(home)
    fails = False

    def script(asked: Asked) -> Reply:
        return Reply(status=500, body=b"{}") if fails else SURE if len(asked.json["messages"]) == 1 else UNSURE

    with routed(home, script) as (place, server):
        first = content(ask(place, stream=stream)[2])
        rows = [*HI, {"role": "assistant", "content": first}, {"role": "user", "content": "go on"}]
        _, headers, data = ask(place, rows, stream=stream)
        assert (headers["x-pilotfish-reason"], content(data)) == ("same-model", "from small")
        assert "logprobs" not in server.asked[1].json
        rows += [{"role": "assistant", "content": content(data)}, {"role": "user", "content": "and on"}]
        fails = True
        _, headers, data = ask(place, rows, stream=stream)
        assert (headers["x-pilotfish-reason"], content(data)) == ("smaller-failed", "from big")
        kept, same, failed = place.rows(3)
        assert [row.certificate_id != "" for row in (kept, same, failed)] == [True, False, False]
        assert (same.reference_answer, failed.reference_answer) == (None, "from big")


@pytest.mark.parametrize("stream", [False, True])
def test_a_step_that_reads_no_answer_is_relayed_as_it_comes(home: Path, stream: bool) -> None:
    adopt(home, route(reads_answer=False))
    with routed(home, [Reply(text="from small", pace_s=0.001)]) as (place, server):
        _, headers, data = ask(place, stream=stream)
        assert (headers["x-pilotfish-reason"], content(data)) == ("kept", "from small")
        assert "logprobs" not in server.asked[0].json
        assert place.rows(1)[0].reference_answer is None


@pytest.mark.parametrize("stream", [False, True])
def test_the_smaller_model_sees_what_may_leave_and_nothing_else(home: Path, stream: bool) -> None:
    adopt(home)
    rows = [{"role": "user", "content": "Write to jane@example.com"}]

    def echo(asked: Asked) -> Reply:
        return Reply(text=asked.json["messages"][0]["content"], logprob=-0.1)

    with routed(home, echo, privacy={"mode": "mask"}) as (place, server):
        _, headers, data = ask(place, rows, stream=stream)
        assert (headers["x-pilotfish-reason"], content(data)) == ("kept", "Write to jane@example.com")
        assert b"jane" not in server.asked[0].body
        assert "jane" not in str(place.rows(1)[0])


def test_what_must_stay_here_is_sent_to_no_smaller_model(home: Path) -> None:
    adopt(home)
    with routed(home, [SURE], privacy={"mode": "local"}) as (place, server):
        assert ask(place, [{"role": "user", "content": "Write to jane@example.com"}])[0] == 451
        assert server.asked == []
        assert ask(place)[1]["x-pilotfish-reason"] == "kept"


def test_a_client_that_leaves_ends_the_smaller_models_work(home: Path) -> None:
    adopt(home)
    with routed(home, [Reply(hangs=True)]) as (place, server):
        connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": "auto", "messages": HI}))
        server.wait_for_request()
        connection.close()
        server.wait_for_hang_up()
        assert (place.rows(1)[0].status, place.server.asked) == (499, [])


def test_a_key_that_may_not_use_the_smaller_model_or_not_pay_for_it_gets_the_reference(home: Path) -> None:
    adopt(home)
    only_big = make_key(home, "only-big", models=("big",))
    free = make_key(home, "free")
    with routed(home, [SURE]) as (place, server):
        assert content(ask(place, key=only_big)[2]) == "from big"
        assert server.asked == []
        assert content(ask(place, key=free)[2]) == "from small"


def test_audits_hear_both_and_withdraw_a_route_that_loses(home: Path) -> None:
    certificate = adopt(home)
    routing: dict[str, object] = {"audit_rate": 1.0, "judge": "judge"}

    def script(asked: Asked) -> Reply:
        if asked.json["model"] == "small":
            return SURE
        text = asked.json["messages"][0]["content"]
        return Reply(text="Verdict: 2" if text.index("from small") < text.index("from big") else "Verdict: 1")

    with routed(home, script, routing=routing) as (place, _):
        ask(place)
        deadline = time.monotonic() + 120
        n = 1
        while status(place)["route"] is not None:
            assert time.monotonic() < deadline
            if status(place)["audits"] is not None:
                ask(place)
                n += 1
            time.sleep(0.005)
        assert status(place)["why_none"] == "the route was withdrawn"
        page = get(place.port, "/overview").data.decode()
        assert "Open requests go to the large model: the route was withdrawn. Withdrawn after" in page
        assert n > 3
        _, headers, data = ask(place)
        assert (headers["x-pilotfish-model"], content(data)) == ("big", "from big")
        row = place.rows(n + 1)[0]
        assert (row.reason, row.sampling, row.probability, row.reference_answer) == ("kept", "audit", 1.0, "from big")
    routes = open_routes(home)
    newest = routes.newest()
    routes.close()
    assert newest is not None
    assert newest.certificate.id == certificate.id
    assert newest.withdrawn_s is not None


def test_a_route_that_is_as_good_is_not_withdrawn_and_what_goes_on_counts_as_no_loss(home: Path) -> None:
    adopt(home)
    routing: dict[str, object] = {"audit_rate": 1.0, "judge": "judge"}

    def script(asked: Asked) -> Reply:
        return Reply(text="Verdict: tie") if asked.json["model"] == "judge" else UNSURE

    with routed(home, script, routing=routing) as (place, server):
        for _ in range(8):
            ask(place)
        deadline = time.monotonic() + 120
        while "8 audited rows lost 0 points" not in (status(place)["audits"] or ""):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert status(place)["route"] is not None
        assert {asked.json["model"] for asked in server.asked} == {"small"}
