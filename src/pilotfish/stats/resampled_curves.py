"""How sure a router's figures are, and whether it is better than chance: seeded resamples of whole requests.

A resample is drawn as how often each request occurs, so that the sort is done once. For reports and for choosing
signals; the certificate of a route rests on neither.

Sources: B. Efron and R. Tibshirani (1993), percentile interval; E. Pitman (1937), permutation test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pilotfish.core.errors import MissingExtraError
from pilotfish.stats.binomial import Interval

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("local", "numpy") from error

Floats = NDArray[np.float64]

REPEATS = 1_000
PERMUTATIONS = 4_000
_CELLS_AT_ONCE = 2_000_000


def apgr_interval(
    needs: Sequence[float],
    gains: Sequence[float],
    *,
    confidence: float = 0.95,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Interval | None:
    """The bootstrap interval of `stats.routing.apgr`; None where more than a hundredth of resamples have no gap."""
    drawn = np.concatenate(list(_drawn_apgr(np.asarray(needs, float), np.asarray(gains, float), repeats, seed)))
    kept = drawn[np.isfinite(drawn)]
    if len(kept) < 0.99 * repeats:
        return None
    cut = (1.0 - confidence) / 2.0
    low, high = np.quantile(kept, [cut, 1.0 - cut])
    return Interval(float(low), float(high))


def better_than_chance(
    needs: Sequence[float], gains: Sequence[float], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """The one-sided p-value of "these needs order the gains no better than chance", by permuting them.

    The observed order counts as a draw, so it is never 0 and the test never too good, whatever the gains are like.
    """
    ranks, values = _mid_ranks(np.asarray(needs, float)), np.asarray(gains, float)
    values = values - values.mean()
    observed = float(ranks @ values)
    rng = np.random.default_rng(seed)
    as_good, step = 0, max(1, _CELLS_AT_ONCE // max(1, len(values)))
    for start in range(0, permutations, step):
        rows = np.tile(values, (min(step, permutations - start), 1))
        as_good += int((rng.permuted(rows, axis=1) @ ranks >= observed - 1e-9 * (1.0 + abs(observed))).sum())
    return (1 + as_good) / (1 + permutations)


def _drawn_apgr(needs: Floats, gains: Floats, repeats: int, seed: int) -> list[Floats]:
    n = len(needs)
    order = np.argsort(-needs, kind="stable")
    falling, values = needs[order], gains[order]
    # Compared, not subtracted: what cannot be told is infinite, and all of that is one tie.
    starts = np.flatnonzero(np.r_[True, falling[1:] != falling[:-1]])
    rng = np.random.default_rng(seed)
    step, parts = max(1, _CELLS_AT_ONCE // n), []
    for start in range(0, repeats, step):
        # The counts are drawn for the requests as they came, so that two routers meet the same resamples.
        counts = rng.multinomial(n, np.full(n, 1.0 / n), size=min(step, repeats - start))[:, order]
        sizes = np.add.reduceat(counts, starts, axis=1)
        gained = np.add.reduceat(counts * values, starts, axis=1)
        before = np.cumsum(gained, axis=1) - gained / 2.0
        gap = gained.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append(np.where(gap > 0.0, (sizes * before).sum(axis=1) / (n * gap), math.nan))
    return parts


def _mid_ranks(needs: Floats) -> Floats:
    """Ranks from the least need up, ties sharing theirs, centred."""
    _, inverse, counts = np.unique(needs, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2.0
    ranks: Floats = middle[inverse] - len(needs) / 2.0
    return ranks
