"""Intervals for figures without a formula, and for rows that come in clusters.

Approximate by nature (they grow right with n): for reports, never for a certificate.

Sources: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13;
E. Miller, "Adding error bars to evals" (arXiv 2411.00640) for clustered errors.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist, fmean

from pilotfish.stats.binomial import Interval


def bootstrap(
    values: Sequence[float],
    statistic: Callable[[Sequence[float]], float] = fmean,
    *,
    confidence: float = 0.95,
    repeats: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The percentile interval of `statistic` over resampled rows. ValueError where there is no row."""
    if not values:
        raise ValueError("A bootstrap needs at least one row.")
    source = random.Random(seed)
    figures = sorted(statistic(source.choices(values, k=len(values))) for _ in range(repeats))
    cut = (1.0 - confidence) / 2.0 * (repeats - 1)
    return Interval(figures[math.floor(cut)], figures[math.ceil(repeats - 1 - cut)])


def clustered_error(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """The standard error of the mean when rows of one cluster (a conversation, a passage) move together.

    Residuals are summed within a cluster before they are squared; with one row a cluster this is the
    usual error with n, not n - 1.
    """
    mean = fmean(values)
    sums: defaultdict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - mean
    return math.sqrt(sum(total * total for total in sums.values())) / len(values)


def clustered_interval(values: Sequence[float], clusters: Sequence[Hashable], confidence: float = 0.95) -> Interval:
    """The normal interval of the mean with the clustered error."""
    mean, error = fmean(values), clustered_error(values, clusters)
    half = NormalDist().inv_cdf(0.5 + confidence / 2.0) * error
    return Interval(mean - half, mean + half)
