"""Exact intervals for a share: k of n, standard library only.

Probabilities come from Loader's saddle-point expansion and exact sums of the tail, bounds from
bisection; both are good to about 1e-12, so that a certificate can be checked without numpy or scipy.
What a bound is used for (thresholds, certificates) is not known here.

Sources: C. Loader, "Fast and accurate computation of binomial probabilities" (2000); C. Clopper and
E. Pearson, Biometrika 26 (1934); E. Wilson, JASA 22 (1927).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


def log_pmf(k: int, n: int, p: float) -> float:
    """The logarithm of P(X = k) for X ~ Binomial(n, p); -inf where that is impossible."""
    if not 0 <= k <= n:
        return -math.inf
    if p <= 0.0 or p >= 1.0:
        return 0.0 if k == (0 if p <= 0.0 else n) else -math.inf
    if k == 0:
        return n * math.log1p(-p)
    if k == n:
        return n * math.log(p)
    rest = n - k
    exponent = _stirling_error(n) - _stirling_error(k) - _stirling_error(rest)
    exponent -= _deviance(k, n * p) + _deviance(rest, n * (1.0 - p))
    return exponent + 0.5 * math.log(n / (2.0 * math.pi * k * rest))


def cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p), summed exactly from the nearer tail."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0.0:
        return 1.0
    if p >= 1.0:
        return 0.0
    if k > n * p:
        return 1.0 - cdf(n - k - 1, n, 1.0 - p)
    odds = (1.0 - p) / p
    term = total = 1.0
    for i in range(k, 0, -1):
        term *= i * odds / (n - i + 1)
        total += term
        if term < 1e-17 * total:
            break
    return math.exp(log_pmf(k, n, p)) * total


def upper(k: int, n: int, delta: float) -> float:
    """The one-sided Clopper-Pearson bound: P(p <= bound) >= 1 - `delta` whatever p is; 1 where n is 0.

    It is the largest p with cdf(k, n, p) >= `delta`, rounded up, so `cdf(k, n, alpha) <= delta`
    (the exact test of "p > alpha") and `upper(k, n, delta) <= alpha` say the same.
    """
    if k >= n:
        return 1.0
    if k == 0:
        return -math.expm1(math.log(delta) / n)
    return crossing(lambda p: cdf(k, n, p), delta, k / n, 1.0)


def lower(k: int, n: int, delta: float) -> float:
    """The one-sided Clopper-Pearson lower bound at level 1 - `delta`; 0 where n is 0."""
    return 1.0 - upper(n - k, n, delta)


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """The exact two-sided interval: each tail gets half of 1 - `confidence`."""
    delta = (1.0 - confidence) / 2.0
    return Interval(lower(k, n, delta), upper(k, n, delta))


def wilson(k: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval: approximate, right on average over p, and honest at 0 of n. (0, 1) where n is 0."""
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share = k / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    scale = 1.0 + z * z / n
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def mid_p_upper(k: int, n: int, delta: float) -> float:
    """The one-sided mid-p bound: half of P(X = k) is left out of the tail.

    Shorter than `upper`, and on average over p nearer to 1 - `delta`, but for single values of p its
    coverage falls below that: good for reports, never for a certificate.
    """
    if k >= n:
        return 1.0
    return crossing(lambda p: cdf(k, n, p) - 0.5 * math.exp(log_pmf(k, n, p)), delta, k / n, 1.0)


def allowed_errors(n: int, risk: float, delta: float) -> list[int]:
    """For each m in 0..n the largest k with cdf(k, m, `risk`) <= `delta`, -1 where there is none.

    One pass of O(n): the row of Pascal's triangle at the border is updated, and wherever rounding
    could decide (1e-9 of `delta`) or 1,000 steps have passed, the exact sum is taken instead.
    """
    if not 0.0 < risk < 1.0:
        raise ValueError(f"A risk strictly between 0 and 1 is needed, not {risk!r}.")
    allowed = [-1]
    k, tail, mass = -1, 0.0, 0.0
    for m in range(1, n + 1):
        if k >= 0:
            tail -= risk * mass
            mass *= (1.0 - risk) * m / (m - k)
            following = mass * (m - k) / (k + 1) * risk / (1.0 - risk)
        else:
            following = math.exp(log_pmf(0, m, risk))
        if abs(tail + following - delta) < 1e-9 * delta or m % 1000 == 0:
            tail, following = cdf(k, m, risk), math.exp(log_pmf(k + 1, m, risk))
            mass = math.exp(log_pmf(k, m, risk))
            is_more = cdf(k + 1, m, risk) <= delta
        else:
            is_more = tail + following <= delta
        if is_more:
            k, tail, mass = k + 1, tail + following, following
        allowed.append(k)
    return allowed


def smallest_n(risk: float, delta: float) -> int:
    """How many rows without a single error show "at most `risk`" at level 1 - `delta`."""
    n = max(1, math.ceil(math.log(delta) / math.log1p(-risk)) - 1)
    while cdf(0, n, risk) > delta:
        n += 1
    return n


def crossing(falling: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Where a falling function of [`low`, `high`] drops to `level`, rounded up by at most 1e-14."""
    while high - low > 1e-14:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if falling(middle) > level:
            low = middle
        else:
            high = middle
    return high


def _stirling_error(n: int) -> float:
    """log(n!) less Stirling's formula."""
    if n < 16:
        return math.lgamma(n + 1.0) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2.0 * math.pi)
    square = 1.0 / (n * n)
    inner = 1 / 1260 - square * (1 / 1680 - square / 1188)
    return (1 / 12 - square * (1 / 360 - square * inner)) / n


def _deviance(x: float, mean: float) -> float:
    """x log(x / mean) + mean - x without cancellation."""
    if abs(x - mean) >= 0.1 * (x + mean):
        return x * math.log(x / mean) + mean - x
    v = (x - mean) / (x + mean)
    total = (x - mean) * v
    term = 2.0 * x * v
    for j in range(1, 1000):
        term *= v * v
        grown = total + term / (2 * j + 1)
        if grown == total:
            break
        total = grown
    return total
