"""What a backtest found, as the one JSON object that other programs rely on.

It sums replayed tasks up: shares, disagreement with exact intervals, money net of audits, and the controls
every claim of saving must stand beside. It prints nothing and draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.measured import Measured
from pilotfish.core.messages import Price, Usage
from pilotfish.replay.timeline import Replayed
from pilotfish.stats.binomial import clopper_pearson

INTERVAL_CONFIDENCE = 0.95
EXACT = "Clopper-Pearson, 95 %, two-sided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Money in US dollars: what the reference would have cost alone, and what was spent instead."""

    always_large_usd: float
    spent_usd: float

    @property
    def saved_net_usd(self) -> float:
        """Saved after paying for deferred and audited requests."""
        return self.always_large_usd - self.spent_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A simpler policy on the same requests: share answered locally, disagreement among those."""

    name: str
    served: int
    coverage: float
    disagreement: Measured
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Longer:
    """Observing to `position` and certifying once: certified coverage then, and share of the whole log."""

    task: str
    position: int
    certified_coverage: float
    share_of_all: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A backtest's findings, or with `is_live` those of requests that a gateway really answered."""

    n_requests: int
    unreadable: list[str]
    claim: Claim
    tasks: list[Replayed]
    cost: Cost | None
    local_s: list[float]
    longer: list[Longer]
    format: str = ""
    is_live: bool = False

    @property
    def served(self) -> int:
        """Requests answered locally."""
        return int(sum(task.served.sum() for task in self.tasks))

    @property
    def served_first(self) -> int:
        """Of those, answered by a first tier, without encoding the text."""
        return int(sum(task.first.sum() for task in self.tasks))

    @property
    def differing(self) -> int:
        """Requests answered locally and differently from the reference."""
        return int(sum((task.served & task.differs).sum() for task in self.tasks))

    @property
    def coverage(self) -> float:
        """Share of all requests answered locally."""
        return self.served / self.n_requests if self.n_requests else 0.0

    @property
    def first_served_at(self) -> int | None:
        """Position of the first request answered locally, None where none was."""
        return min((t.first_served_at for t in self.tasks if t.first_served_at is not None), default=None)

    @property
    def disagreement(self) -> Measured:
        """Among the requests answered locally."""
        return share(self.differing, self.served, "nothing was answered locally")

    @property
    def disagreement_per_traffic(self) -> Measured:
        """Answered locally and differently, among all requests since the first local answer."""
        first = self.first_served_at
        n = 0 if first is None else self.n_requests - first + 1
        return share(self.differing, n, "nothing was answered locally")

    @property
    def latency_ms(self) -> tuple[float, float] | None:
        """Median and 95th percentile of the local decision in milliseconds, None where none was timed."""
        if not self.local_s:
            return None
        p50, p95 = np.percentile(self.local_s, [50, 95]) * 1000
        return float(p50), float(p95)

    @property
    def controls(self) -> list[Control]:
        """Always-large, always-small, the naive threshold, random at the same share, the oracle."""
        return _controls(self)

    def to_json(self) -> dict[str, Any]:
        """The object whose keys other programs rely on."""
        p50, p95 = self.latency_ms or (None, None)
        return {
            "requests": self.n_requests,
            "unreadable": len(self.unreadable),
            "unreadable_rows": self.unreadable,
            "format": self.format,
            "promise": {
                "max_risk": self.claim.max_risk,
                "confidence": self.claim.confidence,
                "per": self.claim.per,
            },
            "served": self.served,
            "served_by_first_tier": self.served_first,
            "coverage": self.coverage,
            "disagreement": self.disagreement.to_json(),
            "disagreement_per_traffic": self.disagreement_per_traffic.to_json(),
            "first_served_at": self.first_served_at,
            "tasks": [task_json(task) for task in self.tasks],
            "latency_ms": {"p50": p50, "p95": p95, "n": len(self.local_s)},
            "cost_usd": None
            if self.cost is None
            else {
                "always_large": self.cost.always_large_usd,
                "spent": self.cost.spent_usd,
                "saved_net": self.cost.saved_net_usd,
            },
            "controls": {
                control.name: {
                    "served": control.served,
                    "coverage": control.coverage,
                    "disagreement": control.disagreement.to_json(),
                    "note": control.note,
                }
                for control in self.controls
            },
            "observing_longer": [
                {
                    "task": item.task,
                    "observe": item.position,
                    "certified_coverage": item.certified_coverage,
                    "share_of_all": item.share_of_all,
                }
                for item in self.longer
            ],
        }


