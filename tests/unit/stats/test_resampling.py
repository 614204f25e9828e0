from __future__ import annotations

import math
import random

import pytest

from pilotfish.stats import resampling


def test_one_row_a_cluster_is_the_usual_error():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert resampling.clustered_error(values, range(5)) == pytest.approx(math.sqrt(0.6 * 0.4 / 5))


def test_equal_rows_in_a_cluster_count_once():
    assert resampling.clustered_error([0, 0, 1, 1], "aabb") == pytest.approx(resampling.clustered_error([0, 1], "ab"))
    low, high = resampling.clustered_interval([0.0, 0.0, 1.0, 1.0], "aabb")
    assert (low + high) / 2 == pytest.approx(0.5)
    assert high - 0.5 == pytest.approx(1.959964 * math.sqrt(0.125), abs=1e-6)


def test_standard_error_vector_of_mmlu():
    right = round(0.656 * 14_042)
    assert resampling.clustered_error([1.0] * right + [0.0] * (14_042 - right), range(14_042)) == pytest.approx(
        0.0040, abs=1e-4
    )


def test_bootstrap_is_seeded_and_near_the_normal_interval():
    source = random.Random(3)
    values = [source.gauss(0, 1) for _ in range(200)]
    low, high = resampling.bootstrap(values, repeats=2000)
    assert (low, high) == resampling.bootstrap(values, repeats=2000)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(200), rel=0.2)


def test_bootstrap_without_rows_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        resampling.bootstrap([])
