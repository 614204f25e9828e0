from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.stats import binomial, bounded

LOSSES = st.lists(st.floats(0, 1), min_size=1, max_size=60)


def test_hoeffding_bentkus_is_the_smaller_of_its_two_formulas():
    n, mean, risk = 500, 0.01, 0.03
    h1 = mean * math.log(mean / risk) + (1 - mean) * math.log((1 - mean) / (1 - risk))
    expected = min(math.exp(-n * h1), math.e * binomial.cdf(5, n, risk))
    assert bounded.hoeffding_bentkus(mean, n, risk) == pytest.approx(expected, rel=1e-9)


@given(LOSSES, st.sampled_from([0.01, 0.05, 0.2]))
@settings(max_examples=60, deadline=None)
def test_bounds_lie_above_the_mean_and_agree_with_their_tests(losses, delta):
    mean, n = sum(losses) / len(losses), len(losses)
    high = bounded.hoeffding_bentkus_upper(mean, n, delta)
    assert mean <= high <= 1.0
    if high < 0.999:
        assert bounded.hoeffding_bentkus(mean, n, high + 1e-9) <= delta
    bet = bounded.betting_upper(losses, delta)
    assert 0.0 <= bet <= 1.0
    if 1e-6 < bet < 0.999:
        assert bounded.betting_p_value(losses, bet + 1e-9, delta) <= delta
        assert bounded.betting_p_value(losses, bet - 1e-6, delta) > delta


def test_exact_binomial_is_tighter_for_zero_one_losses():
    losses = [1.0] * 8 + [0.0] * 992
    random.Random(0).shuffle(losses)
    exact = binomial.upper(8, 1000, 0.05)
    assert exact < bounded.hoeffding_bentkus_upper(0.008, 1000, 0.05)
    assert exact < bounded.betting_upper(losses, 0.05)


def test_betting_uses_a_small_variance():
    losses = [0.5, 0.49, 0.51] * 200
    assert bounded.betting_upper(losses, 0.05) < 0.53
    assert bounded.hoeffding_bentkus_upper(0.5, 600, 0.05) > 0.53


def test_no_rows_prove_nothing():
    assert bounded.betting_upper([], 0.05) == 1.0
    assert bounded.hoeffding_bentkus_upper(0.0, 0, 0.05) == 1.0
