from __future__ import annotations

import math

import pytest
from scipy import stats as scipy_stats

from pilotfish.stats import paired
from pilotfish.stats.binomial import cdf


@pytest.mark.parametrize(
    ("b", "c", "exact", "chi2"),
    [(5, 15, 0.04139, 0.0442), (6, 18, 0.02266, 0.0247), (10, 24, 0.02431, 0.0258)],
)
def test_mcnemar_vectors(b, c, exact, chi2):
    found = paired.mcnemar(b, c)
    assert found.exact == pytest.approx(exact, abs=1e-4)
    assert found.chi2 == pytest.approx(chi2, abs=1e-4)
    assert found.mid_p < found.exact
    assert found == paired.mcnemar(c, b)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 1), (3, 3), (7, 2), (0, 40), (120, 95)])
def test_mcnemar_is_the_binomial_test_and_mid_p_leaves_out_half_of_what_was_seen(b, c):
    found = paired.mcnemar(b, c)
    if b + c:
        assert found.exact == pytest.approx(scipy_stats.binomtest(b, b + c).pvalue)
        half = scipy_stats.binom.pmf(min(b, c), b + c, 0.5)
        assert found.mid_p == pytest.approx(min(1.0, 2 * cdf(min(b, c), b + c, 0.5) - half))
    else:
        assert found == (1.0, 1.0, 1.0)


def test_the_paired_error_is_smaller_than_the_unpaired_one():
    found = paired.difference([1.0] * 6 + [-1.0] * 18 + [0.0] * 176)
    assert found.mean == pytest.approx(-0.06)
    assert found.error == pytest.approx(0.0241, abs=1e-4)
    unpaired = paired.unpaired_error(0.80, 0.86, 200)
    assert unpaired == pytest.approx(0.0374, abs=1e-4)
    # The reference divides the rounded difference by its error with n (2.49); with n - 1 it is 2.48.
    assert abs(found.mean) / found.error == pytest.approx(2.49, abs=0.01)
    assert 0.06 / unpaired == pytest.approx(1.60, abs=0.005)


def test_the_error_of_mmlu():
    right = round(0.656 * 14_042)
    found = paired.difference([1.0] * right + [0.0] * (14_042 - right))
    assert found.error == pytest.approx(0.0040, abs=1e-4)
    assert 100 * (found.interval().high - found.mean) == pytest.approx(0.79, abs=0.005)


def test_clusters_that_move_together_widen_the_error():
    differences = [1.0, 1.0, 0.0, 0.0] * 20
    alone = paired.difference(differences)
    together = paired.difference(differences, [str(i // 2) for i in range(80)])
    assert together.error > 1.3 * alone.error
    assert paired.difference([1.0, 0.0], ["a", "a"]).error == math.inf
    assert paired.difference([1.0]).error == math.inf


@pytest.mark.parametrize(
    ("margin", "discordance", "n"),
    [
        (0.05, 0.1, 248),
        (0.05, 0.2, 495),
        (0.03, 0.1, 687),
        (0.03, 0.2, 1374),
        (0.02, 0.1, 1546),
        (0.02, 0.2, 3092),
        (0.01, 0.1, 6183),
        (0.01, 0.2, 12366),
    ],
)
def test_items_for_a_margin(margin, discordance, n):
    assert paired.items_for_margin(margin, discordance) == n


@pytest.mark.parametrize(
    ("n", "detectable"), [(50, 0.177), (100, 0.125), (200, 0.089), (500, 0.056), (1000, 0.040), (2000, 0.028)]
)
def test_the_smallest_detectable_difference(n, detectable):
    found = paired.detectable(n, 0.2)
    assert found == pytest.approx(detectable, abs=5e-4)
    assert paired.items_to_see(found, 0.2) in (n, n + 1)


def test_the_score_interval_is_tangos():
    # Tango (1998), table II: soft contact lenses, 0 and 1 discordant pairs of 44.
    low, high = paired.score_interval(0, 1, 44)
    assert (low, high) == (pytest.approx(-0.1181, abs=1e-3), pytest.approx(0.0594, abs=1e-3))
    assert paired.score_interval(0, 0, 0) == (-1.0, 1.0)
    assert paired.score_interval(20, 0, 20).high == 1.0


def test_no_differing_item_is_no_proof_of_equality():
    bound = paired.score_interval(0, 0, 50, 0.90).low
    z = 1.6448536
    assert bound == pytest.approx(-z * z / (50 + z * z), abs=1e-6)
    assert paired.noninferiority_p(0, 0, 50, 0.05) > 0.05 > paired.noninferiority_p(0, 0, 60, 0.05)


@pytest.mark.parametrize(("b", "c", "n"), [(6, 18, 200), (0, 3, 40), (30, 10, 300)])
def test_the_p_value_and_the_bound_say_the_same(b, c, n):
    bound = paired.score_interval(b, c, n, 0.90).low
    assert paired.noninferiority_p(b, c, n, -bound) == pytest.approx(0.05, abs=1e-6)


def test_holm_steps_down():
    values = [0.01, 0.04, 0.03, 0.005]
    assert paired.holm(values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([]) == []
