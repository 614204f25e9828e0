"""What the overview says of requests under a route: what was spent, and what that saved, net; or what is not known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.log_row import GradeRow
from pilotfish.store.build import open_log
from tools.forms import get
from tools.gateway import Place
from tools.routed import HI, SMALL_USD, SURE, ask, content, routed, tried_rows
from tools.routes import adopt, route
from tools.upstream import Asked, Reply

AUDITED: dict[str, object] = {"audit_rate": 1.0, "judge": "judge"}
BIG_USD = 10 * SMALL_USD
"""What the same tokens cost at the large model."""

NET = (
    "netUsd lowUsd highUsd atMostUsd whyNone nKept nAudited wouldUsd keptUsd triedUsd findingOutUsd nUnpriced "
    "nLeftOut leftOutUsd nFailed"
)


def tie(asked: Asked) -> Reply:
    return Reply(text="Verdict: tie") if asked.json["model"] == "judge" else SURE


def by_prompt(asked: Asked) -> Reply:
    """Sure of what greets, unsure of the rest."""
    if asked.json["model"] == "judge":
        return Reply(text="Verdict: tie")
    return SURE if asked.json["messages"] == HI else Reply(text="from small", logprob=-2.0)


def told(place: Place) -> dict[str, dict[str, Any]]:
    """The table's data by kind; nothing where there is no such table."""
    found = get(place.port, "/overview/routed.json")
    return {row["kind"]: row for row in json.loads(found.data)} if found.status == 200 else {}


def once(place: Place, holds: Callable[[dict[str, dict[str, Any]]], object]) -> dict[str, dict[str, Any]]:
    """The same once something holds of it."""
    deadline = time.monotonic() + 120
    while not holds(found := told(place)):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def asked_of_graphql(place: Place, fields: str = NET) -> dict[str, Any]:
    with closing(HTTPConnection("127.0.0.1", place.port, timeout=120)) as connection:
        body = json.dumps({"query": f"{{ routed {{ {fields} }} }}"})
        connection.request("POST", "/graphql", body, {"content-type": "application/json"})
        found: dict[str, Any] = json.loads(connection.getresponse().read())["data"]["routed"]
        return found


def page(place: Place) -> str:
    return get(place.port, "/").data.decode()


def judged(place: Place, n: int) -> list[GradeRow]:
    """The grades, once there are `n`: an audit's last calls."""
    deadline = time.monotonic() + 120
    while len(found := open_log(place.home).grades()) < n:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def test_the_net_saving_is_what_was_not_paid_less_all_that_was(home: Path) -> None:
    adopt(home)
    with routed(home, by_prompt, routing=AUDITED) as (place, _):
        for _ in range(3):
            assert content(ask(place)[2]) == "from small"
        assert content(ask(place, [{"role": "user", "content": "why?"}])[2]) == "from big"
        # Named by the client: no route decided.
        assert content(ask(place, model="small")[2]) == "from small"
        place.rows(5)
        tried_rows(place, 4)
        judge_usd = sum(row.cost_usd or 0.0 for row in judged(place, 3))
        found = once(place, lambda kinds: len(kinds) == 5 and kinds["pair"]["calls"] == 4)
        calls = {kind: (row["model"], row["calls"], row["failed"]) for kind, row in found.items()}
        assert calls == {
            "kept": ("small", 3, 0), "asked-further": ("big", 1, 0), "audit": (None, 3, 0),
            "pair": ("small", 4, 0), "judge": (None, 3, 0),
        }  # fmt: skip
        usd = {kind: row["cost_usd"] for kind, row in found.items()}
        # What a request has heard already is looked at again for its audit, and paid once.
        assert usd == pytest.approx(
            {"kept": 3 * SMALL_USD, "asked-further": BIG_USD, "audit": 3 * BIG_USD, "pair": 0.0, "judge": judge_usd}
        )
        assert found["kept"]["tried_usd"] == 0.0
        assert found["asked-further"]["tried_usd"] == pytest.approx(SMALL_USD)

        net = asked_of_graphql(place)
        assert (net["nKept"], net["nAudited"], net["nUnpriced"], net["nLeftOut"], net["nFailed"]) == (3, 3, 0, 0, 0)
        assert net["wouldUsd"] == pytest.approx(3 * BIG_USD)
        assert net["triedUsd"] == pytest.approx(SMALL_USD)
        assert net["findingOutUsd"] == pytest.approx(3 * BIG_USD + judge_usd)
        # All of them were audited, so nothing was saved: what was paid beside is lost.
        assert net["netUsd"] == net["atMostUsd"] == pytest.approx(-(3 + 1) * SMALL_USD - judge_usd)
        assert (net["whyNone"], net["lowUsd"]) == (None, None)
        text = page(place)
        assert "Net saving: -$0.0" in text
        assert "estimated from those that were audited (3)" in text
        # Specialists answered nothing; what routes' audits cost is no cost of theirs.
        assert "nothing was answered locally" in text


def test_an_audit_pays_for_its_further_looks_and_not_for_the_answer_again(home: Path) -> None:
    adopt(home)
    with routed(home, tie, routing=AUDITED | {"samples": 2}) as (place, _):
        ask(place)
        (row,) = tried_rows(place, 1)
        assert row.cost_usd == pytest.approx(3 * SMALL_USD)
        assert row.paid_usd == pytest.approx(2 * SMALL_USD)
        found = once(place, lambda kinds: {"kept", "pair"} <= kinds.keys())
        assert found["kept"]["cost_usd"] == pytest.approx(SMALL_USD)
        assert found["pair"]["cost_usd"] == pytest.approx(2 * SMALL_USD)


