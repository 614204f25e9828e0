from __future__ import annotations

import dataclasses
import random

import pytest

from pilotfish.core.certificate import Claim
from pilotfish.core.errors import UserError
from pilotfish.core.example import Example
from pilotfish.guarantees.fitting import MIN_RISE, fit
from tools.served_home import sentences
from tools.traffic import colour_task, many_words
from tools.tuning import RECIPE, in_order, order_task, tuning

CLAIM = Claim(max_risk=0.2, per="traffic")
ONE_TEXT = [("my car is red", "red")] * 40
ONE_ANSWER = [(f"my car {i} is red", "red") for i in range(40)]


@pytest.fixture
def student(encoder, tmp_path):
    def run(pairs, *, sampling="observe", **options):
        rows = [
            Example(text=text, answer=(colour,), time_s=float(i), sampling=sampling)
            for i, (text, colour) in enumerate(pairs)
        ]
        fixed = {"number": 1, "encoder": encoder, "folder": tmp_path, "n_calibration": 300}
        return fit(colour_task(pairs), rows, CLAIM, **fixed, **options)

    return run


def test_rows_from_before_a_withdrawal_teach_where_that_helps(student):
    """Nothing has changed but that the fresh rows are few; only these are looked at out of fold."""
    pairs = many_words(800)
    found, everything = student(pairs, fresh_since_s=649.0), student(pairs)
    assert found.fitted.sha256 == everything.fitted.sha256
    assert found.expected_coverage > student(pairs[650:]).expected_coverage
    assert (len(found.look.fold_losses), len(everything.look.fold_losses)) == (150, 800)
    assert list(found.look.fold_certainty) == list(everything.look.fold_certainty)[650:]


def test_they_do_not_where_they_are_wrong(student):
    wrong = {"red": "green", "green": "blue", "blue": "red"}
    pairs = [(text, wrong[colour]) for text, colour in sentences(400, seed=1)] + sentences(200, seed=2)
    found = student(pairs, fresh_since_s=399.0)
    assert found.expected_coverage > 0.8
    assert student(pairs).expected_coverage < 0.8
    assert found.look.fold_losses == student(pairs[400:]).look.fold_losses


@pytest.mark.parametrize("fresh", [[], ONE_TEXT, ONE_ANSWER])
def test_fresh_rows_without_variety_do_not_teach_alone(student, fresh):
    pairs = sentences(100) + fresh
    assert student(pairs, fresh_since_s=99.0).fitted.sha256 == student(pairs).fitted.sha256


def test_deferred_rows_are_not_looked_at(student):
    found = student(sentences(100), sampling="deferred")
    assert (len(found.look.fold_losses), found.expected_coverage) == (0, 0.0)


@pytest.fixture
def chosen(encoder_folder, encoder, tmp_path):
    def run(task, rows, **plan):
        fixed = {"number": 1, "encoder": encoder, "folder": tmp_path, "n_calibration": 300}
        options = {"tuning": tuning(encoder_folder, **plan)} if plan else {}
        return fit(task, rows, Claim(max_risk=0.02), **fixed, **options)

    return run


def test_a_fine_tuned_student_is_kept_where_that_lets_expect_more(chosen):
    rows, said = in_order(500), []
    frozen = chosen(order_task(), rows)
    found = chosen(order_task(), rows, announce=said.append, recipe=dataclasses.replace(RECIPE, n_epochs=6))
    assert found.expected_coverage >= frozen.expected_coverage + MIN_RISE
    assert found.fitted.sha256 != frozen.fitted.sha256
    assert len(found.look.fold_losses) == len(rows)
    assert len(said) == 1


def test_it_is_not_tried_where_the_frozen_one_leaves_no_room(chosen):
    pairs, said = sentences(240), []
    rows = [Example(text=text, answer=(colour,), time_s=float(i)) for i, (text, colour) in enumerate(pairs)]
    frozen = chosen(colour_task(pairs), rows)
    assert chosen(colour_task(pairs), rows, announce=said.append).fitted.sha256 == frozen.fitted.sha256
    assert said == []


def test_it_is_not_kept_where_it_lets_expect_no_more(chosen):
    """Answers by the toss of a coin: no student can learn them."""
    rng, said = random.Random(0), []
    rows = [dataclasses.replace(row, answer=(rng.choice("qz"),)) for row in in_order(160)]
    found = chosen(order_task(), rows, announce=said.append)
    assert len(said) == 1
    assert found.fitted.sha256 == chosen(order_task(), rows).fitted.sha256
    assert chosen(order_task(), rows, is_forced=True).fitted.sha256 != found.fitted.sha256


def test_too_little_variety_is_an_error(student):
    with pytest.raises(UserError):
        student([("my car is red", "red"), ("my car is blue", "blue")] * 30)
