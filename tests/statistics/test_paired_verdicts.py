"""Verdicts keep their promise: simulated models of known truth, and one model under two names."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pilotfish.evals.verdict import Paired, Rule, compare
from pilotfish.stats import paired

N_RUNS = 1000


def drawn(source: random.Random, n: int, first: float, second: float, both: float) -> tuple[int, int]:
    """Discordant counts of n items: the first alone is right with `first - both`, the second with `second - both`."""
    only_first = only_second = 0
    for _ in range(n):
        u = source.random()
        only_first += u < first - both
        only_second += first - both <= u < first + second - 2 * both
    return only_first, only_second


def rate_of(hits: int) -> float:
    """The largest rate that `hits` of `N_RUNS` still allow, two standard deviations off."""
    share = hits / N_RUNS
    return share - 2 * (max(share, 0.01) * (1 - share) / N_RUNS) ** 0.5


def test_two_names_of_one_model_are_seldom_better_or_worse_over_a_thousand_resamples():
    source = random.Random(0)
    words: Counter[str] = Counter()
    for _ in range(N_RUNS):
        b, c = drawn(source, 300, 0.8, 0.8, 0.72)
        first, second = [1.0] * b + [0.0] * (300 - b), [0.0] * b + [1.0] * c + [0.0] * (300 - b - c)
        pair = Paired(candidate="b", baseline="a", scores=first, baseline_scores=second)
        words[compare([pair], Rule(resamples=10))[0].verdict] += 1
    assert rate_of(words["better"] + words["worse"]) <= 0.05
    assert words["better"] + words["worse"] > 0, "a test that never errs is too timid"


@pytest.mark.parametrize("is_clustered", [False, True])
def test_two_names_of_one_model_with_graded_scores(is_clustered):
    source = random.Random(1)
    words: Counter[str] = Counter()
    for run in range(200):
        first, second, clusters, shift = [], [], [], 0.0
        for item in range(60):
            if item % 3 == 0 or not is_clustered:
                shift = source.gauss(0, 0.3)
            first.append(min(1.0, max(0.0, 0.5 + shift + source.gauss(0, 0.2))))
            second.append(min(1.0, max(0.0, 0.5 - shift + source.gauss(0, 0.2))))
            clusters.append(str(item // 3))
        pair = Paired(
            candidate="b",
            baseline="a",
            scores=first,
            baseline_scores=second,
            clusters=clusters if is_clustered else None,
        )
        (found,) = compare([pair], Rule(seed=run, resamples=999))
        words[found.verdict] += 1
    assert words["better"] + words["worse"] <= 0.05 * 200 + 2 * (0.05 * 0.95 * 200) ** 0.5


def test_a_model_worse_by_the_margin_is_seldom_called_non_inferior():
    source = random.Random(2)
    hits = 0
    for _ in range(N_RUNS):
        b, c = drawn(source, 400, 0.75, 0.80, 0.70)
        hits += paired.noninferiority_p(b, c, 400, 0.05) <= 0.05
    assert rate_of(hits) <= 0.05
    assert hits / N_RUNS > 0.02, "a test that never errs is too timid"


def test_the_planned_items_show_non_inferiority_as_often_as_planned():
    source = random.Random(3)
    n = paired.items_for_margin(0.05, 0.1)
    hits = 0
    for _ in range(N_RUNS):
        b, c = drawn(source, n, 0.8, 0.8, 0.75)
        hits += paired.noninferiority_p(b, c, n, 0.05) <= 0.05
    assert 0.75 <= hits / N_RUNS <= 0.87


def test_the_score_interval_covers_the_true_difference():
    source = random.Random(4)
    hits = 0
    for _ in range(N_RUNS):
        low, high = paired.score_interval(*drawn(source, 80, 0.9, 0.82, 0.8), 80)
        hits += low <= 0.08 <= high
    assert 0.93 <= hits / N_RUNS <= 0.98
