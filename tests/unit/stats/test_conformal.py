from __future__ import annotations

import random

import pytest

from pilotfish.stats.conformal import BINS, Bets, Ranks


def test_a_rank_is_the_share_of_scores_below_and_a_random_part_of_its_ties():
    ranks = Ranks.cut([0.0, 1.0, 2.0, 3.0]).add([0.5, 1.5, 1.5, 2.5])
    assert ranks.rank(1.7, 0.0) == pytest.approx(1 / 5)
    assert ranks.rank(1.7, 0.999999) == pytest.approx(5 / 6, abs=1e-5)
    assert ranks.n == sum(ranks.counts) == 6


def test_bins_hold_equal_shares_of_the_scores_that_cut_them():
    rng = random.Random(1)
    scores = [rng.gauss(0, 1) for _ in range(6400)]
    counts = Ranks.cut(scores).add(scores).counts
    assert len(counts) == BINS
    assert set(counts) == {100}


@pytest.mark.parametrize("scores", [(), (0.5,), (0.5, 0.5, 0.5), (float("-inf"), 1.0)])
def test_few_or_equal_scores_still_cut_bins(scores):
    ranks = Ranks.cut(scores).add(scores)
    assert ranks.edges == sorted(set(ranks.edges))
    assert all(0.0 <= ranks.rank(score, 0.5) <= 1.0 for score in (-1.0, 0.5, 2.0, float("inf")))


def test_what_it_is_made_from_stays_as_it_is():
    """A certificate holds such counts: ranking must not change it."""
    row = {"edges": [0.5], "counts": [3, 4], "n": 7}
    ranks = Ranks.from_json(row)
    ranks.rank(0.1, 0.5)
    ranks.emptied().add([0.2])
    assert row == {"edges": [0.5], "counts": [3, 4], "n": 7}
    assert ranks.counts == [4, 4]


def test_a_bet_is_fair_at_a_uniform_rank():
    """Over ranks spread evenly, a fresh sum of bets has grown by exactly what is begun with each rank, which is 1."""
    steps = 1000
    grown = [Bets.start(1.0).update((i + 0.5) / steps) for i in range(steps)]
    assert sum(grown) / steps == pytest.approx(1.0)


@pytest.mark.parametrize("rank", [0.01, 0.99])
def test_ranks_in_one_tail_are_evidence_and_others_take_it_back(rank):
    bets = Bets.start(1000.0)
    seen = [bets.update(rank) for _ in range(60)]
    assert seen == sorted(seen)
    assert seen[-1] > 1.0
    for _ in range(60):
        bets.update(0.6)
    assert bets.evidence < seen[-1] / 100
