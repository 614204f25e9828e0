from __future__ import annotations

import pytest

from pilotfish.evals.verdict import Comparison, Paired, Rule, compare


def judged(gains: int, losses: int, n: int, **rule: float) -> Comparison:
    scores = [1.0] * gains + [0.0] * losses + [1.0] * (n - gains - losses)
    baseline = [0.0] * gains + [1.0] * losses + [1.0] * (n - gains - losses)
    pair = Paired(candidate="small", baseline="large", scores=scores, baseline_scores=baseline)
    return compare([pair], Rule(**rule))[0]


@pytest.mark.parametrize(
    ("gains", "losses", "n", "margin", "verdict"),
    [
        (18, 6, 200, 0.02, "better"),
        (6, 18, 200, 0.02, "worse"),
        (25, 25, 500, 0.05, "non-inferior"),
        (5, 10, 200, 0.02, "not enough data"),
        (5, 5, 50, 0.05, "not enough data"),
        (0, 0, 50, 0.05, "not enough data"),
        (0, 0, 60, 0.05, "non-inferior"),
        (40, 75, 4000, 0.03, "non-inferior"),
    ],
)
def test_the_rule(gains, losses, n, margin, verdict):
    found = judged(gains, losses, n, margin=margin)
    assert found.verdict == verdict
    assert (found.more_items is not None) == (verdict == "not enough data")
    assert found.more_items is None or found.more_items > 0
    assert (found.lower > -margin) == (found.p_noninferior < 0.05)


def test_a_loss_that_is_shown_within_the_margin_is_named():
    found = judged(40, 75, 4000, margin=0.03)
    assert found.p_adjusted < 0.05
    assert "A loss is shown, but a smaller one" in found.sentence


def test_identical_quality_at_fifty_items_is_not_enough_data():
    for gains in range(6):
        found = judged(gains, gains, 50)
        assert found.verdict == "not enough data"
        assert "more items would decide" in found.sentence


def test_many_candidates_need_stronger_evidence():
    scores = [1.0] * 15 + [0.0] * 5 + [1.0] * 180
    baseline = [0.0] * 15 + [1.0] * 5 + [1.0] * 180
    pair = Paired(candidate="a", baseline="b", scores=scores, baseline_scores=baseline)
    alone, *_ = compare([pair], Rule())
    among, *_ = compare([pair] * 2, Rule())
    assert (alone.verdict, among.verdict) == ("better", "non-inferior")
    assert among.p_adjusted == pytest.approx(2 * alone.p_adjusted)


def test_graded_scores_are_randomised_and_few_of_them_show_nothing():
    scores = [0.5 + 0.001 * i for i in range(15)]
    pair = Paired(candidate="a", baseline="b", scores=scores, baseline_scores=scores)
    found, *_ = compare([pair], Rule(margin=0.3))
    assert (found.verdict, found.mcnemar, found.discordant) == ("not enough data", None, None)
    assert found.test.startswith("approximate randomisation")
    many = Paired(candidate="a", baseline="b", scores=scores * 20, baseline_scores=scores * 20)
    assert compare([many], Rule(margin=0.3))[0].verdict == "non-inferior"


def test_items_of_one_cluster_do_not_count_as_many():
    scores, baseline = [1.0] * 40 + [0.0] * 10 + [1.0] * 150, [0.0] * 40 + [1.0] * 10 + [1.0] * 150
    alone = Paired(candidate="a", baseline="b", scores=scores, baseline_scores=baseline)
    clusters = [str(i // 40) for i in range(200)]
    together = Paired(candidate="a", baseline="b", scores=scores, baseline_scores=baseline, clusters=clusters)
    assert compare([alone], Rule())[0].verdict == "better"
    assert compare([together], Rule())[0].verdict == "not enough data"
