from __future__ import annotations

import gzip
import itertools
import json
import math
import random
from pathlib import Path
from statistics import fmean

import pytest

from pilotfish.stats import resampled_curves, routing
from pilotfish.stats.routing import Point

DATA = Path(__file__).parents[4] / "shared" / "data"


def drawn(needs, gains, seed=0):
    """APGR with ties in one random order, by the definition: k = 0..n, trapezoid."""
    order = list(range(len(needs)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda i: -needs[i])
    recovered = [0.0, *itertools.accumulate(gains[i] for i in order)]
    steps = [(a + b) / 2 for a, b in itertools.pairwise(recovered)]
    return sum(steps) / len(gains) / recovered[-1]


def test_the_expected_curve_is_the_mean_over_random_orders_of_ties():
    source = random.Random(1)
    needs = [float(source.randint(0, 3)) for _ in range(40)]
    gains = [float(source.choice([1, 1, 1, 0, 0, -1])) for _ in needs]
    found = routing.apgr(needs, gains)
    assert found == pytest.approx(fmean(drawn(needs, gains, seed) for seed in range(1500)), abs=0.02)
    assert routing.apgr([0.0] * 40, gains) == pytest.approx(0.5)


def test_by_hand():
    gains, weak = [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]
    needs = [4.0, 3.0, 2.0, 1.0]
    # PGR at k = 0..4: 0, 1/2, 1/2, 1, 1.
    assert routing.apgr(needs, gains) == pytest.approx((0.25 + 0.5 + 0.75 + 1.0) / 4)
    assert routing.cpt(needs, gains, 0.5) == 0.25
    assert routing.cpt(needs, gains, 0.8) == 0.75
    assert routing.cpt([0.0] * 4, gains, 0.5) == 0.5
    assert routing.curve(needs, weak, gains)[1] == Point(0.25, 0.5)
    assert routing.apgr(needs, [0.0, 0.0, -1.0, 1.0]) is None
    with pytest.raises(ValueError, match="NaN"):
        routing.apgr([float("nan")], [1.0])


def test_the_hull_rises_and_bends_down_only():
    points = [Point(1.0, 0.5), Point(2.0, 0.6), Point(3.0, 0.9), Point(4.0, 0.8), Point(0.5, 0.2)]
    corners = routing.hull(points)
    assert corners == [Point(0.5, 0.2), Point(1.0, 0.5), Point(3.0, 0.9)]
    assert routing.height(corners, 2.0) == pytest.approx(0.7)
    assert routing.height(corners, 9.0) == 0.9
    assert routing.height(corners, 0.1) is None
    assert routing.aiq(points) == pytest.approx((0.5 * 0.35 + 2 * 0.7 + 0.9) / 3.5)
    assert routing.over_hull([Point(1.0, 0.5), Point(2.0, 0.8), Point(3.0, 0.9)], corners) == pytest.approx(0.05)


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data lies beside a development checkout only")
def test_the_published_figures_of_recorded_outcomes_come_out():
    known = json.loads((DATA / "baselines.json").read_text())["route_llm_pair"]["mmlu_dev_dev"]
    with gzip.open(DATA / "routing_mmlu.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    scores = [list(row["scores"].values()) for row in rows if row["split"] == "dev" and not row["contaminated"]]
    gains = [float(strong - weak) for weak, strong in scores]
    assert len(gains) == known["n"]
    assert routing.apgr(routing.oracle(gains), gains) == pytest.approx(known["apgr_oracle"])
    assert routing.cpt(gains, gains, 0.5) == pytest.approx(known["cpt50_oracle"])
    assert routing.cpt(gains, gains, 0.8) == pytest.approx(known["cpt80_oracle"])


def test_needs_that_cannot_be_told_are_one_tie_whatever_their_order():
    gains = [1.0, 0.0] * 40
    needs = [math.inf] * 60 + [float(i % 7) for i in range(20)]
    same = [*reversed(gains[:60]), *gains[60:]]
    finite = [9.0 if math.isinf(need) else need for need in needs]
    tied = resampled_curves.apgr_interval(finite, gains, repeats=50)
    assert resampled_curves.apgr_interval(needs, gains, repeats=50) == tied
    assert resampled_curves.apgr_interval(needs, same, repeats=50) == resampled_curves.apgr_interval(
        finite, same, repeats=50
    )


def test_intervals_hold_the_figure_and_shrink():
    source = random.Random(2)
    gains = [float(source.random() < 0.3) for _ in range(900)]
    needs = [gain + source.gauss(0, 1) for gain in gains]
    few = resampled_curves.apgr_interval(needs[:200], gains[:200], repeats=300)
    many = resampled_curves.apgr_interval(needs, gains, repeats=300)
    assert many.low < routing.apgr(needs, gains) < many.high
    assert many.high - many.low < few.high - few.low
    assert resampled_curves.apgr_interval(needs, [gain - 0.31 for gain in gains], repeats=300) is None
