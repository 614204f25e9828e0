"""Has a stream of scores changed? Conformal ranks, and bets against their being uniform.

*Ranks.* The randomised rank of each score among those before it, ties broken by chance, is uniform in [0, 1] and
independent of the earlier ranks while the scores are exchangeable, whatever their distribution. Scores are kept as
counts in bins fixed beforehand. Binning is a score itself, so the ranks stay exact, and cost the same after a year.

*Bets* that a tenth of the requests has moved into one tail, in Shiryaev and Roberts' form: new ones begin with every
rank, and all are added up. While ranks are uniform, the sum minus their number is a martingale. So it reaches a `limit`
c within n ranks with probability at most n / c, and on average not before c. Since fresh bets begin at every rank, none
has to jump from tail to tail as in the simple jumper.

Sources: V. Vovk, "Testing randomness online", Statistical Science 36 (2021); V. Vovk and others, "Retrain or not
retrain: conformal test martingales for change-point detection", PMLR 152 (2021).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BINS = 64
# Where a tenth of the requests may have moved: the lowest 5, 10, 20 and 40 % of the scores, or the highest 20 %.
_MOVED = 0.1
_LOW_TAILS = (0.05, 0.1, 0.2, 0.4)
_HIGH_TAIL = 0.2


def _inside(tail: float) -> float:
    """The density of ranks inside a tail when `_MOVED` of them have moved there; outside it is 1 - `_MOVED`."""
    return 1.0 - _MOVED + _MOVED / tail


_LOW = tuple((tail, _inside(tail)) for tail in _LOW_TAILS)
_HIGH = (1.0 - _HIGH_TAIL, _inside(_HIGH_TAIL))
_N_BETS = len(_LOW) + 1


@dataclass(slots=True)
class Ranks:
    """How many scores fell into each bin; bin i holds those from edge i - 1 up to, not including, edge i."""

    edges: list[float]
    counts: list[int]
    n: int = 0

    @classmethod
    def cut(cls, scores: Sequence[float]) -> Ranks:
        """Empty bins, cut to hold equal shares of `scores`, which may not be ranked; equal steps in [0, 1] without."""
        ordered = sorted(scores) or [i / BINS for i in range(BINS)]
        edges = sorted({ordered[i * len(ordered) // BINS] for i in range(1, BINS)})
        return cls(edges, [0] * (len(edges) + 1))

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Ranks:
        """The ranks whose `dataclasses.asdict` is `row`, which stays as it is."""
        return cls(list(row["edges"]), list(row["counts"]), row["n"])

    def add(self, scores: Sequence[float]) -> Ranks:
        """Take scores in without ranking them; returns itself."""
        for score in scores:
            self.counts[bisect_right(self.edges, score)] += 1
        self.n += len(scores)
        return self

    def emptied(self) -> Ranks:
        """The same bins without a score."""
        return Ranks(self.edges, [0] * len(self.counts))

    def rank(self, score: float, chance: float) -> float:
        """The rank in [0, 1] of the next score among all so far and itself; `chance` in [0, 1) breaks ties."""
        found = bisect_right(self.edges, score)
        self.counts[found] += 1
        self.n += 1
        return (sum(self.counts[:found]) + chance * self.counts[found]) / self.n


@dataclass(slots=True)
class Bets:
    """The sum of all bets begun so far against uniform ranks; a change is noticed at `limit`."""

    limit: float
    capital: list[float]

    @classmethod
    def start(cls, limit: float) -> Bets:
        """No bet yet."""
        return cls(limit, [0.0] * _N_BETS)

    def update(self, rank: float) -> float:
        """Takes the next rank; the capital of all bets as a share of the limit."""
        capital = self.capital
        fresh = 1.0 / _N_BETS
        for i, (tail, inside) in enumerate(_LOW):
            capital[i] = (capital[i] + fresh) * (inside if rank < tail else 1.0 - _MOVED)
        start, inside = _HIGH
        capital[-1] = (capital[-1] + fresh) * (inside if rank >= start else 1.0 - _MOVED)
        return self.evidence

    @property
    def evidence(self) -> float:
        """The capital of all bets as a share of the limit."""
        return sum(self.capital) / self.limit
