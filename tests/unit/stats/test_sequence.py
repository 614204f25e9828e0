from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.stats import binomial, sequence
from tools.clock import least_cpu_s

ROWS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.5000000001, 0.9]), st.sampled_from([0.0, 1.0])), max_size=80
)


def _rows(n, seed, errors=lambda u: 0.3 * (1 - u) ** 3):
    source = random.Random(seed)
    scores = [source.random() for _ in range(n)]
    return scores, [float(source.random() < errors(score)) for score in scores]


@given(ROWS)
def test_points_never_cut_through_equal_scores(rows):
    scores, losses = [s for s, _ in rows], [x for _, x in rows]
    found = sequence.curve(scores, losses)
    assert [point.threshold for point in found.points] == sorted(set(scores), reverse=True)
    for point in found.points:
        served = [x for s, x in rows if s >= point.threshold]
        assert (point.n_served, point.errors) == (len(served), sum(served))


@given(ROWS, st.floats(0, 1))
def test_any_threshold_counts_what_it_serves(rows, threshold):
    (point,) = sequence.curve([s for s, _ in rows], [x for _, x in rows]).at([threshold])
    assert point.n_served == sum(s >= threshold for s, _ in rows)


def test_deferred_rows_count_but_are_never_served():
    found = sequence.curve([0.9, -math.inf, math.nan], [0.0, 1.0, 1.0])
    assert found.n_rows == 3
    assert found.points == ((0.9, 1, 0.0),)


def test_per_answer_stops_at_the_first_failure_even_if_later_ones_pass():
    scores = [3.0] * 200 + [2.0] * 10 + [1.0] * 2000
    losses = [0.0] * 200 + [1.0] * 10 + [0.0] * 2000
    rows = sequence.curve(scores, losses)
    choice = sequence.per_answer(rows, [3.0, 2.0, 1.0], 0.02, 0.05)
    assert choice is not None
    assert choice.threshold == 3.0
    assert choice.bound == pytest.approx(binomial.upper(0, 200, 0.05))
    assert sequence.per_answer(rows, [1.0], 0.02, 0.05).n_served == 2210
    assert sequence.per_answer(rows, [2.0, 1.0], 0.02, 0.05) is None


def test_per_traffic_takes_the_lowest_threshold_within_the_allowed_errors():
    scores, losses = _rows(1000, 1)
    rows = sequence.curve(scores, losses)
    choice = sequence.per_traffic(rows, 0.02, 0.05)
    allowed = binomial.allowed_errors(1000, 0.02, 0.05)[1000]
    assert choice.errors == allowed
    lower = [point for point in rows.points if point.threshold < choice.threshold]
    assert lower[0].errors > allowed
    assert choice.bound == pytest.approx(binomial.upper(allowed, 1000, 0.05))


def test_the_bound_never_exceeds_the_promise():
    for seed in range(20):
        rows = sequence.curve(*_rows(600, seed))
        fold = sequence.curve(*_rows(600, seed + 100))
        choice = sequence.per_answer(rows, sequence.plan(fold, 600, 0.05, 0.05), 0.05, 0.05)
        if choice:
            assert choice.bound <= 0.05
            assert binomial.cdf(int(choice.errors), choice.n_served, 0.05) <= 0.05


def test_the_plan_descends_and_starts_where_a_pass_is_expected():
    fold = sequence.curve(*_rows(4000, 5))
    order = sequence.plan(fold, 2000, 0.02, 0.05)
    assert order == sorted(order, reverse=True)
    assert len(order) <= 201
    (start,) = fold.at(order[:1])
    n, errors = start.n_served // 2, start.errors / 2
    allowed = binomial.allowed_errors(n, 0.02, 0.05)[n]
    assert allowed + 0.5 - errors >= 4 * math.sqrt(errors * (1 - errors / n))


def test_a_plan_of_few_or_no_rows():
    assert sequence.plan(sequence.curve([], []), 100, 0.02, 0.05) == []
    assert sequence.plan(sequence.curve([0.5], [0.0]), 100, 0.02, 0.05) == [0.5]
    assert sequence.per_answer(sequence.curve([], []), [0.5], 0.02, 0.05) is None
    assert sequence.per_traffic(sequence.curve([], []), 0.02, 0.05) is None


def test_losses_between_zero_and_one_are_tested_by_hoeffding_bentkus():
    scores, losses = _rows(1000, 2)
    soft = sequence.curve(scores, [loss * 0.5 for loss in losses])
    hard = sequence.curve(scores, losses)
    chosen = sequence.per_traffic(soft, 0.02, 0.05)
    assert not soft.is_binary
    assert sequence.per_traffic(hard, 0.02, 0.05).n_served < chosen.n_served
    assert chosen.errors / 1000 < chosen.bound <= 0.02


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_references_serve_what_they_prove(seed):
    scores, losses = _rows(800, seed)
    rows = sequence.curve(scores, losses)
    grid = [i / 15 for i in range(15)]
    choice = sequence.bonferroni(rows, grid, 0.05, 0.05)
    if choice:
        assert choice.threshold in grid
        assert choice.bound <= 0.05
    naive = sequence.naive(rows, 0.05)
    assert naive.errors <= 0.05 * naive.n_served
    first, second = sequence.curve(scores[:240], losses[:240]), sequence.curve(scores[240:], losses[240:])
    split = sequence.split_test(first, second, 0.05, 0.05)
    assert split is None or split.threshold == sequence.naive(first, 0.05).threshold


def test_a_hundred_thousand_rows_take_under_two_seconds():
    scores, losses = _rows(100_000, 7)

    def work():
        rows = sequence.curve(scores, losses)
        order = sequence.plan(rows, 100_000, 0.02, 0.05)
        assert sequence.per_answer(rows, order, 0.02, 0.05) is not None
        assert sequence.per_traffic(rows, 0.02, 0.05) is not None

    assert least_cpu_s(work, 2.0) < 2.0


def test_the_naive_threshold_counts_on_the_base_of_the_promise():
    rows = sequence.curve([5, 4, 3, 2, 1], [0.0, 1.0, 0.0, 1.0, 1.0])
    assert sequence.naive(rows, 0.34).threshold == 3
    assert sequence.naive(rows, 0.4, per_traffic=True).threshold == 2
    assert sequence.naive(rows, 0.1, per_traffic=True).threshold == 5
