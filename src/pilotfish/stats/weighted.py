"""Choosing a threshold from rows that were drawn with unequal, known probabilities.

A row of the traffic comes in with probability p, known before its loss and allowed to depend on the request itself
(the coin of an audit never does, but choosing what to ask about may). Weighted by 1 / p the rows stand for all
traffic again (D. Horvitz and D. Thompson, JASA 47, 1952); exact binomial counts do not hold for them, a bet does.

Drawn rows are independent, and "the risk of serving from t on is above m" says that E[w (m b - s L)] <= 0, with w the
weight, s whether the row is served, L its loss, and b = s per answer, 1 per traffic. The capital
prod(1 + stake * w (m b - s L)) is then a non-negative supermartingale for stakes in [0, 1] set by earlier rows, and
rises above 1 / delta with a chance of at most delta (Ville; I. Waudby-Smith and A. Ramdas, arXiv 2010.09686).
Thresholds are tested in an order fixed beforehand, each at the full delta, until the first that fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pilotfish.stats.binomial import crossing
from pilotfish.stats.bounded import stakes
from pilotfish.stats.sequence import Choice


class Drawn(NamedTuple):
    """Rows in an order that does not depend on their losses (time, say): score, loss in [0, 1] and weight in (0, 1]."""

    scores: Sequence[float]
    losses: Sequence[float]
    weights: Sequence[float]

    def share(self, threshold: float) -> float:
        """The weighted share of rows served from `threshold` on: an estimate of that share of all traffic."""
        served = (w for score, w in zip(self.scores, self.weights, strict=True) if score >= threshold)
        return sum(served) / sum(self.weights) if self.weights else 0.0


def weights(probabilities: Sequence[float]) -> tuple[float, ...]:
    """1 / probability, the largest scaled to 1; empty where all are equal, as then counting is exact.

    ValueError for a probability that is not in (0, 1].
    """
    if not all(0.0 < p <= 1.0 for p in probabilities):
        raise ValueError("Rows must have been drawn with a probability in (0, 1].")
    least = min(probabilities, default=1.0)
    return tuple(least / p for p in probabilities) if any(p != least for p in probabilities) else ()


def choose(
    rows: Drawn, thresholds: Sequence[float], max_risk: float, delta: float, *, per_traffic: bool = False
) -> Choice | None:
    """The last of the planned `thresholds` before the first that fails; None when the first one fails.

    Valid when `thresholds` were fixed without these rows, in this order: with probability at least 1 - `delta` the
    risk of the chosen one over all traffic is at most `max_risk`. `n_served` and `errors` count rows, unweighted.
    """
    passed = None
    for threshold in thresholds:
        bet = _Bet(rows, threshold, delta, per_traffic=per_traffic)
        if bet.log_capital(max_risk) < -math.log(delta):
            break
        passed = (threshold, bet)
    if passed is None:
        return None
    threshold, bet = passed
    served = [loss for score, loss in zip(rows.scores, rows.losses, strict=True) if score >= threshold]
    return Choice(threshold, len(served), sum(served), min(bet.upper(), max_risk))


class _Bet:
    """The bets on one threshold: per row its stake times its weight, b and s L of the module's text."""

    def __init__(self, rows: Drawn, threshold: float, delta: float, *, per_traffic: bool) -> None:
        self._delta = delta
        is_served = [score >= threshold for score in rows.scores]
        lost = [loss if served else 0.0 for loss, served in zip(rows.losses, is_served, strict=True)]
        sizes = stakes([w * loss for w, loss in zip(rows.weights, lost, strict=True)], delta)
        self._rows = [
            (size * w, 1.0 if per_traffic or served else 0.0, loss)
            for size, w, served, loss in zip(sizes, rows.weights, is_served, lost, strict=True)
        ]

    def log_capital(self, risk: float) -> float:
        """The highest log-capital of betting that the risk lies below `risk`; it grows with `risk`."""
        capital = best = 0.0
        for size, base, loss in self._rows:
            gain = 1.0 + size * (risk * base - loss)
            if gain <= 0.0:
                break
            capital += math.log(gain)
            best = max(best, capital)
        return best

    def upper(self) -> float:
        """The upper bound of the risk at level 1 - delta."""
        return crossing(lambda risk: -self.log_capital(risk), math.log(self._delta), 0.0, 1.0)
