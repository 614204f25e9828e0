from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.routing.policy import Gates, Policy

POLICY = Policy(Gates(min_certainty=0.8, min_scope=0.3))


@pytest.mark.parametrize(
    ("certainty", "scope", "reason"),
    [
        (0.8, 0.3, "certified"),
        (0.7999999999999999, 0.3, "uncertain"),
        (0.8, 0.29999999999999993, "out-of-scope"),
        (0.1, 0.1, "out-of-scope"),
        (math.nan, 0.9, "uncertain"),
        (0.9, math.nan, "out-of-scope"),
    ],
)
def test_the_scope_gate_comes_first_and_thresholds_are_included(certainty, scope, reason):
    assert POLICY.decide(certainty, scope) == reason


@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_more_certainty_never_defers_what_was_served(low, high, scope):
    low, high = sorted((low, high))
    if POLICY.decide(low, scope) == "certified":
        assert POLICY.decide(high, scope) == "certified"


FIRST = Policy(Gates(min_certainty=0.8, min_scope=0.3, first=Gates(min_certainty=0.95, min_scope=0.9)))


@pytest.mark.parametrize(
    ("certainty", "scope", "accepted"),
    [
        (0.95, 0.9, True),
        (0.9499999999999998, 0.9, False),
        (0.95, 0.89, False),
        (math.nan, 1.0, False),
        (1.0, math.nan, False),
    ],
)
def test_the_first_tier_answers_only_where_both_its_own_gates_pass(certainty, scope, accepted):
    assert FIRST.accepts_first(certainty, scope) is accepted
    assert not POLICY.accepts_first(certainty, scope), "without gates of its own it answers nothing"
    assert FIRST.decide(0.8, 0.3) == "certified"
