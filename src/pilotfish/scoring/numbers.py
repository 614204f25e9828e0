"""Numbers in answers: reading the one that is meant, and comparing it with the expected one.

The number meant is the one after the last "####" (the mark of GSM8K's solutions), else in the last \\boxed{}, else
the last one in the text. Read are signs, thousands separators (comma, apostrophe, no-break space), decimals,
exponents, fractions ("3/4", "1 1/2", "\\frac{3}{4}"). Currency signs, percent signs and units are passed over, never
converted: the expected number must be in the unit that is asked for. Comma decimals ("1,5") are not known.
"""

from __future__ import annotations

import re
from fractions import Fraction

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.scoring.score import Score, expected, unread

MARK = "####"
MAX_DIGITS = 60
"""A run of digits beyond this is no quantity, and exact arithmetic on it would be slow."""

_WHOLE = rf"\d{{1,3}}(?:[,'\u2019\u00a0\u202f]\d{{3}})+(?!\d)|\d{{1,{MAX_DIGITS}}}"
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9])(?<!\d\.)"
    r"(?P<sign>(?<![)\]])[-+])?(?:[$\u20ac\u00a3\u00a5] ?)?"
    rf"(?:(?P<mixed>\d{{1,9}})[ ](?P<over>\d{{1,9}})/(?P<under>\d{{1,9}})(?![\d/.])"
    rf"|(?P<whole>{_WHOLE})?(?P<part>\.\d{{1,{MAX_DIGITS}}})?(?<=\d)(?P<power>[eE][-+]?\d{{1,2}}(?![\dA-Za-z]))?"
    r"(?: ?/ ?(?P<divisor>\d{1,9})(?![\d/.]))?)"
)
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d.]+)\s*\}\s*\{\s*(\d+)\s*\}")
_SEPARATORS = re.compile(r"[,'\u2019\u00a0\u202f]")


def read_number(text: str, *, needs_mark: bool = False) -> Fraction | None:
    """The number that a text gives as its answer, exactly; None where there is none.

    With `needs_mark` only a number after "####" counts (the rule of GSM8K's authors).
    """
    plain = text.replace("\u2212", "-").replace("{,}", ",").replace("\\,", "").replace("\\!", "")
    plain = _FRACTION.sub(r" \1/\2 ", plain)
    if MARK in plain:
        return _first(plain.rpartition(MARK)[2])
    if needs_mark:
        return None
    boxes = _BOXED.findall(plain)
    return _last(boxes[-1]) if boxes else _last(plain)


def score_number(
    item: Item, answer: str, *, tolerance: float = 0.0, relative: float = 1e-9, needs_mark: bool = False
) -> Score:
    """1 where the answer's number is within `tolerance`, or within the share `relative`, of the expected one.

    Raises `DataError` where the expected answer is no number.
    """
    target = expected_number(item)
    found = read_number(answer, needs_mark=needs_mark)
    if found is None:
        return unread(f"no number after {MARK}" if needs_mark or MARK in answer else "no number in the answer")
    allowed = max(Fraction(tolerance), Fraction(relative) * abs(target))
    return Score(1.0 if abs(found - target) <= allowed else 0.0, "", f"read {_shown(found)}")


def expected_number(item: Item) -> Fraction:
    """The number that an item expects. Raises `DataError` where it expects none."""
    value = expected(item, "number")
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    found = read_number(str(value)) if is_number else None
    if found is None:
        raise DataError(f"Item {item.id!r}: the scorer 'number' needs a number as expected answer, got {value!r}.")
    return found


def _first(text: str) -> Fraction | None:
    match = _NUMBER.search(text)
    return _value(match) if match else None


def _last(text: str) -> Fraction | None:
    matches = list(_NUMBER.finditer(text))
    return _value(matches[-1]) if matches else None


def _value(match: re.Match[str]) -> Fraction | None:
    """The value of a match, None for a division by zero."""
    if match["mixed"]:
        if not int(match["under"]):
            return None
        value = int(match["mixed"]) + Fraction(int(match["over"]), int(match["under"]))
    else:
        whole = _SEPARATORS.sub("", match["whole"] or "0")
        divisor = int(match["divisor"] or 1)
        if not divisor:
            return None
        value = Fraction(whole + (match["part"] or "") + (match["power"] or "")) / divisor
    return -value if match["sign"] == "-" else value


def _shown(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):g}"
