"""A printed number: value, unit, n, interval, method, or the reason there is none.

It keeps a figure and its uncertainty together on the way from where it is counted to where it is printed, so that
nobody prints a 0 for something that was never measured.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measured figure. `value` is None exactly when `why_none` says why; never 0 or NaN instead."""

    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int = 0
    method: str = ""
    why_none: str = ""

    def to_json(self) -> dict[str, float | int | str | None]:
        """`value`, `low`, `high` and `n`, and `why_none` where there is no value."""
        row: dict[str, float | int | str | None] = {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
        }
        if self.value is None:
            row["why_none"] = self.why_none
        return row
