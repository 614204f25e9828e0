"""The watch over scores: uniform ranks, false alarms while nothing changes, and requests until a change is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, kstest, spearmanr

from pilotfish.stats.conformal import Bets, Ranks

# How scores may look: finely graded, five steps only, and nearly all alike.
SCORES = {
    "continuous": lambda u: u,
    "discrete": lambda u: np.floor(5 * u) / 5,
    "skewed": lambda u: np.round(1 - (1 - u) ** 6, 3),
}


def _ranks(rng, n_before, n, score, changed=None):
    """Ranks of n scores after `n_before`; from `changed` on those that `changed` gives."""
    ranks = Ranks.cut(score(rng.random(600)).tolist()).add(score(rng.random(n_before)).tolist())
    fresh = score(rng.random(n) if changed is None else changed(rng, n))
    return [ranks.rank(s, chance) for s, chance in zip(fresh.tolist(), rng.random(n).tolist(), strict=True)]


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("n_before", [0, 30, 1000])
def test_ranks_are_uniform_and_independent_whatever_the_scores(name, n_before):
    rng = np.random.default_rng(n_before)
    found = np.concatenate([_ranks(rng, n_before, 300, SCORES[name]) for _ in range(30)])
    assert kstest(found, "uniform").pvalue > 1e-4
    assert abs(spearmanr(found[1:], found[:-1]).statistic) < 4 / np.sqrt(len(found))


@pytest.mark.parametrize("name", SCORES)
def test_false_alarms_stay_below_the_stated_share(name):
    """At a limit c no more than n / c of the runs of n unchanged requests may give an alarm, at any baseline."""
    rng, runs, n, limit = np.random.default_rng(5), 300, 300, 1000.0
    fired = 0
    for run in range(runs):
        bets = Bets.start(limit)
        fired += any(bets.update(rank) >= 1.0 for rank in _ranks(rng, (0, 50, 500)[run % 3], n, SCORES[name]))
    assert fired <= binom.ppf(0.9999, runs, n / limit)
    assert fired > 0, "a bound that is never reached would be too dear"


def _harder(share, below):
    return lambda rng, n: np.where(rng.random(n) < share, below * rng.random(n), rng.random(n))


# Measured medians plus a fifth, at the limit that the product uses for each statistic.
@pytest.mark.parametrize(
    ("changed", "median"),
    [(_harder(0.18, 0.15), 190), (_harder(0.1, 0.1), 345), (lambda rng, n: 1 - 0.5 * rng.random(n), 185)],
    ids=["coverage from 85 to 70 %", "10 % in the lowest tenth", "all in the upper half"],
)
def test_a_change_is_noticed(changed, median):
    rng, patience = np.random.default_rng(6), 600
    delays = []
    for _ in range(60):
        bets = Bets.start(100_000.0)
        ranks = _ranks(rng, 2000, patience, SCORES["continuous"], changed)
        delays.append(next((i for i, rank in enumerate(ranks, start=1) if bets.update(rank) >= 1.0), patience))
    assert np.median(delays) <= median
