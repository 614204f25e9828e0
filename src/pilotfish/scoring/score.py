"""What a scorer says of one answer, and the failures that every scorer knows.

A failure is a reason why an answer is worth nothing, kept apart from being wrong: no answer could be read from it, it
declines, it was cut off, it came too late, something broke. All of them count as 0. An answer that is right is never a
failure: a reply of one token is "cut off" by its limit and may be the right letter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.scoring.answers import reads_as_refusal
from pilotfish.scoring.closed_sets import folded

MAX_REFUSAL_CHARACTERS = 600
"""A longer text that opens like a refusal says more than that it declines."""

_FINISH = {"length": "truncated", "max_tokens": "truncated", "content_filter": "refusal", "refusal": "refusal"}


class Score(NamedTuple):
    """`value` from 0 (wrong) to 1 (right); `failure` is "", "parse", "refusal", "truncated", "timeout" or "error"."""

    value: float
    failure: str = ""
    note: str = ""


def unread(note: str) -> Score:
    """The score of an answer from which nothing could be read."""
    return Score(0.0, "parse", note)


def with_finish(score: Score, finish_reason: str) -> Score:
    """The score once it is known how the answer ended: one cut off or filtered is a failure, unless it is right."""
    failure = _FINISH.get(finish_reason, "")
    if not failure or score.value == 1.0:
        return score
    return Score(0.0, failure, f"the answer ended with {finish_reason!r}")


def with_refusal(score: Score, item: Item, answer: str) -> Score:
    """The score, a refusal where the answer is not right and opens as refusals do, while the expected one does not."""
    is_candidate = score.value < 1.0 and len(answer) <= MAX_REFUSAL_CHARACTERS and score.failure in ("", "parse")
    if not is_candidate or not reads_as_refusal(folded(answer)):
        return score
    if isinstance(item.expected, str) and reads_as_refusal(folded(item.expected)):
        return score
    return Score(0.0, "refusal", "the answer declines")


def expected(item: Item, scorer: str) -> Any:  # noqa: ANN401 - any JSON value
    """What the item expects. Raises `DataError` where it expects nothing."""
    if item.expected is None:
        raise DataError(
            f"Item {item.id!r} has no expected answer, which the scorer {scorer!r} compares with.",
            hint='Give the row an "expected" value, or choose a judge or a function of your own.',
        )
    return item.expected


def expected_texts(item: Item, scorer: str) -> list[str]:
    """The texts of which any is right. Raises `DataError` where the item expects none."""
    found = expected(item, scorer)
    texts = found if isinstance(found, list) else [found]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"Item {item.id!r}: the scorer {scorer!r} compares with a text or a list of texts, "
            f"but the expected answer is {found!r}."
        )
    return texts or [""]
