"""The net saving of routes, by hand: what it subtracts, what it rests on, how sure it is, and when it is unknown."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from pilotfish.gateway.site.net_saving import FEWEST, net_saving
from pilotfish.gateway.site.routed import net
from pilotfish.store.periods import RouteSum


def calls(kind: str, n: int, usd: float, **fields: float) -> RouteSum:
    values = {"n_failed": 0, "n_unpriced": 0, "usd_squared": usd * usd / n, "tried_usd": 0.0, "n_tried_unpriced": 0}
    return RouteSum(kind=kind, model="m", n=n, usd=usd, **{**values, **fields})  # type: ignore[arg-type]


KEPT = calls("kept", 100, 1.0, tried_usd=0.25)
FURTHER = calls("asked-further", 50, 50.0, tried_usd=0.5)
AUDITS = calls("audit", 10, 5.0)
FOUND_OUT = [AUDITS, calls("pair", 10, 0.125), calls("collect", 20, 0.25), calls("judge", 10, 0.5)]
ALL = [KEPT, FURTHER, *FOUND_OUT]


def text(sums: list[RouteSum]) -> str:
    return "".join(str(part) for part in net(net_saving(sums)))


def test_everything_that_was_paid_is_taken_off() -> None:
    found = net_saving(ALL)
    assert (found.would.value, found.would.n, found.n_kept) == (50.0, 10, 100)
    assert (found.kept_usd, found.tried_usd, found.finding_out_usd) == (1.0, 0.75, 5.875)
    assert found.net.value == found.at_most_usd == 50.0 - 1.0 - 0.75 - 5.875
    assert "Net saving: $42.38." in text(ALL)


def test_requests_that_went_on_say_nothing_of_what_kept_ones_would_have_cost() -> None:
    dear = replace(FURTHER, usd=5000.0)
    assert net_saving([KEPT, dear, *FOUND_OUT]).net == net_saving(ALL).net


@pytest.mark.parametrize(
    ("change", "n"),
    [
        (replace(KEPT, n_unpriced=3), 3),
        (replace(FURTHER, n_tried_unpriced=2), 2),
        (calls("pair", 1, 0.0, n_unpriced=1), 1),
        (calls("judge", 1, 0.0, n_unpriced=1), 1),
    ],
)
def test_an_unknown_cost_leaves_a_bound(change: RouteSum, n: int) -> None:
    sums = [*(one for one in ALL if one.kind != change.kind), change]
    found = net_saving(sums)
    assert (found.net.value, found.n_unpriced) == (None, n)
    assert found.at_most_usd is not None
    assert found.at_most_usd >= 42.375
    said = "1 cost is" if n == 1 else f"{n} costs are"
    assert f"unknown: {said} not known; at most $" in text(sums)


def test_audits_of_unknown_cost_and_none_are_told_apart() -> None:
    unpriced = [KEPT, calls("audit", 10, 0.0, n_unpriced=10)]
    assert net_saving(unpriced).net.why_none == "unknown: audits have no known cost"
    assert net_saving([KEPT, calls("audit", 2, 0.0, n_failed=2)]).net.why_none.endswith("was audited in this time")
    assert net_saving(unpriced).at_most_usd is None
    # Of some audits the cost is known: what the large model would have cost then is, too, but not what they all cost.
    partly = net_saving([KEPT, calls("audit", 10, 2.5, n_unpriced=5)])
    assert (partly.would.value, partly.net.value, partly.at_most_usd) == (50.0, None, 50.0 - 1.25 - 2.5)


def test_what_no_audit_speaks_for_and_what_failed_is_left_out_and_told() -> None:
    more = [calls("same-model", 7, 3.0), calls("budget", 2, 1.0, n_failed=1), calls("smaller-failed", 4, 2.0)]
    found = net_saving([*ALL, *more])
    assert found.net == net_saving(ALL).net
    assert (found.n_left_out, found.left_out_usd, found.n_failed) == (8, 4.0, 4)


def test_who_left_while_a_route_decided_had_a_model_asked_whose_cost_nobody_knows() -> None:
    # The reason is the one from before; an audit's, and the large model's own failures, are no smaller model's.
    left = [calls("observing", 3, 0.0, n_failed=3), calls("asked-further", 2, 0.0, n_failed=2)]
    assert net_saving([*ALL, *left]).n_failed == 3


def test_nothing_kept_saves_nothing_and_costs_its_tries() -> None:
    assert net_saving([FURTHER]).net.value == -0.5
    assert net_saving([]).net.value == 0.0


def test_the_interval_covers_what_would_have_been_paid() -> None:
    """95 % of intervals, in 400 draws of 60 audits out of 300 skewed costs; four standard errors are allowed."""
    source = random.Random(1)
    costs = [source.lognormvariate(0, 0.5) for _ in range(300)]
    truth, hits = math.fsum(costs), 0
    for _ in range(400):
        drawn = source.sample(costs, 60)
        audits = calls("audit", 60, math.fsum(drawn), usd_squared=math.fsum(cost * cost for cost in drawn))
        would = net_saving([calls("kept", 300, 0.0), audits]).would
        assert would.low is not None
        assert would.high is not None
        hits += would.low <= truth <= would.high
    assert 0.90 < hits / 400 < 0.995


def test_few_audits_have_no_interval_and_all_of_them_no_uncertainty() -> None:
    few = calls("audit", FEWEST - 1, 9.0)
    assert net_saving([KEPT, few]).net.low is None
    every = net_saving([calls("kept", 40, 1.0), calls("audit", 40, 8.0, usd_squared=9.0)]).net
    assert every.low == every.high == every.value == -1.0
