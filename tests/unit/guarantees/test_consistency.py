"""How often the reference differs from itself, what that rules out, and majorities of three."""

from __future__ import annotations

import dataclasses
import random

import pytest

from pilotfish.core.certificate import SCORERS, Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.guarantees.attempt import attempt
from pilotfish.guarantees.consistency import Repeated, asked_again, from_json, least_disagreement, with_votes
from pilotfish.scoring.answers import majority
from tools.words import CLASSES, ENCODER, TASK, word_examples

NAMES = tuple(CLASSES)


def _row(text="same", said=(), **fields):
    values = {"text": text, "answer": ("a",), "time_s": 0.0, "said": tuple((x,) if x else None for x in said)}
    if said:
        values["answer"] = values["said"][0]
    return Example(**(values | fields))


def test_identical_texts_show_the_references_own_consistency():
    rows = [Example(text="same", answer=(x,), time_s=float(i)) for i, x in enumerate("aabb")]
    rows.append(Example(text="same", answer=("z",), time_s=9.0, sampling="deferred"))
    random.Random(0).shuffle(rows)
    assert asked_again(rows) == (1, 3)


def test_a_request_counts_once_whatever_is_known_of_it():
    rows = [
        _row("same", "ab", time_s=1.0),  # asked again: differs
        _row("same", "bb", time_s=2.0),  # asked again: agrees, although the answer before was another
        _row("same", answer=("b",), time_s=3.0),  # agrees with the first answer before
        _row("other", "ab", time_s=4.0, sampling="deferred"),
        _row("else", "aab", time_s=5.0, is_complete=False),  # the first two answers count
    ]
    assert asked_again(rows) == (1, 4)


def test_an_answer_without_the_tasks_shape_agrees_with_none():
    assert asked_again([_row(said=(None, None))]) == (1, 1)


def test_nothing_asked_twice_rules_nothing_out():
    nothing = asked_again([_row("a"), _row("b")])
    assert (nothing, nothing.low, nothing.share) == ((0, 0), 0.0, None)
    assert "never asked the same twice" in str(nothing)
    assert from_json(Repeated(6, 300).to_json()) == (6, 300)
    assert str(Repeated(6, 300)).endswith("2.0 % (0.7 to 4.3) of 300 requests asked twice")


@pytest.mark.parametrize("weights", [(1.0,), (0.9, 0.1), (0.5, 0.5), (0.6, 0.2, 0.2), (0.25,) * 4, (0.5, 0.3)])
def test_nobody_disagrees_less_than_the_floor(weights):
    """By the closed forms; weights that sum to less than 1 leave answers without the task's shape."""
    itself = 1.0 - sum(p * p for p in weights)
    best = 1.0 - max(weights)
    assert least_disagreement(itself) <= best + 1e-12
    assert best <= itself + 1e-12 <= 2 * best + 2e-12
    m = max(weights)
    assert least_disagreement(itself, 3) <= 1.0 - (m**3 + 3 * m**2 * (1.0 - m)) + 1e-12


def test_a_majority_needs_more_than_half():
    assert majority([("a",), ("b",), ("a",)]) == ("a",)
    assert majority([("a",), ("b",), ("c",)]) is None
    assert majority([None, None, ("a",)]) is None


def test_a_row_without_three_answers_teaches_and_is_no_evidence():
    (full, short) = (with_votes(_row(said="abb"), 3), with_votes(_row(said="ab"), 3))
    assert (full.answer, full.is_unbiased) == (("b",), True)
    assert (short.answer, short.is_unbiased) == (("a",), False)
    assert with_votes(_row(said="abb"), 1).answer == ("a",)


def _said(rows, flips, seed=1, n=2, only=lambda row: True):
    """The rows as a reference answers them that says something else with probability `flips`, `n` times each."""
    source = random.Random(seed)

    def one(name):
        return (source.choice([other for other in NAMES if other != name]),) if source.random() < flips else (name,)

    found = []
    for row in rows:
        said = tuple(one(row.answer[0]) if only(row) else row.answer for _ in range(n))
        found.append(dataclasses.replace(row, answer=said[0], said=said if n > 1 else ()))
    return found


def _attempt(rows, folder, claim, **options):
    return attempt(TASK, rows, claim, number=1, encoder=ENCODER, folder=folder, **options)


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_an_inconsistent_reference_is_the_reason_before_anything_is_spent(tmp_path, per):
    rows = _said(word_examples(800, vague=0.0), 0.25)
    refusal = _attempt(rows, tmp_path, Claim(max_risk=0.02, per=per)).verdict
    assert (refusal.short_of, refusal.delta_spent) == ("consistency", 0.0)
    assert "answers = 3" in refusal.message
    assert "nobody can differ from it in less than" in refusal.message


def test_calibration_rows_have_no_say_in_it(tmp_path):
    rows = word_examples(800, vague=0.0)
    rows = [*_said(rows[:480], 0.0), *_said(rows[480:], 0.3)]
    assert _attempt(rows, tmp_path, Claim(max_risk=0.05)).verdict.delta_spent > 0


def test_inconsistency_among_requests_that_are_deferred_is_none_of_the_reasons(tmp_path):
    """A fifth of the texts says nothing, and there the reference guesses anew each time."""
    rows = _said(word_examples(1500, vague=0.2), 0.67, only=_is_vague)
    assert asked_again(rows).low > 0.05
    verdict = _attempt(rows, tmp_path, Claim(max_risk=0.05)).verdict
    assert isinstance(verdict, Certificate)
    assert verdict.details["consistency"]["asked_twice"] == 1500
    assert verdict.scorer == SCORERS[1]


def _is_vague(row):
    return not any(word in row.text.split() for words in CLASSES.values() for word in words.split())


def test_a_promise_about_the_majority_is_certified_where_one_about_single_answers_is_not(tmp_path):
    rows = _said(word_examples(1500, vague=0.0), 0.06, n=3)
    claim = Claim(max_risk=0.05)
    single = _attempt([with_votes(row, 1) for row in rows], tmp_path, claim).verdict
    majorities = _attempt([with_votes(row, 3) for row in rows], tmp_path, claim, n_votes=3).verdict
    assert single.short_of == "consistency"
    assert (majorities.n_votes, majorities.scorer) == (3, SCORERS[3])
    assert majorities.coverage > 0.9


def test_too_few_majorities_are_a_refusal_that_says_so(tmp_path):
    rows = _said(word_examples(900, vague=0.0), 0.0, n=3)
    rows = [*rows[:100], *(dataclasses.replace(row, said=()) for row in rows[100:])]
    verdict = _attempt([with_votes(row, 3) for row in rows], tmp_path, Claim(max_risk=0.02), n_votes=3).verdict
    assert (verdict.short_of, verdict.n, verdict.delta_spent) == ("examples", 100, 0.0)
    assert "as often as the majority needs" in verdict.message
