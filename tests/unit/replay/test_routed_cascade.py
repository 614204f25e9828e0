"""A cascade beside every shorter one: each step must earn its place at equal cost."""

from __future__ import annotations

import math

import pytest

from pilotfish.replay.routed import cascade
from pilotfish.routing.replay import Trail

MODELS = ("tiny", "middle", "large")


def trail(needs: tuple[float, float], scores: tuple[float, float, float], usd: object = (1.0, 4.0, 10.0)) -> Trail:
    return Trail(needs=needs, scores=scores, usd=usd, reads=(True, True))  # type: ignore[arg-type]


ROWS = [
    trail((0.0, 0.0), (1.0, 1.0, 1.0)),
    trail((1.0, 0.0), (0.0, 1.0, 1.0)),
    trail((2.0, 2.0), (0.0, 0.0, 1.0)),
    trail((0.0, 0.0), (1.0, 1.0, 1.0)),
]


def test_the_whole_cascade_is_best_where_both_steps_know_when_they_fail() -> None:
    found = cascade(MODELS, ROWS)
    assert [one.models for one in found.sweeps] == [MODELS, ("tiny", "large"), ("middle", "large")]
    # One right for 1 dollar, one for 1 + 4, one for 1 + 4 + 10, one for 1.
    best = 22.0 / 4
    assert [one.at(best) for one in found.sweeps[:1]] == [1.0]
    assert all((one.at(best) or 0.0) < 1.0 for one in found.sweeps[1:])
    assert found.sweeps[0].shares(best) == (0.5, 0.25, 0.25)
    assert found.sweeps[0].shares(0.5) is None


def test_without_prices_a_cost_is_a_call_to_the_reference() -> None:
    found = cascade(MODELS, [trail(row.needs, row.scores, (None, 2.0, 10.0)) for row in ROWS])  # type: ignore[arg-type]
    assert found.unit == "share of calls to the reference"
    assert found.sweeps[0].at(0.25) == 1.0


def test_what_cannot_be_told_is_the_references() -> None:
    found = cascade(MODELS, [trail((math.inf, math.inf), (0.0, 0.0, 1.0)), *ROWS])
    assert found.sweeps[0].points[0].quality < 1.0
    assert max(shares[-1] for shares in found.sweeps[0].answered) == pytest.approx(1.0)
    assert min(shares[-1] for shares in found.sweeps[0].answered) == pytest.approx(0.2)
