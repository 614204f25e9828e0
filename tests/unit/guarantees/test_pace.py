from __future__ import annotations

import json

import pytest

from pilotfish.guarantees.pace import ENOUGH, GAIN, NEW_ANSWERS, PROVING_COST, Pace, proving_rows


def test_a_look_is_due_after_the_first_answers_and_when_they_have_grown():
    pace = Pace(first_after=300, growth=1.5)
    assert [pace.is_due(n, 0, 0.05) for n in (0, 299, 300)] == [False, False, True]
    pace.looked(300)
    assert [pace.is_due(n, 0, 0.05) for n in (300, 449, 450)] == [False, False, True]


def test_a_look_never_leaves_the_next_one_due_at_once():
    pace = Pace(first_after=1, growth=1.01)
    pace.looked(1)
    assert not pace.is_due(1, 0, 0.05)
    pace.looked(0)
    assert pace.due_at == 1


@pytest.mark.parametrize(
    ("looks", "worth"),
    [
        ([0.0], [False]),  # nothing to serve
        ([0.05, 0.09], [False, False]),  # less than a certificate is worth
        ([0.3], [False]),  # it has only begun to grow
        ([0.2, 0.4, 0.42], [False, False, True]),  # it has stopped to grow
        ([ENOUGH], [True]),  # enough at once
        ([0.25, 0.25 + GAIN], [False, True]),  # the least growth that does not pay to wait for
        ([0.4, 0.3], [False, True]),
    ],
)
def test_delta_is_spent_when_waiting_no_longer_pays(looks, worth):
    pace = Pace()
    assert [pace.is_worth(expected) for expected in looks] == worth


def test_an_impatient_pace_always_spends():
    pace = Pace(is_patient=False)
    assert pace.is_worth(0.0)
    assert pace.is_worth(0.5)


def test_while_proving_only_drawn_rows_count():
    pace = Pace()
    pace.looked(300)
    pace.begin_to_prove(77.0, 0.5)
    assert pace.proving_since_s == 77.0
    needed = proving_rows(0.05)
    assert needed == 400
    assert [pace.is_due(10**6, n, 0.05) for n in (0, needed - 1, needed)] == [False, False, True]
    pace.looked(900)
    assert pace.proving_since_s is None
    assert pace.is_due(1350, 0, 0.05)


@pytest.mark.parametrize(("coverage", "rate"), [(0.75, 0.2), (0.15, 1.0), (0.01, 1.0), (1.0, PROVING_COST)])
def test_the_coin_costs_about_the_same_whatever_is_served(coverage, rate):
    pace = Pace()
    assert pace.coin(0.02) == 0.02
    pace.begin_to_prove(0.0, coverage)
    assert pace.coin(0.02) == pytest.approx(rate)
    assert pace.coin(1.0) == 1.0


def test_after_a_withdrawal_it_begins_again():
    pace = Pace(first_after=300, expected=0.8, n_attempts=2)
    pace.begin_to_prove(5.0, 0.5)
    pace.begin_again(1000, 77.0)
    assert (pace.due_at, pace.expected, pace.proving_since_s, pace.fresh_since_s) == (1300, 0.0, None, 77.0)
    assert pace.n_attempts == 2, "what was spent stays spent"


def test_after_a_withdrawal_only_fresh_answers_have_to_grow():
    pace = Pace(first_after=100, growth=1.5)
    pace.begin_again(2000, 77.0)
    pace.looked(2100)
    assert pace.due_at == 2150
    pace.looked(1900)
    assert pace.due_at == 2000, "the log was pruned meanwhile"


def test_a_new_answer_makes_a_look_due_at_once_and_again_when_it_has_grown():
    pace = Pace()
    pace.looked(1000)
    pace.adopted(77.0)
    assert [pace.is_due(1001, 0, 0.05, n) for n in (0, NEW_ANSWERS - 1, NEW_ANSWERS)] == [False, False, True]
    pace.looked(1001, NEW_ANSWERS)
    assert [pace.is_due(1002, 0, 0.05, n) for n in (NEW_ANSWERS, 29, 30)] == [False, False, True]
    pace.begin_to_prove(78.0, 0.5)
    assert [pace.is_due(1002, 0, 0.05, n) for n in (29, 30)] == [False, True], "what is proven does not know it"
    pace.looked(1002, 30)
    pace.adopted(79.0, NEW_ANSWERS - 1)
    assert not pace.is_due(1002, 0, 0.05)
    pace.adopted(79.0, NEW_ANSWERS)
    assert pace.new_due_at == NEW_ANSWERS
    assert pace.is_due(1002, 0, 0.05)
    pace.begin_again(1100, 80.0)
    assert pace.taught_until_s is None


def test_the_coin_falls_always_where_nothing_can_be_answered_any_more():
    pace = Pace()
    pace.begin_to_prove(0.0, 0.0)
    assert pace.coin(0.02) == 1.0


def test_the_rows_that_prove_allow_for_twenty_errors():
    assert [proving_rows(risk) for risk in (0.1, 0.05, 0.02, 0.03)] == [200, 400, 1000, 667]


def test_it_survives_json():
    pace = Pace(first_after=50, growth=2.0, is_patient=False, n_attempts=3, expected=0.25)
    pace.looked(80)
    pace.begin_to_prove(12.5, 0.4)
    pace.begin_again(90, 13.5)
    assert Pace.from_json(json.loads(json.dumps(pace.to_json()))) == pace
    assert Pace.from_json({**pace.to_json(), "written_by_a_newer_version": 1}) == pace
    assert Pace.from_json({}) == Pace()
