"""A user's mark of one answer bounds how the other can compare, on the scale of whoever graded the pair."""

from __future__ import annotations

import pytest

from pilotfish.core.outcome import Tried
from pilotfish.evals.logged_outcomes import Pair, outcomes


def pair(**marks: float) -> Pair:
    tried = {name: Tried(score=0.0, text=name) for name in ("small", "big")}
    grades = {"feedback": marks} if marks else {}
    return Pair(
        request_id="r",
        prompt="p",
        reference="big",
        probability=1.0,
        tried=tried,
        grades=grades,
        collected_usd=None,
        graded_usd=None,
    )


@pytest.mark.parametrize(
    ("marks", "judged", "heeded"),
    [
        ({}, 1.0, 1.0),
        ({"big": 1.0}, 0.75, 0.5),
        ({"big": 1.0}, 0.0, 0.0),
        ({"big": 0.0}, 0.0, 0.5),
        ({"big": 0.0}, 1.0, 1.0),
        ({"big": 0.6}, 0.0, 0.2),
        ({"small": 1.0}, 0.0, 0.5),
        ({"small": 0.0}, 0.75, 0.5),
        ({"other": 0.0}, 0.75, 0.75),
    ],
)
def test_a_judge_compares(marks: dict[str, float], judged: float, heeded: float) -> None:
    found = pair(**marks).heeding({"small": judged, "big": 0.5})
    assert found == {"small": pytest.approx(heeded), "big": 0.5}


@pytest.mark.parametrize(
    ("marks", "scored", "heeded"),
    [({"big": 1.0}, 0.0, 0.0), ({"big": 0.0}, 0.0, 1.0), ({"small": 0.8}, 0.0, 0.8), ({"small": 0.0}, 1.0, 1.0)],
)
def test_a_scorer_takes_the_reference_for_right(marks: dict[str, float], scored: float, heeded: float) -> None:
    assert pair(**marks).heeding({"small": scored, "big": 1.0})["small"] == pytest.approx(heeded)


def test_who_graded_stands_in_the_outcome_and_pairs_without_a_grade_are_left_out() -> None:
    scores = {"r": {"small": 0.75, "big": 0.5}}
    assert outcomes([pair(big=1.0)], scores, "judge")[0].tags["graded_by"] == "judge, within the marks of users"
    assert outcomes([pair(big=1.0)], scores, "judge", heeds_marks=False)[0].tags["graded_by"] == "judge"
    assert outcomes([pair(big=1.0)], {}, "judge") == []
