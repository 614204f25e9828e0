"""Which rows teach and which certify.

Calibration rows are the most recent *unbiased* ones; all rows before the first of them teach, deferred ones
included. Deferred rows are a biased sample and never certify. Nothing later than the first calibration row
teaches: which requests were deferred depends on earlier certificates, and so on rows that may calibrate again.
The choice looks at times and samplings only, never at a text or an answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.core.example import Example
from pilotfish.core.ids import sha256

MOST_CALIBRATION_ROWS = 3000
FEWEST_CALIBRATION_ROWS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Positions in the given examples, each list in time order, and the rule in words."""

    fit: list[int]
    calibration: list[int]
    rule: str


def split(examples: Sequence[Example], *, after_s: float | None = None, fresh_since_s: float | None = None) -> Split:
    """Splits by time (rows of one time stay in the given order). No row up to `fresh_since_s` calibrates.

    With `after_s` rows up to that time teach and the unbiased ones after it calibrate, the earliest 3,000 at most:
    fresh rows that no earlier certificate or specialist has seen.
    """
    ordered = sorted(range(len(examples)), key=lambda i: examples[i].time_s)
    fresh = -math.inf if fresh_since_s is None else fresh_since_s
    unbiased = [place for place, i in enumerate(ordered) if examples[i].is_unbiased and examples[i].time_s > fresh]
    if after_s is None:
        size = calibration_size(len(unbiased))
        calibration = unbiased[len(unbiased) - size :]
        first = calibration[0] if calibration else len(ordered)
        rule = f"calibration: the most recent {size} of {len(unbiased)} unbiased rows; fitting: all rows before them"
    else:
        first = sum(row.time_s <= after_s for row in examples)
        calibration = [place for place in unbiased if place >= first][:MOST_CALIBRATION_ROWS]
        rule = f"calibration: {len(calibration)} unbiased rows after {after_s:.17g} s; fitting: all rows up to then"
    return Split(fit=ordered[:first], calibration=[ordered[place] for place in calibration], rule=rule)


def calibration_size(n_unbiased: int) -> int:
    """How many of the unbiased rows calibrate: 40 % up to 1,000, falling to 20 % at 10,000; 300 to 3,000 rows.

    Never more than half. A certificate at few rows is limited by the test, at many by the student.
    """
    decades = min(1.0, max(0.0, math.log10(max(1, n_unbiased) / 1000)))
    wanted = round(n_unbiased * (0.4 - 0.2 * decades))
    return min(max(wanted, FEWEST_CALIBRATION_ROWS), MOST_CALIBRATION_ROWS, n_unbiased // 2)


def unbiased_rows_for(n_calibration: int) -> int | None:
    """How many unbiased rows give `n_calibration` calibration rows; None where no number does."""
    if n_calibration > MOST_CALIBRATION_ROWS:
        return None
    low, high = 0, 5 * MOST_CALIBRATION_ROWS + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if calibration_size(middle) >= n_calibration else (middle, high)
    return high


def data_sha256(rows: Sequence[Example], n_votes: int = 1) -> str:
    """The fingerprint of calibration rows: request id, text and answer of each, in order, with the votes behind it."""
    votes = [[row.said[:n_votes]] if n_votes > 1 else [] for row in rows]
    lines = (
        json.dumps([row.request_id, row.text, row.answer, *said], separators=(",", ":"))
        for row, said in zip(rows, votes, strict=True)
    )
    return sha256("\n".join(lines).encode("ascii"))
