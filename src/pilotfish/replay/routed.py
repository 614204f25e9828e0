"""A route on recorded outcomes: what it does at its threshold, who answers at which cost, and whether each step pays.

Every shorter cascade of the same steps stands beside it at equal cost, down to single models mixed at random (the
convex hull): a step that adds nothing should go. Thresholds are swept on the outcomes themselves, so these figures
promise nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from pilotfish.evals.routed import Pair
from pilotfish.evals.routed_report import Reached, reach
from pilotfish.evals.tables import Table
from pilotfish.routing.replay import Trail
from pilotfish.routing.route import Route
from pilotfish.stats import routing
from pilotfish.stats.routing import Point

LEVELS = (0.1, 0.25, 0.5, 0.75)
"""Costs that are looked at, as shares of the way from the cheapest model alone to the reference alone."""

_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One cascade over all thresholds: cost and mean score of each, and the share that each of its models answers."""

    models: tuple[str, ...]
    points: tuple[Point, ...]
    answered: tuple[tuple[float, ...], ...]

    def at(self, cost: float) -> float | None:
        """The best score that thresholds, mixed at random, reach at a cost; None where it is too cheap for any."""
        return routing.height(routing.hull(self.points), cost)

    def shares(self, cost: float) -> tuple[float, ...] | None:
        """Who answers at the dearest threshold within a cost."""
        within = [(point.cost, shares) for point, shares in zip(self.points, self.answered, strict=True)]
        return max((one for one in within if one[0] <= cost + 1e-12), default=(0.0, None), key=lambda one: one[0])[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """The whole cascade first, every shorter one after it; `hull` is that of single models."""

    sweeps: tuple[Sweep, ...]
    hull: tuple[Point, ...]
    unit: str

    @property
    def levels(self) -> list[float]:
        """The costs of `LEVELS`."""
        low, high = self.hull[0].cost, max(point.cost for point in self.hull)
        return [low + share * (high - low) for share in LEVELS]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "unit": self.unit,
            "costs": self.levels,
            "hull": [routing.height(self.hull, cost) for cost in self.levels],
            "cascades": [
                {
                    "models": list(one.models),
                    "scores": [one.at(cost) for cost in self.levels],
                    "answered": [one.shares(cost) for cost in self.levels],
                    "curve": [list(point) for point in one.points],
                }
                for one in self.sweeps
            ],
        }

    def tables(self) -> list[Table]:
        """Scores at equal cost, and who answers."""
        columns = ["", *(f"{cost:.3g}" for cost in self.levels)]
        rows = [[" > ".join(one.models), *(_points(one.at(cost)) for cost in self.levels)] for one in self.sweeps]
        rows.append(["convex hull of single models", *(_points(routing.height(self.hull, c)) for c in self.levels)])
        whole = self.sweeps[0]
        found = [whole.shares(cost) for cost in self.levels]
        answered = [
            [model, *("-" if shares is None else f"{100.0 * shares[i]:.0f} %" for shares in found)]
            for i, model in enumerate(whole.models)
        ]
        note = "Thresholds are swept in hindsight. A shorter cascade that scores as much says which step to leave out."
        return [
            Table(title=f"Score at equal cost ({self.unit})", columns=columns, rows=rows, notes=[note]),
            Table(title="Who answers", columns=columns, rows=answered),
        ]


def cascade(models: Sequence[str], rows: Sequence[Trail]) -> Cascade:
    """The cascade of these models on its trails, the reference last."""
    has_costs = all(usd is not None for row in rows for usd in row.usd)
    n = len(models) - 1
    kept = [places for size in range(n, 0, -1) for places in combinations(range(n), size)]
    singles = [
        Point(
            fmean(row.usd[i] or 0.0 for row in rows) if has_costs else float(i == n),
            fmean(row.scores[i] for row in rows),
        )
        for i in range(n + 1)
    ]
    return Cascade(
        sweeps=tuple(_sweep([models[i] for i in (*one, n)], [_shorter(row, one) for row in rows]) for one in kept),
        hull=tuple(routing.hull(singles)),
        unit="USD a request" if has_costs else "share of calls to the reference",
    )


def reached(pair: Pair, route: Route, rows: Sequence[Trail]) -> Reached | None:
    """What a route does at its own threshold; None without one."""
    if route.threshold is None:
        return None
    places = [row.place(route.threshold) for row in rows]
    kept = [place < len(route.steps) for place in places]
    costs = [row.cost(route.threshold) for row in rows]
    known = [cost for cost in costs if cost is not None]
    if not pair.has_costs or len(known) < len(costs):
        known = [0.0 if one else 1.0 for one in kept]
    return reach(pair, kept, [row.scores[place] for row, place in zip(rows, places, strict=True)], known)


def _shorter(row: Trail, places: Sequence[int]) -> Trail:
    """The trail with these steps alone."""
    ends = (*places, len(row.needs))
    return Trail(
        needs=tuple(row.needs[i] for i in places),
        scores=tuple(row.scores[i] for i in ends),
        usd=tuple(row.usd[i] for i in ends),
        reads=tuple(row.reads[i] for i in places),
        probability=row.probability,
    )


def _sweep(models: Sequence[str], rows: Sequence[Trail]) -> Sweep:
    needs = sorted({need for row in rows for need in row.needs if need < math.inf})
    step = max(1, len(needs) // _STEPS)
    found = [_at(models, rows, threshold) for threshold in (None, *needs[::step], *needs[-1:])]
    found.sort(key=lambda one: one[0])
    return Sweep(
        models=tuple(models),
        points=tuple(point for point, _ in found),
        answered=tuple(shares for _, shares in found),
    )


def _at(models: Sequence[str], rows: Sequence[Trail], threshold: float | None) -> tuple[Point, tuple[float, ...]]:
    places = [row.place(threshold) for row in rows]
    costs = [row.cost(threshold) for row in rows]
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        known = [float(place == len(models) - 1) for place in places]
    score = fmean(row.scores[place] for row, place in zip(rows, places, strict=True))
    return Point(fmean(known), score), tuple(places.count(i) / len(rows) for i in range(len(models)))


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100.0 * value:.1f}"
