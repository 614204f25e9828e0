"""How an extracted value stands in a text: verbatim, as a number, or as a date.

A text is split into words; a value stands in it where a run of whole words has the value's canonical form. The same
split and the same forms serve the survey that recognises a task, the student that learns it and the specialist that
answers, so that a value that stands in no text can be neither taught nor given. Standard library only.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Source = Literal["closed", "span", "number", "date"]
"""Where a field's value comes from: a closed set, or the input, copied, read as a number or read as a date."""

NOTHING = "null"
"""The canonical value of a field without one: null, an empty text or list, and a key left out say the same."""

MAX_RUN = 6
"""Words of a number or a date: `2024-03-05` has five, `1,234,567` too."""

MAX_SPAN_WORDS = 40
"""A longer copy of the input is a summary or a translation left undone, not a value."""

_WORD = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,9})?")
_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_DAY_MONTH = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?(?:\s+of)?[\s-]+([a-z]{3,9})\.?,?[\s-]+(\d{4})")
_MONTH_DAY = re.compile(r"([a-z]{3,9})\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})")
_IN_FIGURES = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})")

_ONES_TEXT = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_TENS_TEXT = "twenty thirty forty fifty sixty seventy eighty ninety"
_MONTHS_TEXT = "january february march april may june july august september october november december"
_MONTHS = _MONTHS_TEXT.split()
_NUMBER_WORDS = {word: number for number, word in enumerate(_ONES_TEXT.split())} | {
    word: 10 * number for number, word in enumerate(_TENS_TEXT.split(), 2)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A text with the places of its words: runs of letters and digits, and every other sign that is no space.

    `folded` are the words without their case.
    """

    text: str
    places: tuple[tuple[int, int], ...]
    folded: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Words:
        """The words of `text`."""
        found = list(_WORD.finditer(text))
        return cls(
            text=text,
            places=tuple(match.span() for match in found),
            folded=tuple(match[0].casefold() for match in found),
        )

    def __len__(self) -> int:
        return len(self.places)

    def between(self, first: int, end: int) -> str:
        """What stands in the text from word `first` to before word `end`, spaces between included."""
        return self.text[self.places[first][0] : self.places[end - 1][1]]


def canonical(source: Source, written: str) -> str | None:
    """The canonical value (a JSON literal) of what stands in a text; None where it is none of that source."""
    return _READERS[source](written)


def places(source: Source, value: str, words: Words) -> Iterator[tuple[int, int]]:
    """The runs of words (first, end) that have the canonical value, from left to right; of several that start at one
    word the longest."""
    if source == "span":
        sought = tuple(json.loads(value).split())
        for first in range(len(words) - len(sought) + 1 if sought else 0):
            if words.folded[first : first + len(sought)] == sought:
                yield first, first + len(sought)
        return
    for first in range(len(words)):
        for end in range(min(first + MAX_RUN, len(words)), first, -1):
            if canonical(source, words.between(first, end)) == value:
                yield first, end
                break


def of_json(source: Source, found: object) -> str | None:
    """The canonical value of a JSON scalar as the reference gives it; None where a field of that source has none such.

    A number is a JSON number, a date a text in ISO 8601, a span any text.
    """
    if source == "number":
        if isinstance(found, bool) or not isinstance(found, int | float):
            return None
        return _plain(Decimal(str(found))) if abs(found) < 1e15 else None
    if not isinstance(found, str):
        return None
    if source == "date" and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", found):
        return None
    return canonical(source, found)


def _span(written: str) -> str | None:
    words = _WORD.findall(written)
    if not words or len(words) > MAX_SPAN_WORDS:
        return None
    return json.dumps(" ".join(words).casefold(), ensure_ascii=False)


def _number(written: str) -> str | None:
    bare = written.casefold()
    if _NUMBER.fullmatch(bare):
        return _plain(Decimal(bare.replace(",", "")))
    tens, _, ones = bare.replace("-", " ").partition(" ")
    value, rest = _NUMBER_WORDS.get(tens), _NUMBER_WORDS.get(ones.strip())
    if value is None or (ones and (rest is None or value < 20 or not 0 < rest < 10)):
        return None
    return str(value + (rest or 0))


def _plain(value: Decimal) -> str:
    """The number without trailing zeros or an exponent."""
    shown = f"{value:f}"
    if "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def _date(written: str) -> str | None:
    bare = " ".join(written.casefold().split())
    if match := _ISO.fullmatch(bare):
        return _iso(match[1], match[2], match[3])
    if match := _DAY_MONTH.fullmatch(bare):
        return _iso(match[3], _month(match[2]), match[1])
    if match := _MONTH_DAY.fullmatch(bare):
        return _iso(match[3], _month(match[1]), match[2])
    if match := _IN_FIGURES.fullmatch(bare):
        # 05/03/2024 is a day in March or in May; only where one of the two cannot be a month is it read.
        first, second = int(match[1]), int(match[2])
        if first == second or max(first, second) > 12:
            day, month = max(first, second), min(first, second)
            return _iso(match[3], month, day)
    return None


def _month(name: str) -> int:
    return next((number for number, month in enumerate(_MONTHS, 1) if month.startswith(name)), 0)


def _iso(year: str, month: str | int, day: str | int) -> str | None:
    try:
        return json.dumps(datetime.date(int(year), int(month), int(day)).isoformat())
    except ValueError:
        return None


def _closed(written: str) -> str | None:
    return None


_READERS: dict[Source, Callable[[str], str | None]] = {
    "closed": _closed,
    "span": _span,
    "number": _number,
    "date": _date,
}
