"""What a route would have done with recorded outcomes: the needs at every step, whatever the threshold.

The same object as live says the needs; a threshold then settles each request without asking again, so that one pass
serves the curve, the certificate and the costs of a month.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.core.outcome import Outcome
from pilotfish.routing.route import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """One request: the need at each step (inf from where it cannot be told), the scores and costs of each step's model,
    the reference's last. Costs are None where unknown."""

    needs: tuple[float, ...]
    scores: tuple[float, ...]
    usd: tuple[float | None, ...]
    reads: tuple[bool, ...]
    probability: float = 1.0

    def place(self, threshold: float | None) -> int:
        """The step whose answer is given at a threshold; the number of steps where it is the reference's."""
        if threshold is None:
            return len(self.needs)
        return next((i for i, need in enumerate(self.needs) if need <= threshold), len(self.needs))

    def loss(self, threshold: float | None) -> float:
        """The reference's score less that of the answer given: in [-1, 1], negative where the smaller model was
        better."""
        return self.scores[-1] - self.scores[self.place(threshold)]

    def cost(self, threshold: float | None) -> float | None:
        """US dollars for all the calls on the way to the answer."""
        place = self.place(threshold)
        # Without a threshold the reference is asked at once.
        before = [] if threshold is None else [i for i in range(place) if self.reads[i]]
        costs = [self.usd[i] for i in (*before, place)]
        return None if None in costs else math.fsum(cost for cost in costs if cost is not None)


def trail(route: Route, outcome: Outcome, embedding: Sequence[float] | None = None) -> Trail:
    """The trail of an outcome that has an answer of every model of the route. KeyError where one is missing."""
    needs: list[float] = []
    for place, step in enumerate(route.steps):
        need = None if math.inf in needs else route.need(place, outcome, outcome.tried[step.model], embedding)
        needs.append(math.inf if need is None else need)
    return recorded(route, outcome, needs)


def recorded(route: Route, outcome: Outcome, needs: Sequence[float]) -> Trail:
    """The trail of an outcome with these needs."""
    tried = [outcome.tried[name] for name in route.models]
    return Trail(
        needs=tuple(needs),
        scores=tuple(one.score for one in tried),
        usd=tuple(one.cost_usd for one in tried),
        reads=tuple(step.reads_answer for step in route.steps),
        probability=outcome.probability,
    )
