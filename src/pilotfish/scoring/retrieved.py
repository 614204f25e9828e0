"""Retrieved answers: whole texts that the reference gives again and again (common questions, canned replies).

It tells from a task's answers whether enough of them repeat, names each text by a fingerprint in which spaces, case and
punctuation do not count, and gives the text back as it was given most often. Two answers agree where their fingerprints
are equal; where the user allows it, an answer also goes by the name of the past one that it overlaps most in words. No
model judges likeness. A text with a placeholder of masked data is no answer for anybody else and never kept. Standard
library only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from pilotfish.core.ids import fingerprint
from pilotfish.core.task import NO_PAST_ANSWER, AnswerShape, Field, Retrieval
from pilotfish.scoring.closed_sets import MAX_VALUES
from pilotfish.scoring.word_overlap import Near, words_of

MIN_REPEATED = 0.4
"""Share of the answers that had been given before. With less, as in a closed task that turns into prose, most answers
would have to be told from those that can be given again, to serve little."""

MIN_ANSWERS = 20
"""Below this, a greeting that came twice looks like a habit."""

MAX_TEXT_CHARACTERS = 8192
"""Longer answers are documents; the registry holds the texts of up to 512 answers a task."""

_PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]*_[0-9]+>")


def read_text(text: str) -> str | None:
    """The fingerprint of an answer; None where it is empty, too long, or holds a placeholder of masked data."""
    bare = text.strip()
    if not bare or len(bare) > MAX_TEXT_CHARACTERS or _PLACEHOLDER.search(bare):
        return None
    return fingerprint(" ".join(words_of(bare)) or bare)


def read_past(shape: AnswerShape, text: str) -> str | None:
    """The value of an answer in a shape: that of the past answer it agrees with, else its own fingerprint."""
    value = read_text(text)
    least = shape.retrieval.min_overlap if shape.retrieval is not None else 1.0
    if value is None or least >= 1.0 or value in shape.fields[0].values:
        return value
    nearest = _near(shape.style, least).nearest(words_of(text))
    return value if nearest is None else shape.style[nearest][0]


def settle_retrieved(texts: Iterable[str], retrieval: Retrieval, own: Sequence[str] = ()) -> AnswerShape | str:
    """The shape of a task whose answers repeat, or why they are no retrieved ones.

    The values are those given more than once, and the user's `own`, which count as given before: the most frequent
    `MAX_VALUES` of them, most frequent first.
    """
    answers = [text for text in texts if text.strip()]
    if len(answers) < MIN_ANSWERS:
        return f"{len(answers)} answers; {MIN_ANSWERS} are needed to tell whether they repeat"
    all_values = _values([*own, *answers], retrieval.min_overlap)
    values, mine = all_values[len(own) :], {value for value in all_values[: len(own)] if value is not None}
    counts = Counter(value for value in values if value is not None)
    n_repeated = sum(counts.values()) - len(counts.keys() - mine)
    if n_repeated < MIN_REPEATED * len(answers):
        return f"{n_repeated} of {len(answers)} answers had been given before; {MIN_REPEATED:.0%} are needed"
    counts.update(dict.fromkeys(sorted(mine), 1))
    kept = tuple(value for value, n in counts.most_common(MAX_VALUES) if n > 1 or value in mine)
    surfaces: dict[str, Counter[str]] = {value: Counter() for value in kept}
    for value, text in zip(values + all_values[: len(own)], [*answers, *own], strict=True):
        if value in surfaces and value == read_text(text):
            surfaces[value][text.strip()] += 1
    return AnswerShape(
        kind="retrieved",
        fields=(Field(name="", values=kept),),
        style=tuple((value, found.most_common(1)[0][0]) for value, found in surfaces.items()),
        retrieval=retrieval,
    )


def render_text(shape: AnswerShape, values: Sequence[str]) -> str:
    """The text of a value, empty where the shape knows none (any more): then nothing may be served."""
    return next((text for value, text in shape.style if value == values[0] != NO_PAST_ANSWER), "")


def _values(answers: Sequence[str], least: float) -> list[str | None]:
    """The value of each answer: its own fingerprint, or that of the first one that it overlaps by `least`."""
    if least >= 1.0:
        return [read_text(text) for text in answers]
    near, firsts = Near(least), list[str]()
    known: dict[str, str] = {}
    values: list[str | None] = []
    for text in answers:
        own = read_text(text)
        if own is not None and own not in known:
            words = words_of(text)
            nearest = near.nearest(words)
            if nearest is None:
                near.add(words)
                firsts.append(own)
            known[own] = own if nearest is None else firsts[nearest]
        values.append(None if own is None else known[own])
    return values


@lru_cache(maxsize=64)
def _near(style: tuple[tuple[str, str], ...], least: float) -> Near:
    return Near(least, (text for _, text in style))
