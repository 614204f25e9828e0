"""What a month of a route would have cost: recorded outcomes stand for the month's requests.

Net of what finding out costs: the graded outcomes that taught and proved the route, and audits, each a call of the
reference for an answer that was kept. A budget a day is spent where it brings most: needs are gains per dollar, so
the best use of it is the threshold that just spends it. A threshold beyond the certified one is said to promise
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.core.errors import DataError
from pilotfish.core.measured import Measured
from pilotfish.core.outcome import Outcome
from pilotfish.evals.tables import Table
from pilotfish.routing.replay import Trail
from pilotfish.routing.route import Route
from pilotfish.stats.paired import difference

DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One way to answer a month's requests. `keeps` is the share that the reference does not answer."""

    name: str
    usd: Measured
    score: Measured
    keeps: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"name": self.name, "usd": self.usd.to_json(), "score": self.score.to_json(), "keeps": self.keeps}


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """`lines` are the route, with a budget the route under it, and the controls; `learning_usd` is spent once."""

    sentence: str
    requests: int
    audit_rate: float
    lines: tuple[Line, ...]
    learning_usd: float | None
    why_no_learning: str
    threshold: float | None
    budget_threshold: float | None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "sentence": self.sentence,
            "requests": self.requests,
            "audit_rate": self.audit_rate,
            "lines": [line.to_json() for line in self.lines],
            "learning_usd": self.learning_usd,
            "why_no_learning_usd": self.why_no_learning,
            "threshold": self.threshold,
            "budget_threshold": self.budget_threshold,
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        """The lines, for the terminal and for the page."""
        rows = [
            [line.name, _usd(line.usd), f"{100.0 * (line.score.value or 0.0):.1f}", f"{100.0 * line.keeps:.0f} %"]
            for line in self.lines
        ]
        once = self.why_no_learning or f"Finding out: {self.learning_usd:,.2f} USD, once (every graded answer)."
        audits = f"Audits of {100.0 * self.audit_rate:g} % of the kept answers are in the route's costs."
        columns = [f"{self.requests:,} requests", "USD (95 %)", "score", "kept"]
        return Table(title="A month", columns=columns, rows=rows, notes=[once, audits, *self.notes])


def simulate(
    route: Route,
    rows: Sequence[Trail],
    *,
    requests: int,
    audit_rate: float,
    budget_usd_per_day: float | None = None,
    learning_usd: float | None = None,
    notes: Sequence[str] = (),
) -> Month:
    """The month that `rows` stand for. Raises `DataError` where an answer's cost is unknown, or no budget would do."""
    if any(usd is None for row in rows for usd in row.usd):
        missing = [name for i, name in enumerate(route.models) if any(row.usd[i] is None for row in rows)]
        raise DataError(
            f"Not every answer of {', '.join(missing)} has a cost.",
            hint="State prices where the outcomes have tokens or texts: --price MODEL=IN/OUT@SOURCE.",
        )
    scale = float(requests)
    certified = _line("this route", rows, route.threshold, scale, audit_rate)
    lines = [certified]
    budget_threshold = None
    if budget_usd_per_day is not None:
        budget_threshold = _for_budget(rows, budget_usd_per_day * DAYS, scale, audit_rate)
        lines.append(_line(f"at most {budget_usd_per_day:g} USD a day", rows, budget_threshold, scale, audit_rate))
    for place, name in enumerate(route.models):
        lines.append(_alone(f"always {name}", rows, place, scale))
    why = "" if learning_usd is not None else "What finding out cost is unknown: its outcomes had no costs."
    return Month(
        sentence=_sentence(route, certified, lines[-1], budget_threshold),
        requests=requests,
        audit_rate=audit_rate,
        lines=tuple(lines),
        learning_usd=learning_usd,
        why_no_learning=why,
        threshold=route.threshold,
        budget_threshold=budget_threshold,
        notes=tuple(notes),
    )


def _line(name: str, rows: Sequence[Trail], threshold: float | None, scale: float, audit_rate: float) -> Line:
    kept = [row.place(threshold) < len(row.needs) for row in rows]
    costs = [
        (row.cost(threshold) or 0.0) + audit_rate * is_kept * (row.usd[-1] or 0.0)
        for row, is_kept in zip(rows, kept, strict=True)
    ]
    scores = [row.scores[row.place(threshold)] for row in rows]
    return _measured(name, costs, scores, sum(kept) / len(rows), scale)


def _alone(name: str, rows: Sequence[Trail], place: int, scale: float) -> Line:
    is_kept = float(place < len(rows[0].needs))
    return _measured(name, [row.usd[place] or 0.0 for row in rows], [row.scores[place] for row in rows], is_kept, scale)


def _measured(name: str, costs: Sequence[float], scores: Sequence[float], kept: float, scale: float) -> Line:
    usd, score = difference(costs), difference(scores)
    ends = usd.interval()
    method = "normal"
    return Line(
        name=name,
        usd=Measured(
            value=scale * usd.mean,
            unit="USD",
            low=max(0.0, scale * ends.low),
            high=scale * ends.high,
            n=usd.n,
            method=method,
        ),
        score=Measured(
            value=score.mean, low=score.interval().low, high=score.interval().high, n=score.n, method=method
        ),
        keeps=kept,
    )


def _for_budget(rows: Sequence[Trail], budget_usd: float, scale: float, audit_rate: float) -> float:
    """The lowest threshold whose month costs no more than the budget."""
    candidates = sorted({need for row in rows for need in row.needs if need < math.inf})

    def cost(threshold: float) -> float:
        return _line("", rows, threshold, scale, audit_rate).usd.value or 0.0

    if not candidates or cost(candidates[-1]) > budget_usd:
        least = cost(candidates[-1]) / DAYS if candidates else math.inf
        raise DataError(f"A day costs at least {least:,.2f} USD even where all is kept that may be.")
    return _lowest(candidates, lambda threshold: cost(threshold) <= budget_usd)


def _lowest(candidates: Sequence[float], is_enough: Callable[[float], bool]) -> float:
    low, high = -1, len(candidates) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(candidates[middle]) else (middle, high)
    return candidates[high]


def spent_usd(outcomes: Sequence[Outcome], models: Sequence[str]) -> float | None:
    """What the models' graded answers cost together: the price of finding out. None where any cost is unknown."""
    costs = [outcome.tried[name].cost_usd for outcome in outcomes for name in models if name in outcome.tried]
    known = [cost for cost in costs if cost is not None]
    return math.fsum(known) if len(known) == len(costs) else None


def _sentence(route: Route, own: Line, large: Line, budget_threshold: float | None) -> str:
    assert own.usd.value is not None
    assert large.usd.value is not None
    if route.threshold is None:
        text = f"Without a certificate everything goes to {route.reference}: {large.usd.value:,.2f} USD a month."
    else:
        saved = 1.0 - own.usd.value / large.usd.value if large.usd.value else 0.0
        text = (
            f"The route would have cost {own.usd.value:,.2f} USD a month, always {route.reference} "
            f"{large.usd.value:,.2f}: {100.0 * saved:.0f} % less."
        )
    if budget_threshold is not None and (route.threshold is None or budget_threshold > route.threshold):
        text += " The budget takes more from the reference than is certified: nothing is promised about it."
    return text


def _usd(measured: Measured) -> str:
    return f"{measured.value:,.2f} ({measured.low:,.2f} to {measured.high:,.2f})"
