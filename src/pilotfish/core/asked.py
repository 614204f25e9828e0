"""A question and its passage in one input: which line asks, and what is to be read for the answer.

Prompts of this kind put the passage first and the question last, or the other way round, on lines of their own
("Context: ...", then "Question: ..."). The same split serves the survey that recognises such a task, the student that
learns it, the specialist that answers it and whoever writes the answer, so that all mean one passage. Standard library
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Place = Literal["first", "last"]
"""The line of an input that asks."""

PLACES: tuple[Place, ...] = ("last", "first")

MIN_SHARE = 0.8
"""Of the inputs that must hold a question in the same place; as of answers that fit a shape."""

MIN_PASSAGE_WORDS = 8
"""On average; what is shorter is a request with a question in it."""

_ENDS = ("?", "?”", '?"', "\uff1f", "\u061f")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The `question`, and the `passage` that is to be read for its answer; empty where a text has only one line."""

    question: str
    passage: str


def split(text: str, place: Place) -> Asked:
    """The question of a text, which stands on its first or last line that is not blank, and the rest."""
    bare = text.strip()
    if place == "first":
        question, _, passage = bare.partition("\n")
    else:
        passage, _, question = bare.rpartition("\n")
    return Asked(question=question.strip(), passage=passage.strip())


def place_of_questions(texts: Sequence[str]) -> Place | None:
    """Where nearly all of these texts have their question; None where they have none, or it is always the same."""
    for place in PLACES:
        found = [split(text, place) for text in texts]
        asking = [one for one in found if one.passage and one.question.endswith(_ENDS)]
        n_words = sum(len(one.passage.split()) for one in asking)
        if (
            asking
            and len(asking) >= MIN_SHARE * len(texts)
            and n_words >= MIN_PASSAGE_WORDS * len(asking)
            and 2 * len({one.question for one in asking}) > len(asking)
        ):
            return place
    return None


def passage_of(text: str, place: Place | None) -> str:
    """What is to be read of a text: all of it where there is no question."""
    return text if place is None else split(text, place).passage
