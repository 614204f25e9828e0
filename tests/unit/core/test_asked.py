"""Where an input has its question, and what is to be read for the answer."""

import pytest

from pilotfish.core.asked import Asked, passage_of, place_of_questions, split

PASSAGE = "The ship left Oslo in the spring of 1911 with nineteen men aboard.\nIt came back two years later."


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{PASSAGE}\n\nQuestion: Who was {{}} aboard?\n", "last"),
        (f"Who was {{}} aboard?\n\n{PASSAGE}", "first"),
    ],
)
def test_the_question_stands_on_the_first_or_last_line(text, place):
    texts = [text.format(name) for name in ("Ada", "Bo", "Cy", "Dee")]
    assert place_of_questions(texts) == place
    asked = split(texts[0], place)
    assert asked.passage == PASSAGE
    assert asked.question.removeprefix("Question: ") == "Who was Ada aboard?"


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([f"{PASSAGE}\nWho came back?"] * 5, id="always the same question"),
        pytest.param([f"Hello {n}\nWhen does shop {n} open?" for n in range(5)], id="no passage"),
        pytest.param([f"{PASSAGE.splitlines()[0]} Who was {n}?" for n in range(5)], id="one line"),
        pytest.param([f"{PASSAGE}\nTell me of {n}." for n in range(5)], id="nothing is asked"),
        pytest.param([], id="nothing"),
    ],
)
def test_other_inputs_have_none(texts):
    assert place_of_questions(texts) is None


def test_a_text_of_one_line_is_all_question():
    assert split("Who?", "last") == Asked(question="Who?", passage="")
    assert passage_of("Who?", None) == "Who?"
