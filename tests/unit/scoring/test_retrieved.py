"""Answers that repeat as whole texts: when they do, what names them, and what is never one."""

from __future__ import annotations

from pilotfish.core.task import AnswerShape, Retrieval
from pilotfish.scoring.answers import disagreement, parse, render
from pilotfish.scoring.retrieved import MAX_TEXT_CHARACTERS, MIN_REPEATED, read_text, settle_retrieved

HOURS = (
    "We are open from nine to five on every working day, and from ten to two on Saturdays; we are closed on Sundays."
)


def settled(texts: list[str]) -> AnswerShape:
    shape = settle_retrieved(texts, Retrieval())
    assert isinstance(shape, AnswerShape)
    return shape


def test_spaces_case_and_punctuation_do_not_count_and_words_do() -> None:
    shape = settled([HOURS] * 12 + [f"no. {n}" for n in range(12)])
    assert len(shape.fields[0].values) == 1
    (said,) = shape.fields[0].values
    assert parse(shape, HOURS.upper().replace(",", " -").replace(" ", "\n")) == (said,)
    assert disagreement((said,), parse(shape, HOURS)) == 0.0
    assert disagreement((said,), parse(shape, HOURS.replace("nine", "eight"))) == 1.0


def test_the_text_is_written_as_it_was_most_often() -> None:
    shape = settled([HOURS.lower()] * 4 + [f" {HOURS}\n"] * 9 + ["other"] * 7)
    assert [render(shape, (value,)) for value in shape.fields[0].values] == [HOURS, "other"]
    assert render(shape, ("0" * 16,)) == ""


def test_answers_repeat_from_a_share_of_them() -> None:
    n_repeated = round(100 * MIN_REPEATED)
    fresh = [f"answer number {n}" for n in range(99 - n_repeated)]
    assert isinstance(settle_retrieved([HOURS] * (n_repeated + 1) + fresh, Retrieval()), AnswerShape)
    why = settle_retrieved([HOURS] * n_repeated + [*fresh, "one more"], Retrieval())
    assert isinstance(why, str)
    assert f"{n_repeated - 1} of 100" in why


def test_placeholders_emptiness_and_documents_are_no_answers() -> None:
    assert read_text("Dear <PERSON_1>, we are open.") is None
    assert read_text(" \n") is None
    assert read_text("a " * MAX_TEXT_CHARACTERS) is None
    assert read_text("Press <b>Help</b>") is not None
    assert read_text("!!") not in (None, read_text("??"))


def test_texts_that_overlap_go_by_the_first_of_them_where_that_is_allowed() -> None:
    variants = [HOURS, HOURS.replace("; we are closed", " and closed"), "So: " + HOURS]
    texts = [variants[n % 3] for n in range(21)] + [f"Case {n} is open." for n in range(9)]
    strict, loose = settled(texts), settle_retrieved(texts, Retrieval(min_overlap=0.85))
    assert isinstance(loose, AnswerShape)
    assert (len(strict.fields[0].values), len(loose.fields[0].values)) == (3, 1)
    assert {parse(loose, text) for text in (*variants, HOURS.replace("every", "each"))} == {loose.fields[0].values}
    assert render(loose, loose.fields[0].values) == HOURS
    assert parse(loose, "Something else entirely.") != parse(loose, HOURS)
