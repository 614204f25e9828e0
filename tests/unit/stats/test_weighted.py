"""Rows that were drawn with unequal probabilities."""

from __future__ import annotations

import pytest

from pilotfish.stats import sequence, weighted

ROWS = 300
SCORES = [row / ROWS for row in range(ROWS)]
LOSSES = [float(row < 60 and row % 2 == 0) for row in range(ROWS)]
ORDER = [step / 20 for step in range(12, -1, -1)]


def test_equal_probabilities_need_no_weights():
    assert weighted.weights([0.05] * 10) == ()
    assert weighted.weights([]) == ()
    assert weighted.weights([1.0, 0.05, 0.1]) == pytest.approx((0.05, 1.0, 0.5))


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.5])
def test_an_impossible_probability_is_refused(probability):
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        weighted.weights([0.5, probability])


@pytest.mark.parametrize("per_traffic", [False, True])
def test_weights_of_one_come_near_the_exact_test_and_never_pass_it_by(per_traffic):
    rows = weighted.Drawn(SCORES, LOSSES, [1.0] * ROWS)
    bet = weighted.choose(rows, ORDER, 0.1, 0.05, per_traffic=per_traffic)
    curve = sequence.curve(SCORES, LOSSES)
    exact = sequence.per_traffic(curve, 0.1, 0.05) if per_traffic else sequence.per_answer(curve, ORDER, 0.1, 0.05)
    assert exact.threshold <= bet.threshold <= exact.threshold + 0.15
    assert bet.bound <= 0.1
    assert bet.n_served == sum(score >= bet.threshold for score in SCORES)


def test_a_first_threshold_that_fails_proves_nothing():
    rows = weighted.Drawn(SCORES, [1.0] * ROWS, [1.0] * ROWS)
    assert weighted.choose(rows, ORDER, 0.1, 0.05) is None
    assert weighted.choose(rows, [], 0.1, 0.05) is None


def test_a_row_that_stands_for_many_counts_as_many():
    # The errors are the rows that were seldom drawn: each stands for twenty.
    losses = [float(row % 30 == 0) for row in range(ROWS)]
    heavy = [1.0 if loss else 0.05 for loss in losses]
    light = [0.05 if loss else 1.0 for loss in losses]
    assert weighted.choose(weighted.Drawn(SCORES, losses, heavy), [0.0], 0.1, 0.05) is None
    assert weighted.choose(weighted.Drawn(SCORES, losses, light), [0.0], 0.1, 0.05) is not None


def test_coverage_is_a_weighted_share():
    rows = weighted.Drawn([0.9, 0.1, 0.9], [0.0, 0.0, 0.0], [1.0, 0.5, 0.5])
    assert rows.share(0.5) == 0.75
    assert weighted.Drawn([], [], []).share(0.5) == 0.0
