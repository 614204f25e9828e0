"""What answering locally has saved, net, as far as the log lets know.

What a local answer would have cost is estimated by the mean of its task: of the calls whose cost is known, those that
the reference answered and those it was audited with. Audits and repeated calls are taken off. Where a cost is unknown
the saving is, too: never 0. What has no task was audited for a route, whose saving is `net_saving.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter

from pilotfish.core.measured import Measured
from pilotfish.stats import binomial
from pilotfish.store.periods import Period

_AMOUNTS = tuple(item.name for item in fields(Period) if item.name not in ("start_s", "task_id", "model"))
_amounts = attrgetter(*_AMOUNTS)

METHOD = "local answers of each task times the mean of its calls of the large model, less its audits and repeated calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The sums over all tasks, and what is estimated from them. Money in US dollars, time in seconds."""

    sums: Period
    saved_usd: Measured
    saved_s: Measured

    @property
    def local_share(self) -> float | None:
        """The share answered locally, None without a request."""
        return self.sums.n_local / self.sums.n_requests if self.sums.n_requests else None

    @property
    def spent_usd(self) -> float:
        """What all calls of known cost have cost."""
        return spent_usd(self.sums)

    @property
    def n_unpriced(self) -> int:
        """Calls of unknown cost."""
        return n_unpriced(self.sums)


def spent_usd(sums: Period) -> float:
    """What the calls of known cost have cost, audits and repeated calls with them."""
    return sums.cost_usd + sums.audit_usd + sums.repeat_usd


def n_unpriced(sums: Period) -> int:
    """Calls of unknown cost."""
    return sums.n_unpriced + (sums.n_audits - sums.n_audits_priced) + (sums.n_repeats - sums.n_repeats_priced)


def total(tasks: Sequence[Period], *, has_price: bool) -> Totals:
    """The totals of periods that are one a task. `has_price` says whether the large model's price is stated."""
    sums = _sum(tasks)
    return Totals(sums=sums, saved_usd=_saved_usd(tasks, sums, has_price=has_price), saved_s=_saved_s(tasks, sums))


def merged(periods: Iterable[Period]) -> list[Period]:
    """One period a task, out of several."""
    of_task: dict[str, list[Period]] = {}
    for period in periods:
        of_task.setdefault(period.task_id, []).append(period)
    return [replace(_sum(found), task_id=task_id) for task_id, found in of_task.items()]


def agreement(sums: Period) -> Measured:
    """The share of audited local answers that agreed with the reference, with its 95 % interval (Wilson's)."""
    if not sums.n_judged:
        reason = "no audit has been compared yet" if sums.n_local else "nothing was answered locally"
        return Measured(value=None, why_none=reason)
    low, high = binomial.wilson(sums.losses, sums.n_judged)
    return Measured(value=1 - sums.losses / sums.n_judged, low=1 - high, high=1 - low, n=sums.n_judged, method="Wilson")


def _saved_usd(tasks: Sequence[Period], sums: Period, *, has_price: bool) -> Measured:
    own = [task for task in tasks if task.task_id]
    unknown = [t for t in tasks if t.n_local and not t.n_reference_priced + t.n_audits_priced]
    are_audits_unpriced = any(task.n_audits > task.n_audits_priced for task in own)
    if not sums.n_local:
        return Measured(value=None, unit="USD", why_none="nothing was answered locally")
    if unknown or are_audits_unpriced or sums.n_repeats > sums.n_repeats_priced:
        reason = "some of its calls have no known cost" if has_price else "no price of the large model is stated"
        return Measured(value=None, unit="USD", why_none=f"unknown: {reason}")
    saved = 0.0
    for task in tasks:
        if task.n_local:
            mean = (task.reference_usd + task.audit_usd) / (task.n_reference_priced + task.n_audits_priced)
            saved += task.n_local * mean
    audit_usd = sum(task.audit_usd for task in own)
    return Measured(value=saved - audit_usd - sums.repeat_usd, unit="USD", n=sums.n_local, method=METHOD)


def _saved_s(tasks: Sequence[Period], sums: Period) -> Measured:
    """Audits keep nobody waiting, so their time is no cost."""
    if not sums.n_local:
        return Measured(value=None, unit="s", why_none="nothing was answered locally")
    if any(task.n_local and not task.n_reference + task.n_audits for task in tasks):
        return Measured(value=None, unit="s", why_none="unknown: the large model was not asked in this time")
    saved = 0.0
    for task in tasks:
        if task.n_local:
            mean = (task.reference_s + task.audit_s) / (task.n_reference + task.n_audits)
            saved += task.n_local * mean - task.local_s
    return Measured(value=saved, unit="s", n=sums.n_local, method=METHOD)


def _sum(periods: Iterable[Period]) -> Period:
    found = list(periods)
    sums = [sum(column) for column in zip(*map(_amounts, found), strict=True)] or [0] * len(_AMOUNTS)
    start_s = min((period.start_s for period in found), default=0.0)
    return Period(start_s=start_s, task_id="", **dict(zip(_AMOUNTS, sums, strict=True)))
