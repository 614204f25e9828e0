"""What routes have saved, net: an estimate of what kept answers would have cost, less everything that was paid.

What the large model would have cost is known where a kept answer was audited: it answered the same request there. The
audited ones are drawn before anything is decided, so their mean speaks for all that the route kept; the requests that
went on to the large model do not, since the route chose them. Answers that no audit speaks for (conversations that
went on, answers that only the day's budget kept) are left out with their costs, and counted. Where a cost is not known
the net saving is not either: then it is at most what is known of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from pilotfish.core.measured import Measured
from pilotfish.store.periods import RouteSum

FEWEST = 30
"""Audited answers from which a normal interval of their mean cost is told."""

METHOD = "kept answers times the mean cost of the large model's answers to those audited, less all that was paid"

FINDING_OUT = ("audit", "pair", "collect", "judge")
_KEPT = ("kept",)
_UNAUDITED = ("same-model", "budget")
_BY_REFERENCE = ("asked-at-once", "asked-further", "degraded")
_FAILED = ("smaller-failed",)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetSaving:
    """What routes saved in a time, in US dollars, with its parts.

    `would` is what `n_kept` kept answers would have cost at the large model, by `would.n` audited ones. They cost
    `kept_usd`; answers that were not given, and further looks, `tried_usd`; audits, collected pairs and grades
    `finding_out_usd`. `net` has no value where one of `n_unpriced` costs is not known, and is then at most
    `at_most_usd`, None where not even that is known. Not in it are `n_left_out` answers that no audit speaks for, and
    whatever `n_failed` calls that brought no whole answer have cost.
    """

    would: Measured
    net: Measured
    at_most_usd: float | None
    n_kept: int
    kept_usd: float
    tried_usd: float
    finding_out_usd: float
    n_unpriced: int
    n_left_out: int
    left_out_usd: float
    n_failed: int


def net_saving(sums: Sequence[RouteSum]) -> NetSaving:
    """The net saving of the time that these sums are of."""
    kept, left_out = _of(sums, _KEPT), _of(sums, _UNAUDITED)
    requests = [one for one in sums if one.kind not in FINDING_OUT]
    finding_out = _of(sums, FINDING_OUT)
    n_kept, kept_usd = sum(one.n - one.n_failed for one in kept), _usd(kept)
    tried_usd, finding_out_usd = math.fsum(one.tried_usd for one in requests), _usd(finding_out)
    n_unpriced = sum(one.n_unpriced for one in (*kept, *finding_out)) + sum(one.n_tried_unpriced for one in requests)
    would = _would(n_kept, _of(sums, ("audit",)))
    at_most_usd = None if would.value is None else would.value - kept_usd - tried_usd - finding_out_usd
    # Their clients left while a route still decided, so the reason is that from before; who was asked was cancelled.
    undecided = [one for one in requests if one.kind not in (*_KEPT, *_UNAUDITED, *_BY_REFERENCE, *_FAILED)]
    # The step that failed has no answer whose cost could stand with the request.
    n_failed = sum(one.n_failed for one in (*kept, *finding_out, *undecided)) + sum(one.n for one in _of(sums, _FAILED))
    return NetSaving(
        would=would,
        net=_net(would, at_most_usd, n_unpriced),
        at_most_usd=at_most_usd,
        n_kept=n_kept,
        kept_usd=kept_usd,
        tried_usd=tried_usd,
        finding_out_usd=finding_out_usd,
        n_unpriced=n_unpriced,
        n_left_out=sum(one.n - one.n_failed for one in left_out),
        left_out_usd=_usd(left_out),
        n_failed=n_failed,
    )


def _would(n_kept: int, audits: Sequence[RouteSum]) -> Measured:
    """What the kept answers would have cost at the large model; an interval where enough of them were audited."""
    if not n_kept:
        return Measured(value=0.0, unit="USD", method=METHOD)
    n = sum(one.n - one.n_failed - one.n_unpriced for one in audits)
    if not n:
        are_unpriced = any(one.n_unpriced for one in audits)
        why = "audits have no known cost" if are_unpriced else "no kept answer was audited in this time"
        return Measured(value=None, unit="USD", why_none=f"unknown: {why}")
    mean = _usd(audits) / n
    if n < FEWEST:
        return Measured(value=n_kept * mean, unit="USD", n=n, method=METHOD)
    variance = max(0.0, math.fsum(one.usd_squared for one in audits) / n - mean * mean) * n / (n - 1)
    # Of the audited ones the cost is known, not estimated.
    unseen = max(0.0, 1 - n / n_kept)
    half = NormalDist().inv_cdf(0.975) * n_kept * math.sqrt(variance / n * unseen)
    return Measured(
        value=n_kept * mean, unit="USD", low=n_kept * mean - half, high=n_kept * mean + half, n=n, method=METHOD
    )


def _net(would: Measured, at_most_usd: float | None, n_unpriced: int) -> Measured:
    if would.value is None or at_most_usd is None:
        return Measured(value=None, unit="USD", why_none=would.why_none)
    if n_unpriced:
        said = "1 cost is" if n_unpriced == 1 else f"{n_unpriced:,} costs are"
        return Measured(value=None, unit="USD", why_none=f"unknown: {said} not known")
    paid_usd = would.value - at_most_usd
    low, high = (None if bound is None else bound - paid_usd for bound in (would.low, would.high))
    return Measured(value=at_most_usd, unit="USD", low=low, high=high, n=would.n, method=METHOD)


def _of(sums: Iterable[RouteSum], kinds: Sequence[str]) -> list[RouteSum]:
    return [one for one in sums if one.kind in kinds]


def _usd(sums: Iterable[RouteSum]) -> float:
    return math.fsum(one.usd for one in sums)