def test_conversations_that_go_on_are_counted_and_left_out(home: Path) -> None:
    adopt(home)
    with routed(home, tie, routing=AUDITED) as (place, _):
        first = ask(place)[2]
        ask(place, [*HI, {"role": "assistant", "content": content(first)}, *HI])
        place.rows(2)
        judged(place, 1)
        found = once(place, lambda kinds: {"kept", "same-model", "audit", "pair", "judge"} <= kinds.keys())
        assert (found["same-model"]["calls"], found["audit"]["calls"]) == (1, 1)
        net = asked_of_graphql(place)
        assert (net["nKept"], net["nLeftOut"]) == (1, 1)
        assert net["leftOutUsd"] == net["keptUsd"] == pytest.approx(SMALL_USD)
        assert "alone (1, which cost $0.0" in page(place)


def test_without_an_audit_nobody_knows_what_was_saved(home: Path) -> None:
    adopt(home)
    with routed(home, [SURE]) as (place, _):
        ask(place)
        place.rows(1)
        net = asked_of_graphql(place)
        assert (net["netUsd"], net["atMostUsd"], net["wouldUsd"], net["nKept"]) == (None, None, None, 1)
        assert net["whyNone"] == "unknown: no kept answer was audited in this time"
        assert "Net saving: unknown: no kept answer was audited in this time." in page(place)


def test_costs_that_are_not_known_make_it_unknown_and_say_how_much_it_is_at_most(home: Path) -> None:
    adopt(home, route(reads_answer=False))
    row = json.dumps({"choices": [{"message": {"role": "assistant", "content": "from small"}}]}).encode()
    with routed(home, lambda asked: tie(asked) if asked.json["model"] == "judge" else Reply(body=row),
                routing=AUDITED) as (place, _):  # fmt: skip
        ask(place)
        place.rows(1)
        judged(place, 1)
        found = once(place, lambda kinds: {"kept", "audit", "pair", "judge"} <= kinds.keys())
        assert (found["kept"]["cost_usd"], found["kept"]["calls_of_unknown_cost"]) == (None, 1)
        # The answer that decided nothing is heard again for the next route, at a price that is not known either.
        assert (found["pair"]["cost_usd"], found["pair"]["calls_of_unknown_cost"]) == (None, 1)
        net = asked_of_graphql(place)
        assert (net["netUsd"], net["nUnpriced"]) == (None, 2)
        assert net["whyNone"] == "unknown: 2 costs are not known"
        assert net["atMostUsd"] == pytest.approx(-found["judge"]["cost_usd"])
        assert "Net saving: unknown: 2 costs are not known; at most -$0.0" in page(place)


def test_a_stream_that_was_cancelled_is_a_try_of_unknown_cost(home: Path) -> None:
    adopt(home, route(prefix=2))
    with routed(home, [Reply(text="from small", logprob=-2.0)]) as (place, _):
        assert content(ask(place, stream=True)[2]) == "from big"
        place.rows(1)
        (row,) = told(place).values()
        assert (row["kind"], row["tried_usd"], row["tries_of_unknown_cost"]) == ("asked-further", None, 1)
        net = asked_of_graphql(place)
        assert (net["netUsd"], net["atMostUsd"], net["nUnpriced"]) == (None, 0.0, 1)


def test_what_was_collected_and_failed_tries_are_told(home: Path) -> None:
    collect = {"margin": None, "collect": 1.0, "collect_usd_per_day": 1.0}
    with routed(home, [SURE], routing=collect) as (place, _):
        ask(place)
        tried_rows(place, 1)
        found = told(place)
        assert found.keys() == {"collect"}
        assert (found["collect"]["model"], found["collect"]["cost_usd"]) == ("small", pytest.approx(SMALL_USD))
    adopt(home)
    with routed(home, [Reply(status=500, body=b"{}")]) as (place, _):
        assert content(ask(place)[2]) == "from big"
        place.rows(2)
        net = asked_of_graphql(place)
        assert (net["nKept"], net["nFailed"]) == (0, 1)
        assert net["netUsd"] == pytest.approx(-SMALL_USD)
        assert "calls that failed (1) may have cost" in page(place)


def test_a_route_that_kept_nothing_has_cost_its_tries(home: Path) -> None:
    adopt(home)
    with routed(home, [Reply(text="from small", logprob=-2.0)]) as (place, _):
        assert content(ask(place)[2]) == "from big"
        place.rows(1)
        assert told(place).keys() == {"asked-further"}
        assert asked_of_graphql(place)["netUsd"] == pytest.approx(-SMALL_USD)
        assert "No answer was kept in this time." in page(place)
        assert "/overview/routed.csv?days=365" in get(place.port, "/?days=365").data.decode()
        sums = asked_of_graphql(place, "sums { kind model n usd triedUsd nTriedUnpriced }")["sums"]
        assert sums == [
            {"kind": "asked-further", "model": "big", "n": 1, "usd": pytest.approx(BIG_USD),
             "triedUsd": pytest.approx(SMALL_USD), "nTriedUnpriced": 0},
        ]  # fmt: skip


def test_nothing_is_said_where_no_route_decides(home: Path) -> None:
    with routed(home, [SURE]) as (place, _):
        assert content(ask(place, model="small")[2]) == "from small"
        place.rows(1)
        assert told(place) == {}
        assert "Smaller models" not in page(place)
        assert asked_of_graphql(place, "sums { kind }") == {"sums": []}
