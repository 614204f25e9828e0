"""The best of several rankings on the same requests shows less than one that was alone."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from pilotfish.evals import routed
from pilotfish.evals.routed_report import ALPHA, report
from tools.outcomes import outcomes


def test_what_is_worth_trying_heeds_how_many_rankings_were_tried() -> None:
    pair = routed.pair(outcomes(300))
    source = random.Random(0)
    needs = [0.2 * gain + source.gauss(0.0, 1.0) for gain in pair.gains]
    alone = routed.Ranking(name="best", needs=needs, is_control=False)
    p = routed.measure(pair, alone).p
    assert ALPHA / 3 < p <= ALPHA
    assert report(pair, [alone], margin=0.02).advice == "try"
    best_of_3 = replace(alone, n_tried=3)
    assert routed.measure(pair, best_of_3).p == pytest.approx(3 * p)
    said = report(pair, [best_of_3], margin=0.02)
    assert said.advice == "do not route"
    assert f"(p = {3 * p:.2g})" in said.sentence
    assert routed.measure(pair, replace(alone, n_tried=1000)).p == 1.0
