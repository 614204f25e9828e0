"""Two models on the same items: their difference, its tests, and how many items it takes to see one.

Everything here is paired: item by item, since two models fail on the same hard items and an unpaired error is half as
large again. Standard library only; what needs thousands of resamples stands in `resampled_pairs.py`, what the
figures are worth in words is decided in `evals/verdict.py`.

Sources: T. Dietterich, Neural Computation 10 (1998) for McNemar; M. Fagerland et al., BMC Med. Res. Methodol. 13 (2013)
for mid-p; T. Tango, Statistics in Medicine 17 (1998) for the score interval; S. Holm, Scand. J. Statist. 6 (1979);
E. Miller, arXiv 2411.00640 for paired and clustered errors.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

from pilotfish.stats.binomial import Interval, cdf, crossing, log_pmf
from pilotfish.stats.resampling import clustered_error

_normal = NormalDist()


class McNemar(NamedTuple):
    """Two-sided p-values of "both are right equally often": exact, mid-p, and chi-squared with continuity."""

    exact: float
    mid_p: float
    chi2: float


class Difference(NamedTuple):
    """The mean of paired differences with its standard error; `n` counts items."""

    mean: float
    error: float
    n: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """The normal interval."""
        half = _normal.inv_cdf(0.5 + confidence / 2.0) * self.error
        return Interval(self.mean - half, self.mean + half)


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """The tests on items that only the first, or only the second, has right; 1 where there are none."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return McNemar(1.0, 1.0, 1.0)
    tail = 2.0 * cdf(fewer, n, 0.5)
    exact = min(1.0, tail)
    mid_p = min(1.0, tail - math.exp(log_pmf(fewer, n, 0.5)))
    chi2 = max(0.0, abs(only_first - only_second) - 1) ** 2 / n
    return McNemar(exact, mid_p, math.erfc(math.sqrt(chi2 / 2.0)))


def difference(differences: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Difference:
    """Mean and error of paired differences; with `clusters` the error is the clustered one.

    Raises ValueError where there is no item. One item has no error that could be known: it is infinite.
    """
    if not differences:
        raise ValueError("A paired difference needs at least one item.")
    n = len(differences)
    if clusters is not None:
        error = clustered_error(differences, clusters) if len(set(clusters)) > 1 else math.inf
    else:
        error = stdev(differences) / math.sqrt(n) if n > 1 else math.inf
    return Difference(fmean(differences), error, n)


def unpaired_error(first: float, second: float, n: int) -> float:
    """The error of a difference of two shares, each of n items, if the pairing is thrown away: for comparison only."""
    return math.sqrt((first * (1.0 - first) + second * (1.0 - second)) / n)


def score_z(only_first: int, only_second: int, n: int, gap: float) -> float:
    """Tango's score statistic of "the true difference (first less second) is `gap`", -1 < gap < 1.

    Unlike the estimate over its error it is finite where no item differs: 0 of 50 differing does not show equality.
    """
    a = 2.0 * n
    b = -only_first - only_second + (2.0 * n - only_first + only_second) * gap
    c = -only_second * gap * (1.0 - gap)
    nuisance = (math.sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a)
    variance = n * (2.0 * nuisance + gap * (1.0 - gap))
    distance = only_first - only_second - n * gap
    if variance <= 1e-12:
        return 0.0 if abs(distance) < 1e-12 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def score_interval(only_first: int, only_second: int, n: int, confidence: float = 0.95) -> Interval:
    """Tango's two-sided interval of the difference of two paired shares; (-1, 1) where n is 0."""
    if n == 0:
        return Interval(-1.0, 1.0)
    z = _normal.inv_cdf(0.5 + confidence / 2.0)
    found = (only_first - only_second) / n
    edge = 1.0 - 1e-9
    low = found if found <= -edge else crossing(lambda gap: score_z(only_first, only_second, n, gap), z, -edge, found)
    high = found if found >= edge else crossing(lambda gap: score_z(only_first, only_second, n, gap), -z, found, edge)
    return Interval(low, high)


def noninferiority_p(only_first: int, only_second: int, n: int, margin: float) -> float:
    """The one-sided p-value of "the first is worse than the second by `margin` or more"; 1 where n is 0."""
    if n == 0:
        return 1.0
    return _normal.cdf(-score_z(only_first, only_second, n, -margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted so that all claims at alpha hold together with 1 - alpha (step-down)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def detectable(n: int, discordance: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that n items show with `power`; `discordance` is the share on which they differ."""
    return (_normal.inv_cdf(1.0 - alpha / 2.0) + _normal.inv_cdf(power)) * math.sqrt(discordance / n)


def items_to_see(gap: float, variance: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Items that show a true difference `gap` (not 0) with `power`; `variance` is that of one item's difference."""
    z = _normal.inv_cdf(1.0 - alpha / 2.0) + _normal.inv_cdf(power)
    return math.ceil(z * z * variance / (gap * gap))


def items_for_margin(margin: float, variance: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Items that show "not worse by `margin`" with `power` if both are equal; `variance` of 0/1 scores: discordance."""
    z = _normal.inv_cdf(1.0 - alpha) + _normal.inv_cdf(power)
    return math.ceil(z * z * variance / (margin * margin))
