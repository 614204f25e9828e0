"""What happened in a time, in sums, and which of them are asked for (`Log.periods`, `Log.route_sums`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

By = Literal["all", "task", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What happened from `start_s` on, of one task or model or, where both are empty, of all or of none.

    `n_reference` requests were answered by the reference, `reference_s` after so many seconds in all and at
    `reference_usd` for those `n_reference_priced` whose cost is known; audits and repeated calls likewise. `cost_usd`
    is that of all requests but the `n_unpriced` answered ones of unknown cost. Of the audits `n_judged` have a known
    loss; `losses` is their sum.
    """

    start_s: float
    task_id: str
    n_requests: int
    n_local: int
    n_failed: int
    local_s: float
    n_reference: int
    reference_s: float
    n_reference_priced: int
    reference_usd: float
    cost_usd: float
    n_unpriced: int
    n_audits: int
    audit_s: float
    n_audits_priced: int
    audit_usd: float
    n_judged: int
    losses: float
    n_repeats: int
    n_repeats_priced: int
    repeat_usd: float
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodFilter:
    """Sums from the hour of `since_s` on, without the hours that begin at `until_s` or later.

    `step_s` is a multiple of an hour; 0 sums up the whole time. By task, by the model that answered, or in all. Of one
    task or, by model, of one `model` alone. `after` is the start and the task or model of a period: only those behind
    it, in the order of both, and `limit` of them (-1: all).
    """

    since_s: float
    until_s: float | None = None
    step_s: int = 0
    by: By = "all"
    task_id: str | None = None
    model: str | None = None
    after: tuple[float, str] | None = None
    limit: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSum:
    """What the calls of one kind to one model came to: requests under a route, or calls to find out about routes.

    `kind` is the reason of the requests; or `audit`, the reference's answers to what a route had kept (no model is
    named), `pair`, smaller models' answers beside audits, `collect`, those that outcomes were made of, or `judge`,
    grades (no model either). Of `n` calls `n_failed` brought no whole answer. `usd` is what those of known cost have
    cost, `usd_squared` the sum of squares of that, `n_unpriced` how many answered ones have no known cost. `tried_usd`
    is what answers cost that were not given to the client, and further looks at the one that was, unknown of
    `n_tried_unpriced` requests. What a request has paid counts in it alone, not in a pair as well.
    """

    kind: str
    model: str
    n: int
    n_failed: int
    n_unpriced: int
    usd: float
    usd_squared: float
    tried_usd: float
    n_tried_unpriced: int
