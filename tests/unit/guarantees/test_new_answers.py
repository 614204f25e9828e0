from __future__ import annotations

import pytest

from pilotfish.core.example import Example
from pilotfish.core.task import AnswerShape, Field
from pilotfish.guarantees import new_answers
from pilotfish.guarantees.new_answers import NewAnswers, answerable, new_since
from pilotfish.guarantees.pace import Pace
from tools.served_home import COLOURS
from tools.traffic import task_record

LABEL = AnswerShape(kind="label", fields=(Field(name="", values=COLOURS),))
PAIR = AnswerShape(kind="json", fields=(Field(name="a", values=("1", "2")), Field(name="b", values=("x",))))


def _seen(shape, *answers):
    new = NewAnswers(shape)
    for answer in answers:
        new.see(answer)
    return new


def test_values_that_are_not_known_are_counted():
    new = _seen(LABEL, ("red",), ("violet",), ("violet",), ("pink",), ("teal",))
    assert (new.most, new.n_known, new.n_rows, new.share) == (2, 5, 4, 0.8)
    assert new.listed() == [("", "violet", 2)]
    assert new.message() == (
        "The large model now answers 'violet' (and 2 other new values), which the specialist does not know: "
        "2 of the 5 answers known since it was taught."
    )


def test_nothing_new():
    new = _seen(LABEL, ("red",), None)
    assert (new.most, new.share, new.listed()) == (0, 0.0, [])
    assert NewAnswers(LABEL).share == 0.0


def test_fields_of_an_object_are_told_apart_and_a_row_counts_once():
    new = _seen(PAIR, ("1", "x"), ("3", "1"), ("3", "x"))
    assert new.listed(at_least=1) == [("a", "3", 2), ("b", "1", 1)]
    assert (new.most, new.n_rows) == (2, 2)
    assert "now answers a = 3 (and" in new.message()


def test_an_answer_of_another_shape_has_no_value_to_learn():
    assert _seen(PAIR, ("violet",)).most == 0


def test_the_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(new_answers, "MOST_VALUES", 3)
    new = _seen(LABEL, *[(str(i),) for i in range(10)], ("0",), ("9",))
    assert len(new.listed(at_least=1)) == 3
    assert new.most == 2
    assert new.n_rows == 12


def _rows(*answers):
    return [Example(text="t", answer=(answer,), time_s=float(i)) for i, answer in enumerate(answers)]


def test_the_share_of_rows_that_the_specialist_cannot_answer():
    assert NewAnswers(LABEL).share_of(_rows("red", "violet", "pink", "blue")) == 0.5
    assert NewAnswers(LABEL).share_of([]) == 0.0


def test_only_answers_since_a_specialist_that_serves_was_taught_count():
    rows = _rows("violet", "violet", "violet", "red")
    pace = Pace()
    assert new_since(task_record(LABEL, mode="serve", pace=pace), rows).n_known == 0
    pace.adopted(0.0)
    assert new_since(task_record(LABEL, mode="serve", pace=pace), rows).listed() == [("", "violet", 2)]
    assert new_since(task_record(LABEL, mode="observe", pace=pace), rows).n_known == 0


@pytest.mark.parametrize(("classes", "left"), [(("blue", "red"), ("red", "blue")), ((), ())])
def test_values_that_came_up_in_calibration_alone_are_not_known(classes, left):
    assert answerable(LABEL, [classes]).fields[0].values == left


def test_what_is_extracted_is_never_new_and_what_is_closed_beside_it_is():
    fields = (Field(name="kind", values=('"hotel"',)), Field(name="city", source="span"))
    new = NewAnswers(AnswerShape(kind="extraction", fields=fields))
    new.see(('"hotel"', '"atlantis"'))
    assert (new.n_known, new.n_rows) == (1, 0)
    new.see(('"tent"', '"atlantis"'))
    assert new.listed(at_least=1) == [("kind", '"tent"', 1)]


def test_of_whole_texts_one_that_was_given_once_is_not_new() -> None:
    shape = AnswerShape(kind="retrieved", fields=(Field(name="", values=("known",)),))
    new = NewAnswers(shape)
    for value in ("known", "once", "twice", "twice"):
        new.see((value,))
    assert (new.most, new.n_rows, new.listed()) == (2, 1, [("", "twice", 2)])
    rows = [Example(text="t", answer=(value,), time_s=0.0) for value in ("known", "once", "twice", "twice")]
    assert new.share_of(rows) == 0.5
