"""At most so many dollars a day under a route: held before, settled after, and the promise told apart from the rest."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilotfish.config.settings import RoutingSettings
from pilotfish.gateway import routed_budget
from pilotfish.gateway.routed_budget import DAY_S, RoutedBudget
from pilotfish.routing.budget import FEWEST_SEEN, Seen
from pilotfish.store.build import open_log, open_route_tally, open_writer
from tools.command_line import CommandLine
from tools.gateway import Place
from tools.log_rows import request_row
from tools.routed import BIG, SMALL_USD, SURE, UNSURE, ask, content, routed, status
from tools.routes import adopt, route
from tools.upstream import Asked, Reply

SHORT = {"max_tokens": 10}
BIG_USD = 10 * SMALL_USD


def get(place: Place, path: str) -> str:
    connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_certified_is_promised_and_what_the_budget_keeps_is_not(home: Path, stream: bool) -> None:
    adopt(home)
    # Room for one call of each model: a body of some 90 bytes and ten tokens are held, and less is used.
    routing: dict[str, object] = {"usd_per_day": 7e-4}
    with routed(home, [UNSURE], routing=routing) as (place, _):
        answers = [ask(place, stream=stream, **SHORT) for _ in range(3)]
        assert [content(data) for _, _, data in answers] == ["from big", "from small", "from small"]
        assert [headers["x-pilotfish-reason"] for _, headers, _ in answers] == ["asked-further", "budget", "budget"]
        assert "x-pilotfish-certificate" not in answers[1][1]
        assert "why=budget" in answers[1][1]["x-pilotfish-route"]
        rows = place.rows(3)
        assert [(row.certificate_id != "", row.sampling) for row in rows] == [
            (True, "none"),
            (False, "none"),
            (False, "none"),
        ]
        said = status(place)["budget"]
        assert (said["usd_per_day"], said["answers_without_promise"]) == (7e-4, 2)
        assert BIG_USD <= said["spent_usd_today"] <= 7e-4 + SMALL_USD
        text = get(place, "/metrics")
        assert 'pilotfish_routed_budget_usd{part="limit"} 0.0007' in text
        assert 'reason="budget"' in text
        if not stream:
            page = get(place, "/overview")
            assert "2 answers since the start were kept by the budget alone" in page
            assert "the large model answers everything" not in page
            assert "decided on by the route small &gt; big, which loses at most 5 points" in page
            page = get(place, f"/requests/{rows[1].request_id}")
            assert "nothing larger could be paid for today; need 2" in page
    # Another process goes on where this one ended.
    with routed(home, [SURE], routing=routing) as (place, _):
        assert status(place)["budget"]["spent_usd_today"] == pytest.approx(said["spent_usd_today"])


def test_the_overview_says_why_no_route_decides(home: Path) -> None:
    with routed(home, [SURE]) as (place, _):
        assert "Open requests go to the large model: no route was adopted." in get(place, "/overview")


@pytest.mark.parametrize("when_spent", ["small", "refuse"])
def test_once_all_is_spent_the_user_has_said_what_happens(home: Path, when_spent: str, capsys: Any) -> None:
    adopt(home)
    with routed(home, [SURE], routing={"usd_per_day": 0.0, "when_spent": when_spent}) as (place, server):
        code, headers, data = ask(place, stream=True)
        assert headers["x-pilotfish-reason"] == "budget"
        assert place.server.asked == []
        if when_spent == "refuse":
            assert (code, json.loads(data)["error"]["param"], server.asked) == (402, "usd_per_day", [])
            assert 0 < int(headers["retry-after"]) <= DAY_S
        else:
            # Nothing is left to decide, so nothing is held back or asked for.
            assert (code, content(data), "logprobs" in server.asked[0].json) == (200, "from small", False)
        row = place.rows(1)[0]
    out = CommandLine(capsys)("explain", row.request_id, "--home", home).out
    assert "budget" in out


def test_a_small_model_that_fails_is_not_replaced_by_what_cannot_be_paid(home: Path) -> None:
    adopt(home)
    with routed(home, [Reply(status=500, body=b"{}")], routing={"usd_per_day": 1e-4}) as (place, _):
        code, headers, _ = ask(place, **SHORT)
        assert (code, headers["x-pilotfish-reason"], place.server.asked) == (402, "smaller-failed", [])
        # What nobody has used is given back.
        assert status(place)["budget"]["spent_usd_today"] == 0.0


def test_finding_out_is_counted_and_an_audit_is_decided_as_certified(home: Path) -> None:
    adopt(home)

    def script(asked: Asked) -> Reply:
        return Reply(text="Verdict: tie") if asked.json["model"] == "judge" else SURE

    routing: dict[str, object] = {"usd_per_day": 1.0, "audit_rate": 1.0, "judge": "judge"}
    with routed(home, script, [BIG], routing=routing) as (place, _):
        assert ask(place, **SHORT)[1]["x-pilotfish-reason"] == "kept"
        # The smaller model, the large one for the audit, and the judge in both orders.
        expected = SMALL_USD + BIG_USD + 2 * SMALL_USD
        deadline = time.monotonic() + 120
        while status(place)["budget"]["spent_usd_today"] < expected - 1e-12:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert status(place)["budget"]["spent_usd_today"] == pytest.approx(expected)


def test_as_the_money_runs_short_the_threshold_rises_for_those_that_are_not_audited(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routed_budget, "PLAN_EVERY_S", 0.2)
    # Half of the day is left: shortly before midnight no money would run short.
    until_noon_s = (time.time() // DAY_S + 0.5) * DAY_S - time.time()
    clock = SimpleNamespace(time=lambda: time.time() + until_noon_s, monotonic=time.monotonic)
    monkeypatch.setattr(routed_budget, "time", clock)
    adopt(home)
    doubts = iter([0.1, 2.0] * 10 + [1.9, 2.1] * 4)

    def script(_: Asked) -> Reply:
        return Reply(text="from small", logprob=-next(doubts))

    # Twenty requests are seen first; then a day of such requests would cost more than is left.
    with routed(home, script, routing={"usd_per_day": 0.02}) as (place, _):
        for _ in range(FEWEST_SEEN):
            ask(place, **SHORT)
        time.sleep(0.25)
        said = [ask(place, **SHORT)[1] for _ in range(2)]
        assert status(place)["budget"]["is_raised"]
        assert said[0]["x-pilotfish-reason"] == "budget"
        assert "by the day's budget" in said[0]["x-pilotfish-route"]
        rows = place.rows(FEWEST_SEEN + 2)
        assert json.loads(rows[-2].route)["raised"] > json.loads(rows[-2].route)["threshold"]


def budget(home: Path, now_s: float, *, yesterday: tuple[int, int], usd: float = 1.0) -> RoutedBudget:
    """One whose log has so many routed requests of yesterday, before this hour and after."""
    writer = open_writer(home)
    said = json.dumps({"expected": {"need": 0.4, "usd": 0.001, "further_usd": 0.01}})
    for n, offset_s in zip(yesterday, (-60.0, 60.0), strict=True):
        for i in range(n):
            writer.append(request_row(f"{offset_s}-{i}", time_s=now_s - DAY_S + offset_s, route=said))
    writer.close()
    settings = RoutingSettings(models=("small",), usd_per_day=usd)
    return RoutedBudget(settings, open_route_tally(home), price_of=lambda _: None, log=open_log(home))


def noon() -> float:
    return time.time() // DAY_S * DAY_S + DAY_S / 2


def test_the_rest_of_the_day_is_foretold_from_yesterday(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = noon()
    monkeypatch.setattr(time, "time", lambda: now_s)
    found = budget(home, now_s, yesterday=(50, 100))
    # Nothing has come today: it is taken to be half as busy as yesterday, at the least.
    assert found.expected(now_s) == 50.0
    assert found.threshold(0.3) == 0.3
    poor = budget(home, now_s, yesterday=(0, 0), usd=0.3)
    # 50 requests at $0.011 each do not fit: all have the same need, and so the same decision.
    assert poor.threshold(0.3) == 0.4


def test_without_a_yesterday_todays_pace_is_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = noon()
    monkeypatch.setattr(time, "time", lambda: now_s)
    found = budget(home, now_s, yesterday=(0, 0))
    assert found.expected(now_s) == 0.0
    for _ in range(6):
        found.note(Seen(need=1.0, usd=0.0, further_usd=0.0))
        found.visit(None)  # type: ignore[arg-type]
    assert found.expected(now_s) == pytest.approx(6 / 600 * DAY_S / 2)


def test_what_a_request_needed_stands_in_its_row_for_the_next_process(home: Path) -> None:
    adopt(home, route())
    with routed(home, [SURE], routing={"usd_per_day": 1.0}) as (place, _):
        ask(place)
        assert json.loads(place.rows(1)[0].route)["expected"]["need"] == pytest.approx(0.1)
