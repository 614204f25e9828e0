"""What the overview says of the smaller models that answer under a route: what is summed up, and what is not known."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tools.forms import get
from tools.gateway import Place
from tools.routed import SMALL_USD, SURE, ask, content, routed
from tools.routes import adopt, route
from tools.upstream import Asked, Reply

AUDITED: dict[str, object] = {"audit_rate": 1.0, "judge": "judge"}


def tie(asked: Asked) -> Reply:
    return Reply(text="Verdict: tie") if asked.json["model"] == "judge" else SURE


def told(place: Place, n: int) -> list[dict[str, Any]]:
    """The table's data, once the log has `n` requests; nothing where there is no such table."""
    place.rows(n)
    found = get(place.port, "/overview/routed.json")
    return json.loads(found.data) if found.status == 200 else []


def test_kept_answers_stand_beside_what_the_large_model_costs_for_the_same_requests(home: Path) -> None:
    adopt(home)
    with routed(home, tie, routing=AUDITED) as (place, _):
        for _ in range(3):
            assert content(ask(place)[2]) == "from small"
        # Named by the client: no route decided, which the sums cannot tell apart, but it is never audited.
        assert content(ask(place, model="small")[2]) == "from small"
        deadline = time.monotonic() + 120
        while len(found := told(place, 4)) < 2 or found[1]["audited"] < 3:
            assert time.monotonic() < deadline, found
            time.sleep(0.01)
        small, large = found
        assert (small["model"], small["answered"], small["audited"]) == ("small", 4, 3)
        assert small["cost_usd"] == pytest.approx(4 * SMALL_USD)
        assert small["usd_each_audited"] == pytest.approx(SMALL_USD)
        assert (large["model"], large["answered"]) == ("(the large model, for audits)", None)
        assert large["cost_usd"] == pytest.approx(30 * SMALL_USD)
        assert large["usd_each_audited"] == pytest.approx(10 * SMALL_USD)
        page = get(place.port, "/").data.decode()
        assert "<h2>Smaller models</h2>" in page
        # Answers that were not given are in no sum, so no net figure may be claimed.
        assert "Net saving: unknown." in page
        year = get(place.port, "/?days=365").data.decode()
        assert "/overview/routed.csv?days=365" in year


def test_without_audits_and_usage_what_is_unknown_stays_unknown(home: Path) -> None:
    adopt(home, route(reads_answer=False))
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "from small"}}]}).encode()
    with routed(home, [Reply(body=body)]) as (place, _):
        ask(place)
        (small,) = told(place, 1)
        assert (small["answered"], small["cost_usd"], small["calls_of_unknown_cost"]) == (1, None, 1)
        assert (small["audited"], small["usd_each_audited"]) == (0, None)


def test_nothing_is_said_where_no_route_decides(home: Path) -> None:
    with routed(home, [SURE]) as (place, _):
        assert content(ask(place, model="small")[2]) == "from small"
        assert told(place, 1) == []
        assert "Smaller models" not in get(place.port, "/").data.decode()


def test_nothing_is_said_where_the_route_kept_nothing(home: Path) -> None:
    adopt(home)
    with routed(home, [Reply(text="from small", logprob=-2.0)]) as (place, _):
        assert content(ask(place)[2]) == "from big"
        assert told(place, 1) == []
        assert "Net saving" not in get(place.port, "/").data.decode()
