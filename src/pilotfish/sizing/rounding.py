"""Whether a rounded number, as people write it, stands for an exact one.

"7B" stands for 6 to 8 billion: a unit of the last digit that is given, in both directions, since sizes are cut off as
often as rounded. A little beyond that is neither right nor wrong. "Over", "up to" and "about" widen it as they say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "mn": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9}
_SCALES |= {"t": 1e12, "trillion": 1e12}
NEITHER = 0.03
"""Relative distance within which a number that does not fit is not called wrong."""
EXACT = ("layers", "heads", "kv_heads", "hidden")
"""Quantities that nobody rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A number as written: its value, a unit of its last digit, and what qualifies it."""

    text: str
    value: float
    unit: float
    bound: Literal["", "at least", "at most", "about"] = ""


def parse(number: str, scale: str = "", qualifier: str = "") -> Said:
    """`1.5` and `billion`: 1.5e9, known to 1e8."""
    digits = number.replace(",", "")
    factor = _SCALES.get(scale.strip(" -").lower(), 1.0)
    whole, _, fraction = digits.partition(".")
    zeros = len(whole) - len(whole.rstrip("0")) if not fraction else -len(fraction)
    text = " ".join(f"{qualifier.strip()} {number} {scale.strip(' -')}".split())
    return Said(text=text, value=float(digits) * factor, unit=10.0**zeros * factor, bound=_bound(qualifier))


def fits(said: Said, value: float, quantity: str) -> bool | None:
    """True, False, or None where the number is neither right nor clearly wrong."""
    if quantity in EXACT:
        return value == said.value if said.bound == "" else None
    if quantity == "context":
        return _context(said, value)
    if said.bound == "at least":
        return _within(value, 0.97 * said.value, 3 * said.value, 0.85 * said.value, float("inf"))
    if said.bound == "at most":
        return _within(value, said.value / 1.5, 1.03 * said.value, 0, 1.2 * said.value)
    unit = min(said.unit, 0.35 * said.value)
    if said.bound == "about":
        unit = max(unit, 0.1 * said.value)
    if abs(value - said.value) <= unit * (1 + 1e-9):
        return True
    return None if abs(value - said.value) <= unit + NEITHER * value else False


def _context(said: Said, value: float) -> bool | None:
    """`32K` is 32,000 or 32,768; other numbers within 5 %."""
    meant = (said.value, said.value * 1.024)
    if any(abs(value - one) <= 0.05 * value for one in meant):
        return True
    if said.bound in ("at least", "at most"):
        return None
    return None if any(abs(value - one) <= 0.2 * value for one in meant) else False


def _within(value: float, low: float, high: float, wrong_below: float, wrong_above: float) -> bool | None:
    if low <= value <= high:
        return True
    return False if value < wrong_below or value > wrong_above else None


def _bound(qualifier: str) -> Literal["", "at least", "at most", "about"]:
    word = qualifier.strip().lower()
    if re.fullmatch(r"over|more than|at least|above|exceeding|upwards of", word):
        return "at least"
    if re.fullmatch(r"up to|under|less than|fewer than|at most|below|nearly|almost|close to", word):
        return "at most"
    return "about" if word in ("about", "around", "roughly", "approximately", "some", "~", "circa", "approx.") else ""
