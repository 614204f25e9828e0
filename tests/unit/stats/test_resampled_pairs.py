from __future__ import annotations

import random

import pytest

from pilotfish.stats.paired import difference
from pilotfish.stats.resampled_pairs import paired_bootstrap, randomisation_p


def test_the_bootstrap_agrees_with_the_normal_interval_where_that_holds():
    differences = [1.0] * 60 + [-1.0] * 180 + [0.0] * 1760
    low, high = paired_bootstrap(differences)
    expected = difference(differences).interval()
    assert (low, high) == (pytest.approx(expected.low, abs=1e-3), pytest.approx(expected.high, abs=1e-3))
    assert paired_bootstrap(differences) == (low, high)
    assert paired_bootstrap(differences, seed=1) != (low, high)


def test_few_and_many_kinds_of_values_are_resampled_alike():
    source = random.Random(0)
    exact = [source.gauss(0.1, 0.3) for _ in range(700)]
    coarse = [round(value, 1) for value in exact]
    few, many = paired_bootstrap(coarse), paired_bootstrap(exact)
    assert few.low == pytest.approx(many.low, abs=4e-3)
    assert few.high == pytest.approx(many.high, abs=4e-3)
    assert randomisation_p(coarse) < 0.001
    assert randomisation_p(exact) < 0.001


def test_clusters_are_drawn_whole():
    differences = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * 10
    alone = paired_bootstrap(differences)
    together = paired_bootstrap(differences, [str(i // 4) for i in range(80)])
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert randomisation_p(differences, [str(i // 4) for i in range(80)]) > randomisation_p(differences)


def test_randomisation_agrees_with_the_exact_test_on_signs():
    # Under swaps the sum of 20 signs is binomial: 15 against 5 is p = 0.0414, as McNemar's test has it.
    assert randomisation_p([1.0] * 15 + [-1.0] * 5) == pytest.approx(0.0414, abs=0.006)
    assert randomisation_p([0.0] * 30) == 1.0
    assert randomisation_p([1.0]) == 1.0


def test_without_an_item_there_is_no_interval():
    with pytest.raises(ValueError, match="at least one item"):
        paired_bootstrap([])
