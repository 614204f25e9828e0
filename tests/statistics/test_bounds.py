"""Bounds cover: over simulated samples the true value lies above an upper bound at most delta of the time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from pilotfish.stats import binomial, bounded, resampling

DELTA = 0.05


def _most(runs):
    return binom.ppf(0.9999, runs, DELTA)


@pytest.mark.parametrize(("n", "p"), [(30, 0.1), (150, 0.02), (1000, 0.05)])
def test_clopper_pearson_misses_at_most_delta_exactly(n, p):
    missed = sum(binom.pmf(k, n, p) for k in range(n + 1) if binomial.upper(k, n, DELTA) < p)
    assert missed <= DELTA
    mid = sum(binom.pmf(k, n, p) for k in range(n + 1) if binomial.mid_p_upper(k, n, DELTA) < p)
    assert missed <= mid <= 2 * DELTA


@pytest.mark.parametrize("shape", [(0.2, 3.8), (2, 38), (0.02, 0.38)])
def test_bounds_for_losses_between_zero_and_one(shape):
    rng = np.random.default_rng(0)
    runs, missed_bet, missed_hb, widths = 120, 0, 0, []
    for _ in range(runs):
        losses = rng.beta(*shape, 200).tolist()
        bet = bounded.betting_upper(losses, DELTA)
        hb = bounded.hoeffding_bentkus_upper(sum(losses) / 200, 200, DELTA)
        missed_bet += bet < 0.05
        missed_hb += hb < 0.05
        widths.append(hb - bet)
    assert missed_bet <= _most(runs)
    assert missed_hb <= _most(runs)
    assert shape != (2, 38) or np.mean(widths) > 0


def test_clustered_intervals_cover_where_plain_ones_do_not():
    rng = np.random.default_rng(2)
    runs, covered, plain = 300, 0, 0
    for _ in range(runs):
        values = np.repeat(rng.normal(size=60), 5)
        low, high = resampling.clustered_interval(values.tolist(), np.repeat(np.arange(60), 5).tolist())
        covered += low <= 0 <= high
        low, high = resampling.clustered_interval(values.tolist(), range(300))
        plain += low <= 0 <= high
    assert covered >= binom.ppf(0.0001, runs, 0.93)
    assert plain < 0.75 * runs
