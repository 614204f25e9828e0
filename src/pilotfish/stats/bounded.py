"""Bounds for the mean of losses in [0, 1] that are not 0 or 1: field agreement, F1, judge scores.

Two methods that hold for every distribution of independent losses (for 0/1 losses the exact binomial
is tighter than both).

Sources: S. Bates et al., "Distribution-free, risk-controlling prediction sets" (2021) for
Hoeffding-Bentkus; I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by
betting" (arXiv 2010.09686) for betting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pilotfish.stats.binomial import cdf, crossing


def hoeffding_bentkus(mean: float, n: int, risk: float) -> float:
    """The p-value of "the expected loss is above `risk`" when `n` independent losses average `mean`."""
    if n == 0 or mean >= risk:
        return 1.0
    rest = (1.0 - mean) * math.log((1.0 - mean) / (1.0 - risk))
    divergence = rest + (mean * math.log(mean / risk) if mean > 0.0 else 0.0)
    # 1e-9 keeps a sum that is a whole number in truth from being rounded down past it.
    count = math.ceil(n * mean - 1e-9)
    return min(1.0, math.exp(-n * divergence), math.e * cdf(count, n, risk))


def hoeffding_bentkus_upper(mean: float, n: int, delta: float) -> float:
    """The upper bound of the expected loss at level 1 - `delta`; 1 where nothing less can be said."""
    if n == 0 or mean >= 1.0:
        return 1.0
    return crossing(lambda risk: hoeffding_bentkus(mean, n, risk), delta, mean, 1.0)


def betting_p_value(losses: Sequence[float], risk: float, delta: float) -> float:
    """The p-value of "the expected loss is above `risk`", by betting; `delta` only tunes the stakes.

    The losses must come in an order that does not depend on their values (time, say).
    """
    return min(1.0, math.exp(-_best_log_capital(losses, stakes(losses, delta), risk)))


def betting_upper(losses: Sequence[float], delta: float) -> float:
    """The upper bound of the expected loss at level 1 - `delta`, by betting with predictable plug-in stakes.

    The capital 1 - stake * (loss - m), multiplied up over the rows, is a martingale for the true mean m, and
    rises above 1 / `delta` with a chance of at most `delta` (Ville). Every m for which it does is ruled out.
    """
    if not losses:
        return 1.0
    sizes = stakes(losses, delta)
    return crossing(lambda m: -_best_log_capital(losses, sizes, m), math.log(delta), 0.0, 1.0)


def stakes(losses: Sequence[float], delta: float) -> list[float]:
    """Each row's stake in [0, 1], from the variance of the rows before it; `delta` only tunes them."""
    scale = 2.0 * math.log(1.0 / delta) / max(1, len(losses))
    total, squares = 0.5, 0.25
    sizes = []
    for seen, loss in enumerate(losses, start=1):
        sizes.append(min(1.0, math.sqrt(scale * seen / squares)))
        total += loss
        squares += (loss - total / (seen + 1)) ** 2
    return sizes


def _best_log_capital(losses: Sequence[float], sizes: Sequence[float], mean: float) -> float:
    """The highest log-capital of betting that the losses lie below `mean`; it grows with `mean`."""
    capital = best = 0.0
    for loss, stake in zip(losses, sizes, strict=True):
        gain = 1.0 + stake * (mean - loss)
        if gain <= 0.0:
            break
        capital += math.log(gain)
        best = max(best, capital)
    return best
