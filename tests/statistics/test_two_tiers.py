"""Two tiers under one certificate, on simulated deployments whose true risk is known in closed form.

The mixture's answer to a request with hidden u differs with probability 0.002 + 0.6 (1 - u)^3, the first tier's to one
with hidden v with 0.004 + 0.9 (1 - v)^3; u and v are uniform and independent. Everything but the last threshold is
designed on other rows, as the product does.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from pilotfish.core.certificate import FULL_TIER_NEVER, Claim
from pilotfish.guarantees.certify import Evidence, design
from pilotfish.guarantees.prove import choose
from pilotfish.guarantees.tiers import Rows, joint
from pilotfish.routing.policy import Gates
from pilotfish.stats import sequence

DELTA = 0.05


def _draw(rng, n, steps=None, flat=None):
    def tier(floor, slope):
        hidden = rng.random(n)
        chance = floor + slope * (1 - hidden) ** 3 if flat is None else flat
        scores = hidden if steps is None else np.floor(hidden * steps) / steps
        return Rows((rng.random(n) < chance).astype(float).tolist(), scores.tolist(), [1.0] * n)

    return tier(0.002, 0.6), tier(0.004, 0.9)


def _risk(first, full, per):
    a, b = 1 - first, max(0.0, 1 - full)
    errors = a * (0.004 + 0.225 * a**3) + (1 - a) * b * (0.002 + 0.15 * b**3)
    return errors / (a + (1 - a) * b if per == "answer" else 1.0)


def _most(runs):
    """No more than this many breaks, but for one test in ten thousand."""
    return binom.ppf(0.9999, runs, DELTA)


@pytest.mark.parametrize("per", ["answer", "traffic"])
@pytest.mark.parametrize("steps", [None, 20], ids=["continuous", "ties"])
@pytest.mark.parametrize(("n", "max_risk"), [(300, 0.1), (1000, 0.05)])
def test_the_promise_about_both_tiers_is_kept(per, steps, n, max_risk):
    rng, runs = np.random.default_rng(n), 200
    claim = Claim(max_risk=max_risk, per=per)
    full, first = _draw(rng, 3 * n, steps)
    alone = Evidence(fold_losses=first.losses, fold_certainty=first.certainty, fold_scope=first.scope)
    fold = Evidence(fold_losses=full.losses, fold_certainty=full.certainty, fold_scope=full.scope, first=alone)
    planned = design(fold, claim, n, DELTA)
    assert planned.first is not None
    broken = naive_broken = issued = 0
    for _ in range(runs):
        rows = planned.curve(*_draw(rng, n, steps))
        choice = choose(rows, None, planned.order, claim, DELTA)
        naive = sequence.naive(rows, max_risk, per_traffic=per == "traffic")
        gate, limit = planned.first.min_certainty, max_risk * (1 + 1e-9)
        naive_broken += _risk(gate, naive.threshold, per) > limit
        if choice:
            issued += 1
            broken += _risk(gate, choice.threshold, per) > limit
    assert broken <= _most(runs)
    assert issued >= 0.8 * runs
    if steps is None and (per, max_risk) == ("answer", 0.05):
        assert 0.3 * runs <= naive_broken <= 0.75 * runs


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_tiers_that_are_both_just_too_bad_are_certified_at_most_delta_often(per):
    """Whatever the gates: here they were chosen as badly as can be, and everything would be served."""
    rng, runs, certified = np.random.default_rng(7), 600, 0
    order = [FULL_TIER_NEVER, 0.75, 0.5, 0.25, 0.0]
    for _ in range(runs):
        full, first = _draw(rng, 400, flat=0.0501)
        rows = joint(full, 0.0, first, Gates(min_certainty=0.4, min_scope=0.0))
        choice = choose(rows, None, order, Claim(max_risk=0.05, per=per), DELTA)
        certified += choice is not None and (per == "answer" or choice.n_served == 400)
    assert certified <= _most(runs)
    assert certified >= 0.005 * runs, "the test is not merely timid"
