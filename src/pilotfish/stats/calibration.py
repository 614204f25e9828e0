"""How far stated certainty can be trusted: expected calibration error, Brier score, selective accuracy.

The Brier score needs no bins and stands beside every calibration error, which depends on them. Selective accuracy is
what a cascade lives on: how right the most certain answers are. Pure arithmetic over (certainty, right) pairs.

Sources: HELM (arXiv 2211.09110) for equal-mass bins and selective accuracy; G. Brier, Monthly Weather Review 78 (1950).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Literal


def calibration_error(
    certainty: Sequence[float],
    right: Sequence[float],
    *,
    bins: int = 10,
    equal: Literal["mass", "width"] = "mass",
) -> float:
    """The mean distance between certainty and accuracy over bins, weighed by their rows. ValueError without rows."""
    rows = _sorted(certainty, right)
    n = len(rows)
    groups: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for rank, row in enumerate(rows):
        place = rank * bins // n if equal == "mass" else min(bins - 1, int(row[0] * bins + 1e-12))
        groups[place].append(row)
    return sum(abs(sum(c - r for c, r in group)) for group in groups) / n


def brier(certainty: Sequence[float], right: Sequence[float]) -> float:
    """The mean squared distance between certainty and what came true. ValueError without rows."""
    return fmean((c - r) ** 2 for c, r in _sorted(certainty, right))


def selective_accuracy(certainty: Sequence[float], right: Sequence[float], share: float = 0.1) -> float:
    """The accuracy among the most certain `share` of rows; rows as certain as the last of them count too."""
    rows = _sorted(certainty, right)[::-1]
    least = rows[max(1, round(share * len(rows))) - 1][0]
    return fmean(r for c, r in rows if c >= least)


def risk_coverage_area(certainty: Sequence[float], right: Sequence[float]) -> float:
    """AURC: the mean, over every coverage, of the error rate among the most certain rows; lower is better."""
    rows = _sorted(certainty, right)[::-1]
    wrong, total = 0.0, 0.0
    for n, (_, r) in enumerate(rows, start=1):
        wrong += 1.0 - r
        total += wrong / n
    return total / len(rows)


def _sorted(certainty: Sequence[float], right: Sequence[float]) -> list[tuple[float, float]]:
    if not certainty:
        raise ValueError("Calibration needs at least one row.")
    return sorted(zip(certainty, right, strict=True))