def task_json(task: Replayed) -> dict[str, Any]:
    """One task of the report."""
    verdict = task.verdict
    served = int(task.served.sum())
    n_after = int(task.ran.sum())
    shape = task.task.shape
    return {
        "name": task.task.name,
        "id": task.task.id,
        "requests": len(task.rows),
        "mode": task.mode,
        "answer_shape": shape.kind,
        "fields": [field.summary for field in shape.fields],
        "why_open": shape.why_open or None,
        "coverage": served / n_after if n_after else None,
        "served": served,
        "served_by_first_tier": int(task.first.sum()),
        "disagreement": share(
            int((task.served & task.differs).sum()), served, "nothing was answered locally"
        ).to_json(),
        "disagreement_per_traffic": per_traffic(task).to_json(),
        "certificate": verdict.to_json() if isinstance(verdict, Certificate) else None,
        "refusal": verdict.to_json() if isinstance(verdict, Refusal) else None,
        "attempts": sum(tried.verdict.delta_spent > 0 for _, tried in task.verdicts),
        "first_served_at": task.first_served_at,
        "withdrawn_at": task.withdrawn_at,
        "drift": [{"position": position, "message": message} for position, message in task.drifts],
    }


def per_traffic(task: Replayed) -> Measured:
    """Answered locally and differently, among the task's requests since its first local answer."""
    served = np.flatnonzero(task.served)
    n = len(task.rows) - int(served[0]) if len(served) else 0
    return share(int((task.served & task.differs).sum()), n, "nothing was answered locally")


def share(hits: int, n: int, why_none: str) -> Measured:
    """A share with its exact interval, or the reason there is none."""
    if n == 0:
        return Measured(value=None, unit="share", why_none=why_none)
    low, high = clopper_pearson(hits, n, INTERVAL_CONFIDENCE)
    return Measured(value=hits / n, unit="share", low=low, high=high, n=n, method=EXACT)


def cost(tasks: Iterable[Replayed], others: Iterable[Usage | None], price: Price | None) -> Cost | None:
    """The bill, or None where the price or the usage of any request is unknown (never 0)."""
    if price is None:
        return None
    always = spent = 0.0
    for usage in others:
        if usage is None:
            return None
        always += price.cost_usd(usage)
        spent += price.cost_usd(usage)
    for task in tasks:
        for row, served, audited in zip(task.rows, task.served, task.audited, strict=True):
            if row.usage is None:
                return None
            always += price.cost_usd(row.usage)
            spent += 0.0 if served and not audited else price.cost_usd(row.usage)
    return Cost(always_large_usd=always, spent_usd=spent)


def _controls(report: Report) -> list[Control]:
    ran = sum(int(task.ran.sum()) for task in report.tasks)
    wrong = sum(int((task.ran & task.differs).sum()) for task in report.tasks)
    naive = sum(int(task.naive.sum()) for task in report.tasks)
    naive_wrong = sum(int((task.naive & task.differs).sum()) for task in report.tasks)

    def control(name: str, served: int, hits: int, note: str) -> Control:
        return Control(
            name=name,
            served=served,
            coverage=served / report.n_requests if report.n_requests else 0.0,
            disagreement=share(hits, served, "nothing would be answered locally"),
            note=note,
        )

    random_wrong = round(report.served * wrong / ran) if ran else 0
    return [
        control("always_large", 0, 0, "every request to the large model"),
        control("always_small", ran, wrong, "the specialist answers everything once there is one"),
        control("naive_threshold", naive, naive_wrong, "the threshold whose calibration errors just meet the promise"),
        control("random_same_share", report.served, random_wrong, "the same share chosen by chance (expected)"),
        control("oracle", ran - wrong, 0, "only where the specialist agrees: nobody can know"),
    ]
