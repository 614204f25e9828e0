"""Money over GraphQL: what was spent, and what routes saved, net.

The types of the schema that hold sums of the log, and how they are filled. Nothing is read here.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

import strawberry

from pilotfish.gateway.site import savings, words
from pilotfish.gateway.site.figures import HOUR_S
from pilotfish.gateway.site.net_saving import net_saving
from pilotfish.store import periods
from pilotfish.store.periods import By, Period

DAY_S = 24 * HOUR_S


@strawberry.type
class Spend:
    """What was spent from `start` on. By model, audits and repeated calls are not known: the large model answers them.

    `unpriced` calls of unknown cost are not counted.
    """

    start: str
    task: str | None
    model: str | None
    n_requests: int
    n_local: int
    requests_usd: float
    audits_usd: float | None
    repeats_usd: float | None
    spent_usd: float
    unpriced: int


@strawberry.enum
class Step(enum.Enum):
    """How much time one row stands for."""

    HOUR = HOUR_S
    DAY = DAY_S
    ALL = 0


@strawberry.enum
class Split(enum.Enum):
    """Whether there is one row a step, or one for each task or model in it."""

    ALL = "all"
    TASK = "task"
    MODEL = "model"


@strawberry.type
class RouteSum:
    """Calls of one kind to one model. `kind` is the reason of requests under a route; or `audit`, `pair` (smaller
    models' answers beside audits), `collect`, `judge`. `tried_usd` is what answers cost that were not given, and
    further looks. Costs that are not known are counted, not added.
    """

    kind: str
    model: str | None
    n: int
    n_failed: int
    n_unpriced: int
    usd: float
    tried_usd: float
    n_tried_unpriced: int


@strawberry.type
class Routed:
    """What routes saved from `start` on. `net_usd` is null where it is unknown, for the reason `why_none`, and then at
    most `at_most_usd` where that is known. `would_usd` is what the `n_kept` kept answers would have cost at the large
    model, estimated from `n_audited`; the interval (95 %) is that of this estimate. What is not in it is counted:
    `n_left_out` answers that no audit speaks for, and `n_failed` calls that failed.
    """

    start: str
    net_usd: float | None
    low_usd: float | None
    high_usd: float | None
    at_most_usd: float | None
    why_none: str | None
    method: str | None
    n_kept: int
    n_audited: int
    would_usd: float | None
    kept_usd: float
    tried_usd: float
    finding_out_usd: float
    n_unpriced: int
    n_left_out: int
    left_out_usd: float
    n_failed: int
    sums: list[RouteSum]


def spend(period: Period, split: Split, names: dict[str, str]) -> Spend:
    """What one period has cost, by the names of the tasks."""
    is_by_model = split is Split.MODEL
    return Spend(
        start=words.moment(period.start_s),
        task=(names.get(period.task_id, period.task_id) or None) if split is Split.TASK else None,
        model=period.model or None,
        n_requests=period.n_requests,
        n_local=period.n_local,
        requests_usd=period.cost_usd,
        audits_usd=None if is_by_model else period.audit_usd,
        repeats_usd=None if is_by_model else period.repeat_usd,
        spent_usd=savings.spent_usd(period),
        unpriced=savings.n_unpriced(period),
    )


def by(split: Split) -> By:
    """The same in the words of `Log.periods`."""
    return "task" if split is Split.TASK else "model" if split is Split.MODEL else "all"


def routed(sums: Sequence[periods.RouteSum], since_s: float) -> Routed:
    """The net saving of the time that these sums are of."""
    found = net_saving(sums)
    same = [item.name for item in dataclasses.fields(found) if item.name not in ("would", "net")]
    shown = [item.name for item in dataclasses.fields(RouteSum) if item.name != "model"]
    return Routed(
        start=words.moment(since_s),
        net_usd=found.net.value,
        low_usd=found.net.low,
        high_usd=found.net.high,
        why_none=found.net.why_none or None,
        method=found.net.method or None,
        n_audited=found.would.n,
        would_usd=found.would.value,
        sums=[RouteSum(model=one.model or None, **{name: getattr(one, name) for name in shown}) for one in sums],
        **{name: getattr(found, name) for name in same},
    )
