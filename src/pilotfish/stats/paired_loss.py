"""Proving that a paired loss is small: the reference's score less that of the answer given, in [-1, 1].

Most losses are 0, and a negative one (the smaller model was better) counts in favour. Under "the expected loss is above
m" the capital prod(1 + stake * w (m - L)) of a bet with constant stakes in [0, 1] is expected to stay at most 1, and
so is the mean capital of several bets; it reaches 1 / delta with a chance of at most delta (Markov). Rows drawn with
unequal known probabilities carry weights w = least probability / own (D. Horvitz and D. Thompson, JASA 47, 1952),
since E[w (m - L)] then has the sign of m less the mean loss over all traffic. The capital does not depend on the
order of the rows.

Half of the capital is put on the stake that earlier, independent rows say is best, the rest on a fixed grid. A t bound
breaks its promise on such losses, and Clopper-Pearson on a loss of three values is wasteful (measured:
../shared/reference/ routing.md).

Source: I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting" (arXiv 2010.09686).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from pilotfish.stats.binomial import crossing

GRID = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)

Losses = Mapping[tuple[float, float], int]
"""How often each loss in [-1, 1] occurs with each weight in (0, 1]: all that a bet needs to know of the rows."""


class Outlook(NamedTuple):
    """What rows like some earlier ones let expect of a test: the stake that is surest to pass, and by how many standard
    deviations its capital is expected to."""

    stake: float
    margin: float


def log_capital(losses: Losses, margin: float, stake: float) -> float:
    """The log of the mean capital at `margin`; half of it is bet at `stake`, the rest evenly on `GRID`."""
    parts = [(0.5, stake), *((0.5 / len(GRID), size) for size in GRID)]
    logs = [math.log(part) + _log_growth(losses, margin, size) for part, size in parts]
    highest = max(logs)
    return highest + math.log(math.fsum(math.exp(one - highest) for one in logs)) if highest > -math.inf else highest


def passes(losses: Losses, margin: float, stake: float, delta: float) -> bool:
    """Whether the rows show an expected loss of at most `margin` at level 1 - `delta`."""
    return log_capital(losses, margin, stake) >= -math.log(delta)


def upper(losses: Losses, stake: float, delta: float) -> float:
    """The upper bound of the expected loss at level 1 - `delta`; 1 where nothing less can be said."""
    return crossing(lambda margin: -log_capital(losses, margin, stake), math.log(delta), -1.0, 1.0)


def outlook(earlier: Losses, margin: float, n: int, delta: float) -> Outlook:
    """What `n` rows like the earlier ones let expect."""
    found = []
    for stake, mean, spread in _growths(earlier, margin):
        found.append(Outlook(stake, (n * mean - _needed(delta)) / (math.sqrt(n) * spread)))
    return max(found, key=lambda one: one.margin)


def rows_to_pass(earlier: Losses, margin: float, delta: float, *, sure_sd: float) -> float:
    """With how many rows like the earlier ones a test is expected to pass by `sure_sd` deviations; inf for none."""
    least = math.inf
    for _, mean, spread in _growths(earlier, margin):
        if mean > 0.0:
            # n mean - needed = sure_sd sqrt(n) spread, solved for sqrt(n).
            wide = sure_sd * spread
            root = (wide + math.sqrt(wide * wide + 4.0 * mean * _needed(delta))) / (2.0 * mean)
            least = min(least, root * root)
    return least


def _needed(delta: float) -> float:
    """The log-capital that the half bet on the planned stake must reach by itself."""
    return math.log(2.0 / delta)


def _growths(losses: Losses, margin: float) -> list[tuple[float, float, float]]:
    """Each stake of the grid with mean and spread of the log-capital that a row brings.

    A total loss counts as one that leaves a thousandth of the capital: a plan must not end at the first of them.
    """
    rows, most, found = sum(losses.values()), margin + 0.999, []
    for stake in GRID:
        grown = [(math.log1p(stake * w * (margin - min(loss, most))), k) for (loss, w), k in losses.items()]
        mean = math.fsum(growth * k for growth, k in grown) / rows
        spread = math.sqrt(math.fsum(k * (growth - mean) ** 2 for growth, k in grown) / rows)
        found.append((stake, mean, max(spread, 1e-6)))
    return found


def _log_growth(losses: Losses, margin: float, stake: float) -> float:
    total = 0.0
    for (loss, weight), k in losses.items():
        gain = 1.0 + stake * weight * (margin - loss)
        if gain <= 0.0:
            return -math.inf
        total += k * math.log(gain)
    return total
