from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from pilotfish.stats import binomial

DELTAS = st.sampled_from([0.001, 0.025, 0.05, 0.2])
RISKS = st.sampled_from([0.005, 0.01, 0.02, 0.1, 0.5])


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(45, 50, 0.7864, 0.9565), (0, 50, 0.0, 0.0713), (190, 200, 0.9104, 0.9726)]
)
def test_wilson_vectors(k, n, low, high):
    assert binomial.wilson(k, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("k", "n", "p", "expected"), [(5, 20, 0.5, 0.04139), (6, 24, 0.5, 0.02266), (10, 34, 0.5, 0.02431)]
)
def test_exact_mcnemar_vectors_are_doubled_lower_tails(k, n, p, expected):
    assert 2 * binomial.cdf(k, n, p) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("n", "k", "p"), [(30, 0, 0.02), (30, 7, 0.31), (61, 60, 0.97), (200, 3, 0.02), (200, 150, 0.7)]
)
def test_cdf_equals_exact_fractions(n, k, p):
    share = Fraction(p)
    exact = sum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k + 1))
    assert binomial.cdf(k, n, p) == pytest.approx(float(exact), rel=1e-12)


@given(st.integers(1, 100_000), st.floats(0, 1), st.floats(1e-6, 1 - 1e-6))
@settings(max_examples=200, deadline=None)
def test_cdf_equals_scipy(n, share, p):
    k = int(share * n)
    assert binomial.cdf(k, n, p) == pytest.approx(float(scipy_stats.binom.cdf(k, n, p)), abs=1e-10)


@given(st.integers(1, 5000), st.floats(0, 0.999), DELTAS)
@settings(max_examples=60, deadline=None)
def test_upper_is_the_beta_quantile(n, share, delta):
    k = int(share * n)
    assert binomial.upper(k, n, delta) == pytest.approx(float(scipy_stats.beta.ppf(1 - delta, k + 1, n - k)), abs=1e-10)


@given(st.integers(1, 3000), st.integers(0, 60), RISKS, DELTAS)
@settings(max_examples=60, deadline=None)
def test_the_bound_and_the_test_agree(n, k, risk, delta):
    if k < n and abs(binomial.cdf(k, n, risk) - delta) > 1e-9:
        assert (binomial.upper(k, n, delta) <= risk) == (binomial.cdf(k, n, risk) <= delta)


def test_rule_of_three_sizes():
    assert [binomial.smallest_n(risk, 0.05) for risk in (0.05, 0.02, 0.01)] == [59, 149, 299]


def test_intervals_at_the_edges():
    assert binomial.clopper_pearson(0, 0) == (0.0, 1.0)
    assert binomial.wilson(0, 0) == (0.0, 1.0)
    assert binomial.clopper_pearson(0, 50).low == 0.0
    assert binomial.clopper_pearson(50, 50).high == 1.0
    assert binomial.clopper_pearson(5, 20) == pytest.approx((0.08657147, 0.49104587), abs=1e-8)


def test_mid_p_lies_between_wilson_like_and_exact():
    assert 0.1 < binomial.mid_p_upper(10, 100, 0.05) < binomial.upper(10, 100, 0.05)


@given(st.integers(0, 700), RISKS, DELTAS)
@settings(max_examples=40, deadline=None)
def test_allowed_errors_is_the_largest_that_passes(n, risk, delta):
    k = binomial.allowed_errors(n, risk, delta)[n]
    assert k == -1 or binomial.cdf(k, n, risk) <= delta
    assert binomial.cdf(k + 1, n, risk) > delta


def test_allowed_errors_stay_exact_over_a_long_run():
    allowed = binomial.allowed_errors(100_000, 0.02, 0.05)
    for n in (999, 1000, 31_999, 77_777, 100_000):
        assert binomial.cdf(allowed[n], n, 0.02) <= 0.05 < binomial.cdf(allowed[n] + 1, n, 0.02)


def test_a_risk_of_nothing_cannot_be_tested():
    with pytest.raises(ValueError, match="strictly between"):
        binomial.allowed_errors(10, 0.0, 0.05)
