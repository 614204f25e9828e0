"""From traffic to outcomes: what is collected, within which budget, what users say of it, and what a route is fed."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.log_row import GradeRow
from pilotfish.evals.outcomes import read_outcomes
from pilotfish.gateway import feedback
from pilotfish.gateway.pairs import DAY_S, DayBudget
from pilotfish.guarantees.route_file import RouteFile
from pilotfish.store.build import open_log, open_writer
from tools.certificates import refusal
from tools.command_line import CommandLine
from tools.gateway import Place
from tools.keyed import make_key
from tools.log_rows import tried_row
from tools.routed import HI, SMALL_USD, SURE, ask, routed, status, tried_rows
from tools.routes import adopt, promise, route, without_threshold
from tools.upstream import Asked, Reply

COLLECT: dict[str, object] = {"margin": None, "collect": 1.0, "collect_usd_per_day": 1.0}


def mark(place: Place, request_id: str, key: str = "", **fields: object) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    connection.request("POST", "/v1/feedback", json.dumps({"request_id": request_id, **fields}), headers)
    response = connection.getresponse()
    reply = response.status, json.loads(response.read())
    connection.close()
    return reply


def log_marks(home: Path, request_id: str, **scores: float) -> None:
    writer = open_writer(home)
    writer.append(GradeRow(request_id=request_id, source="feedback", time_s=time.time(), scores=json.dumps(scores)))
    writer.close()


@pytest.mark.parametrize("stream", [False, True])
def test_the_smaller_model_answers_too_unseen_with_what_signals_need(home: Path, stream: bool) -> None:
    with routed(home, [SURE], routing=COLLECT) as (place, _):
        _, headers, _ = ask(place, stream=stream)
        assert headers["x-pilotfish-model"] == "big"
        row = tried_rows(place, 1)[0]
        assert (row.request_id, row.model) == (headers["x-pilotfish-request-id"], "small")
        assert (row.purpose, row.probability, row.prompt) == ("collect", 1.0, "hi")
        said = json.loads(row.tried or "")
        assert (said["text"], said["tokens"][0], said["logprobs"][0], said["margins"][0]) == (
            "from small",
            "f",
            -0.1,
            1,
        )
        assert "score" not in said
        assert row.cost_usd == pytest.approx(SMALL_USD)
        collecting = status(place)["collecting"]
        assert collecting["spent_usd_today"] == pytest.approx(SMALL_USD)


def test_the_budget_of_a_day_holds_and_a_restart_does_not_forget_it(home: Path) -> None:
    # A call is set aside at what it may cost at most: a short prompt and an answer of 10 tokens.
    most_usd = 6e-5
    routing = COLLECT | {"collect_usd_per_day": most_usd}
    for n in (2, 3):
        with routed(home, [SURE], routing=routing) as (place, server):
            for _ in range(n):
                ask(place, max_tokens=10)
            place.rows(n if n == 2 else 5)
            assert status(place)["collecting"]["spent_usd_today"] <= most_usd
            assert len(server.asked) < n
    assert 1 <= len(open_log(home).tried()) <= 2


def test_a_day_begins_anew_and_what_is_not_known_stays_spent() -> None:
    budget = DayBudget(1.0, lambda since_s: 0.4 if since_s <= time.time() else 9.0)
    now_s = time.time()
    assert not budget.take(0.7, now_s)
    assert budget.take(0.6, now_s)
    budget.settle(tried_row(time_s=now_s, expected_usd=0.6, cost_usd=0.1))
    assert budget.take(0.5, now_s)
    budget.settle(tried_row(time_s=now_s, expected_usd=0.5, cost_usd=None))
    assert not budget.take(0.1, now_s)
    assert budget.spent_usd(now_s + DAY_S) == 0.0
    assert budget.take(1.0, now_s + DAY_S)


def test_a_call_that_ends_after_midnight_gives_the_new_day_nothing() -> None:
    budget = DayBudget(1.0, lambda _: 0.0)
    now_s = time.time()
    assert budget.take(0.6, now_s)
    assert budget.take(0.5, now_s + DAY_S)
    budget.settle(tried_row(time_s=now_s, expected_usd=0.6, cost_usd=0.1))
    assert budget.spent_usd(now_s + DAY_S) == 0.5
    assert not budget.take(0.6, now_s + DAY_S)


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"keep_text": False}, {}),
        ({}, {"model": "big"}),
        ({}, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ({}, {"rows": [*HI, {"role": "assistant", "content": "a"}, *HI]}),
    ],
    ids=["no texts", "named", "tools", "begun"],
)
def test_nothing_else_is_collected(home: Path, settings: Any, fields: Any) -> None:
    with routed(home, [SURE], routing=COLLECT, **settings) as (place, server):
        ask(place, **fields)
        place.rows(1)
        assert server.asked == []


def test_a_call_that_failed_is_written_down_and_is_no_outcome(home: Path) -> None:
    with routed(home, [Reply(status=500, body=b"{}")], routing=COLLECT) as (place, _):
        ask(place)
        row = tried_rows(place, 1)[0]
        assert (row.tried, row.cost_usd) == (None, None)
        assert row.error.startswith("model_")


def test_marks_are_joined_to_their_request_and_only_its_key_may_mark(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "LOOK_AGAIN_S", 0.01)
    own, other = make_key(home, "own"), make_key(home, "other")
    with routed(home, [SURE], routing={"margin": None}) as (place, _):
        request_id = ask(place, key=own)[1]["x-pilotfish-request-id"]
        place.rows(1)
        assert mark(place, request_id, key=other, score=0)[0] == 404
        assert mark(place, "pf-unknown", key=own, score=0)[0] == 404
        assert mark(place, request_id, score=0)[0] == 401
        for wrong in ({}, {"score": 2}, {"score": 1, "thumbs": "up"}, {"thumbs": "sideways"}, {"score": 1, "x": 1}):
            code, said = mark(place, request_id, key=own, **wrong)
            assert (code, said["error"]["code"]) == (400, "invalid_request"), wrong
        assert mark(place, request_id, key=own, thumbs="down")[0] == 200
        assert mark(place, request_id, key=own, score=0.75, comment="good")[0] == 200
    grades = open_log(home).grades(request_id)
    assert [(one.source, json.loads(one.scores), one.comment) for one in grades] == [
        ("feedback", {"big": 0.75}, "good")
    ]


def test_a_comment_is_no_exception_from_what_the_log_may_hold(home: Path) -> None:
    with routed(home, [SURE], routing={"margin": None}, keep_text=False) as (place, _):
        request_id = ask(place)[1]["x-pilotfish-request-id"]
        assert mark(place, request_id, score=1, comment="my secret")[0] == 200
    assert isinstance(open_log(home).grades()[0], GradeRow)
    assert open_log(home).grades()[0].comment is None


def test_pairs_become_outcomes_by_the_judge_or_a_scorer_and_what_that_cost_is_told(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(asked: Asked) -> Reply:
        if asked.json["model"] == "small":
            return SURE
        text = asked.json["messages"][0]["content"]
        return Reply(text="Verdict: 1" if text.index("from small") < text.index("from big") else "Verdict: tie")

    run, out = CommandLine(capsys), tmp_path / "outcomes.jsonl"
    with routed(home, script, routing=COLLECT | {"judge": "judge"}) as (place, server):
        for word in ("a", "b"):
            ask(place, [{"role": "user", "content": word}])
        tried_rows(place, 2)
        place.rows(2)
        config = tmp_path / "pilotfish.toml"
        url = server.url
        config.write_text(
            f'home = "{home}"\n[large]\nurl = "{url}"\nmodel = "big"\n[routing]\nmodels = ["small"]\n'
            f'judge = "judge"\n[models.small]\nurl = "{url}"\n[models.judge]\nurl = "{url}"\n'
            "input_usd_per_mtok = 1\noutput_usd_per_mtok = 2\n"
        )
        asked = ["route", "outcomes", "--config", config, "--out", out, "--json"]
        out.write_text("of yesterday")
        said = run(*asked[:-1])
        assert (said.code, out.read_text()) == (1, "of yesterday")
        assert said.out.startswith("Nothing written: none of 2 pairs is graded. Let the judge grade them: --judge.")
        said = run(*asked, "--judge").json
        assert (said["outcomes"], said["judged_usd"]) == (2, pytest.approx(4 * SMALL_USD))
        assert said["collected_usd"] == pytest.approx(2 * SMALL_USD)
        # What the log has graded is not asked again.
        n_asked = len(server.asked)
        assert run(*asked, "--judge").json["outcomes"] == 2
        assert len(server.asked) == n_asked
    first = read_outcomes([out])[0]
    assert (first.prompt, first.probability) == ("a", 1.0)
    assert {name: one.score for name, one in first.tried.items()} == {"small": 0.75, "big": 0.5}
    assert first.tried["small"].margins[0] == pytest.approx(1)
    assert first.tried["big"].cost_usd == pytest.approx(10 * SMALL_USD)
    assert first.tags == {"graded_by": "judge"}
    log_marks(home, first.request_id, big=1.0)
    said = run(*asked).json
    # What the user found right cannot be beaten, so the judge has not said the last word.
    assert (said["marked_by_users"], said["agreeing_with_users"], said["changed_by_users"]) == (0, 0, 1)
    assert read_outcomes([out])[0].tried["small"].score == 0.5
    assert read_outcomes([out])[0].tags == {"graded_by": "judge, within the marks of users"}
    assert run(*asked, "--ignore-marks").json["changed_by_users"] == 0
    few = run("route", "train", "--config", config, "--out", tmp_path / "route.json")
    assert "that is too few to learn" in few.err
    assert run(*asked, "--scorer", "exact").json["outcomes"] == 2
    assert read_outcomes([out])[0].tried["small"].score == 0.0


def test_only_a_certified_route_is_adopted_and_a_withdrawn_one_never_again(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = CommandLine(capsys), tmp_path / "route.json"
    found = route()
    RouteFile(route=found, verdict=refusal(message="Too few.")).save(file)
    refused = run("route", "adopt", file, "--home", home)
    assert (refused.code, "Too few." in refused.out) == (1, True)
    RouteFile(route=without_threshold(found), verdict=promise(found)).save(file)
    assert run("route", "adopt", file, "--home", home).code == 2
    RouteFile(route=found, verdict=promise(found)).save(file)
    (tmp_path / "p.toml").write_text(
        '[large]\nurl = "http://127.0.0.1:9/v1"\nmodel = "another"\n[models.small]\nurl = "http://127.0.0.1:9/v1"\n'
        '[routing]\nmodels = ["small"]\nmargin = 0.05\njudge = "small"\n'
    )
    said = run("route", "adopt", file, "--home", home, "--config", tmp_path / "p.toml").out
    assert "It decides nothing with these settings: the route's reference is 'big', not the large model." in said
    said = run("route", "adopt", file, "--home", home, "--json").json
    assert (said["route"], said["why_none"]) == (found.id, "no margin is stated in [routing]")
    with routed(home, [SURE]) as (place, _):
        assert ask(place)[1]["x-pilotfish-reason"] == "kept"
        assert run("route", "withdraw", "--yes", "--home", home).code == 0
        deadline = time.monotonic() + 120
        while ask(place)[1]["x-pilotfish-model"] != "big":
            assert time.monotonic() < deadline
    assert run("route", "withdraw", "--yes", "--home", home).code == 1
    again = run("route", "adopt", file, "--home", home)
    assert again.code != 0
    assert "void" in again.err
    with routed(home, [SURE]) as (place, _):
        adopt(home, route(further_s=0.5), attempt=2)
        deadline = time.monotonic() + 120
        while ask(place)[1]["x-pilotfish-model"] != "small":
            assert time.monotonic() < deadline
