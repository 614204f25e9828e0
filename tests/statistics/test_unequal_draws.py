"""Certificates from rows whose chance to be drawn depends on how risky they are, against a known truth.

A request has a hidden u, uniform in [0, 1]; its answer differs with probability 0.002 + 0.6 (1 - u)^3. Requests that
look sure (u above 0.6) are drawn with probability 0.9, the others with 0.1, so that plain counts show too little risk.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from pilotfish.stats import sequence, weighted

DELTA = 0.05
RUNS = 25
ORDER = [round(0.6 - step / 20, 2) for step in range(13)]


def _risk(t, per_traffic):
    among_served = 0.002 + 0.15 * (1 - t) ** 3
    return among_served * (1 - t) if per_traffic else among_served


def _draw(rng, n):
    u = rng.random(n)
    chance = np.where(u > 0.6, 0.9, 0.1)
    is_drawn = rng.random(n) < chance
    u, chance = u[is_drawn], chance[is_drawn]
    losses = (rng.random(len(u)) < 0.002 + 0.6 * (1 - u) ** 3).astype(float)
    return u.tolist(), losses.tolist(), chance.tolist()


@pytest.mark.parametrize("per_traffic", [False, True])
def test_promises_over_all_traffic_are_kept_where_plain_counts_break_them(per_traffic):
    rng = np.random.default_rng(5)
    broken = plain = certified = 0
    max_risk = 0.03 if per_traffic else 0.05
    for _ in range(RUNS):
        u, losses, chances = _draw(rng, 3000)
        rows = weighted.Drawn(u, losses, weighted.weights(chances))
        choice = weighted.choose(rows, ORDER, max_risk, DELTA, per_traffic=per_traffic)
        if choice:
            certified += 1
            broken += _risk(choice.threshold, per_traffic) > max_risk
        counted = sequence.curve(u, losses)
        choose = sequence.per_traffic if per_traffic else lambda c, r, d: sequence.per_answer(c, ORDER, r, d)
        choice = choose(counted, max_risk, DELTA)
        plain += choice is not None and _risk(choice.threshold, per_traffic) > max_risk
    assert certified > 0.9 * RUNS, certified
    assert broken <= binom.ppf(0.9999, RUNS, DELTA)
    assert plain > 0.5 * RUNS, plain
