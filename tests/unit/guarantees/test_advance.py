from __future__ import annotations

import dataclasses

import pytest

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.example import Example
from pilotfish.guarantees.advance import Workshop, advance, n_drawn
from pilotfish.guarantees.new_answers import NewAnswers, Serving
from pilotfish.guarantees.pace import Pace
from tools.served_home import sentences
from tools.traffic import colour_task, many_words

CLAIM = Claim(max_risk=0.1)
PAIRS = sentences(300)


@pytest.fixture
def workshop(encoder, tmp_path):
    return Workshop(claim=CLAIM, encoder=encoder, folder=tmp_path)


def _examples(pairs, sampling="observe"):
    return [
        Example(text=text, answer=(colour,), time_s=float(i), sampling=sampling, request_id=f"r{i}")
        for i, (text, colour) in enumerate(pairs)
    ]


def test_a_look_that_is_worth_it_leads_to_a_certificate(workshop):
    pace = Pace(first_after=200)
    tried = advance(workshop, colour_task(PAIRS), _examples(PAIRS), pace, None)
    assert isinstance(tried.verdict, Certificate)
    assert (pace.n_attempts, pace.due_at) == (1, 450)
    assert tried.fitted.folder.parent == workshop.folder


def test_a_look_that_is_not_worth_it_spends_nothing(workshop):
    words = many_words(200)
    pace = Pace(first_after=200)
    tried = advance(workshop, colour_task(words), _examples(words), pace, None)
    assert isinstance(tried.verdict, Refusal)
    assert (tried.verdict.delta_spent, pace.n_attempts) == (0.0, 0)
    assert pace.expected == tried.expected_coverage
    assert pace.due_at == 300


def test_the_number_of_the_attempt_is_that_of_those_that_spent(workshop):
    pace = Pace(n_attempts=2)
    tried = advance(workshop, colour_task(PAIRS), _examples(PAIRS), pace, None)
    assert (tried.verdict.attempt, pace.n_attempts) == (3, 3)


def _in_force(tried, coverage):
    certificate = dataclasses.replace(tried.verdict, coverage=coverage)
    return Serving(certificate=certificate, new=NewAnswers(colour_task(PAIRS).shape))


def test_a_serving_task_is_not_attempted_but_proven(workshop):
    """The better specialist is fitted on all that is known; later rows certify it."""
    task, rows = colour_task(PAIRS), _examples(PAIRS)
    first = advance(workshop, task, rows, Pace(), None)
    pace = Pace(n_attempts=1)
    assert advance(workshop, task, rows, pace, _in_force(first, 0.5)) is None
    assert pace.proving_since_s == rows[-1].time_s
    assert pace.n_attempts == 1
    later = [dataclasses.replace(row, time_s=row.time_s + 300, sampling="audit") for row in _examples(sentences(200))]
    assert n_drawn(pace, rows + later) == 200
    assert n_drawn(pace, rows) == 0
    tried = advance(workshop, task, rows + later, pace, _in_force(first, 0.5))
    assert tried.verdict.details["request_ids"] == [row.request_id for row in later]
    assert (pace.proving_since_s, pace.n_attempts) == (None, 2)


def test_nothing_is_proven_where_little_can_be_gained(workshop):
    task, rows = colour_task(PAIRS), _examples(PAIRS)
    first = advance(workshop, task, rows, Pace(), None)
    pace = Pace()
    assert advance(workshop, task, rows, pace, _in_force(first, 0.99)) is None
    assert pace.proving_since_s is None
    assert pace.due_at == 450


def test_deferred_rows_are_not_drawn():
    pace = Pace()
    pace.begin_to_prove(0.0, 0.5)
    assert n_drawn(pace, _examples(PAIRS, "deferred")) == 0
    assert n_drawn(Pace(), _examples(PAIRS)) == 0


def test_after_a_withdrawal_earlier_rows_do_not_certify(workshop):
    pace = Pace()
    pace.begin_again(100, 99.0)
    tried = advance(workshop, colour_task(PAIRS), _examples(PAIRS), pace, None)
    assert isinstance(tried.verdict, Certificate)
    assert min(int(key[1:]) for key in tried.verdict.details["request_ids"]) >= 100
