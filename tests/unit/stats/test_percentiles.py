from __future__ import annotations

import random

import pytest

from pilotfish.stats.percentiles import percentile


def test_a_p99_of_fewer_than_a_hundred_calls_is_refused():
    assert percentile([1.0] * 99, 0.99).why_none == "p99 needs 100 calls"
    assert percentile([1.0] * 100, 0.99).value == 1.0
    assert percentile([1.0] * 19, 0.95).value is None
    assert percentile([2.0], 0.5).value == 2.0
    assert percentile([], 0.5).why_none == "not measured"


def test_a_bound_that_no_call_gives_is_none():
    found = percentile([float(i) for i in range(100)], 0.99)
    assert found.low is not None
    assert found.high is None


def test_the_interval_holds_the_true_percentile_as_often_as_it_says():
    source = random.Random(0)
    hits = 0
    for _ in range(400):
        found = percentile([source.random() for _ in range(60)], 0.5)
        hits += (found.low or 0.0) <= 0.5 <= (found.high or 1.0)
    assert hits / 400 >= 0.94
    assert percentile(list(range(101)), 0.5).value == pytest.approx(50)
