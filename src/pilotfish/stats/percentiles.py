"""Percentiles of times, with their interval from order statistics, and none where the rows are too few.

No distribution is assumed: that a percentile lies between two sorted rows has a binomial probability. A p99 of fifty
calls is the largest of them and says nothing, so it is refused below a hundred (p95 below twenty, p90 below ten).

Source: H. David and H. Nagaraja, "Order Statistics" (2003), section 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pilotfish.core.measured import Measured
from pilotfish.stats.binomial import cdf


def percentile(values: Sequence[float], share: float, *, unit: str = "s", confidence: float = 0.95) -> Measured:
    """The `share` quantile of `values` (0.99 for p99), or why there is none.

    `low` or `high` is None where no row bounds it with `confidence` (half of the rest each).
    """
    n = len(values)
    needed = max(1, round(1.0 / min(share, 1.0 - share))) if share != 0.5 else 1
    if n < needed:
        name = f"p{100 * share:g}"
        return Measured(value=None, unit=unit, n=n, why_none=f"{name} needs {needed} calls" if n else "not measured")
    rows = sorted(values)
    delta = (1.0 - confidence) / 2.0
    low, high = _rank_below(n, share, delta), _rank_above(n, share, delta)
    return Measured(
        value=_interpolated(rows, share),
        unit=unit,
        low=None if low is None else rows[low],
        high=None if high is None else rows[high],
        n=n,
        method="order statistics",
    )


def _interpolated(rows: Sequence[float], share: float) -> float:
    place = share * (len(rows) - 1)
    below = math.floor(place)
    above = min(below + 1, len(rows) - 1)
    return rows[below] + (place - below) * (rows[above] - rows[below])


def _rank_below(n: int, share: float, delta: float) -> int | None:
    """The largest index whose row lies above the quantile with probability at most `delta`."""
    # P(row i > quantile) = P(at most i rows lie below it).
    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        if cdf(middle, n, share) <= delta:
            low = middle
        else:
            high = middle
    return low if low >= 0 else None


def _rank_above(n: int, share: float, delta: float) -> int | None:
    """The smallest index whose row lies below the quantile with probability at most `delta`."""
    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        if 1.0 - cdf(middle, n, share) <= delta:
            high = middle
        else:
            low = middle
    return high if high < n else None
