"""Whose past answers they are: one key's, everybody's only where the user says so, and never what was forgotten."""

from __future__ import annotations

import dataclasses

from pilotfish.core.task import EVERYONE, AnswerShape, Retrieval
from pilotfish.scoring.answers import render
from pilotfish.tasks.shapes import Given, settle_shape
from pilotfish.tasks.survey import Exchange, survey


def said(whose: str, n: int, key_id: str | None = None) -> list[Given]:
    answer = f"This is what {whose} is told. " + "The library is open from nine to five on each working day. " * 2
    return [Given(text=f"when {i}", answer=answer, key_id=key_id, time_s=float(i)) for i in range(n)]


def texts(shape: AnswerShape) -> list[str]:
    return [render(shape, (value,)) for value in shape.fields[0].values]


def test_answers_belong_to_the_key_that_asked_most() -> None:
    shape = settle_shape(said("a", 30, "a") + said("b", 40, "b") + said("nobody", 20))
    assert shape.retrieval == Retrieval(owner="b")
    assert texts(shape) == [said("b", 1)[0].answer.strip()]
    assert [shape.retrieval.is_for(key) for key in ("b", "a", "", None)] == [True, False, False, False]


def test_they_stay_with_it_while_it_asks_and_are_everybodys_only_on_request() -> None:
    before = settle_shape(said("a", 30, "a"))
    given = said("a", 30, "a") + said("b", 40, "b")
    assert settle_shape(given, before=before).retrieval == Retrieval(owner="a")
    shared = settle_shape(given, before=before, is_shared=True)
    assert shared.retrieval == Retrieval(owner=EVERYONE)
    assert len(texts(shared)) == 2
    assert settle_shape(given, before=shared).retrieval == Retrieval(owner="b")


def test_what_was_forgotten_comes_back_only_when_it_is_given_again() -> None:
    given = said("a", 30) + said("b", 40)
    shape = settle_shape(given)
    value = shape.fields[0].values[0]
    less = shape.forgetting([(value, 99.0)])
    assert texts(less) == texts(shape)[1:]
    assert texts(settle_shape(given, before=less)) == texts(less)
    gone = less.forgetting([(less.fields[0].values[0], 99.0)])
    still = settle_shape(given, before=gone)
    assert not still.is_closed
    later = [Given(text=one.text, answer=one.answer, time_s=100.0 + one.time_s) for one in given]
    assert len(texts(settle_shape(given + later, before=still))) == 2


def test_single_conversations_are_no_task_however_often_they_begin_alike() -> None:
    rows = [
        Exchange(instructions_id="none", instructions="", user_message=one.text, answer=one.answer)
        for one in said("a", 40)
    ]
    assert survey(rows) == []
    asked = [dataclasses.replace(row, instructions="Answer.") for row in rows]
    assert [task.shape.kind for task in survey(asked)] == ["retrieved"]
