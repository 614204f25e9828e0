"""Certifying a route: its loss against always asking the reference is at most a margin, with confidence.

The loss of a request is the reference's score less that of the answer given, 0 where the reference answered. Thresholds
are tested from the surest down, in an order that outcomes which taught the route have fixed; the calibration outcomes
are looked at once, at this attempt's share of delta, by the bet of `stats/paired_loss.py`. A certificate is for one
workload: elsewhere it promises nothing. Its withdrawal is `audit.py`'s, as for a specialist's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pilotfish.core.certificate import LOSS_ASSUMPTIONS, Certificate, Claim, Refusal
from pilotfish.routing.replay import Trail
from pilotfish.stats import paired_loss, spending, weighted
from pilotfish.stats.paired_loss import Losses, Outlook

PROCEDURE = (
    "fixed-sequence bets on the paired loss over thresholds planned on other outcomes (arXiv 2010.09686, 2110.01052)"
)
EVERYTHING = 1e9
"""As a threshold: whatever its need, a request whose signals can be read is kept."""

STEPS = 40
LEAST_KEPT = 0.05
"""A route that keeps less from the reference is not worth its upkeep: a refusal says what this much would take."""

SURE_SD = 2.0
_SHARE_OF_BEST = 0.9
_NINE_IN_TEN_SD = 1.28
_MOST_ROWS = 1_000_000
_MARGINS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a certificate says beside its numbers. `attempt` counts every attempt ever made for this workload."""

    id: str
    name: str
    attempt: int = 1
    created_at: str = ""
    split_rule: str = ""
    scorer: str = ""
    data_sha256: str = ""
    route_id: str = ""
    request_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One threshold to test, with the stake to test it at, and what it keeps and loses on the outcomes of the plan."""

    threshold: float
    stake: float
    kept: float
    outlook: Outlook


def plan(fold: Sequence[Trail], n: int, claim: Claim, delta: float) -> list[Planned]:
    """The thresholds to test on `n` other outcomes, from the start on, each keeping more; empty without a need.

    It starts at the last one that is surely passed (`SURE_SD` standard deviations, of what these outcomes say of the
    losses and of the others' own), or almost as surely as any.
    """
    found = _planned(_swept(fold, _thresholds(fold)), n, claim.max_risk, delta)
    if not found:
        return []
    best = max(one.outlook.margin for one in found)
    # An outlook takes what `fold` lost for the truth; the mean of few outcomes is as uncertain as that of few others.
    sure = SURE_SD * math.sqrt(1.0 + n / len(fold))
    wanted = min(sure, best - (1.0 - _SHARE_OF_BEST) * abs(best))
    start = max(i for i, one in enumerate(found) if one.outlook.margin >= wanted)
    return found[start:]


def prove(order: Sequence[Planned], rows: Sequence[Trail], claim: Claim, delta: float) -> Planned | None:
    """The last of the planned thresholds before the first that the rows do not prove; None where that is the first."""
    passed: Planned | None = None
    weights = weighted.weights([row.probability for row in rows])
    for one, swept in zip(order, _swept(rows, [one.threshold for one in order], weights), strict=True):
        if not paired_loss.passes(swept.losses, claim.max_risk, one.stake, delta):
            break
        passed = one
    return passed


def certify_loss(
    fold: Sequence[Trail], rows: Sequence[Trail], claim: Claim, workload: Workload
) -> Certificate | Refusal:
    """The certificate of the last planned threshold that is proven, or the refusal that says what is short.

    `fold` are the outcomes that taught the route, with needs out of fold; `rows` others, drawn with known
    probabilities. ValueError for a claim of another kind.
    """
    if claim.per != "loss" or not 0.0 < claim.max_risk < 1.0:
        raise ValueError(f"A route is certified per loss, with a margin strictly between 0 and 1, not {claim!r}.")
    delta = spending.share(claim.delta, workload.attempt)
    least = math.ceil(math.log(1.0 / delta) / math.log1p(claim.max_risk))
    if len(rows) < least:
        points = f"{claim.max_risk * 100:g} points"
        why = f"{points} take {least:,} even where nothing is lost"
        return _refusal(fold, rows, claim, workload, why=why, spent=0.0)
    order = plan(fold, len(rows), claim, delta)
    passed = prove(order, rows, claim, delta)
    if passed is None:
        why = "the first threshold of the plan did not pass" if order else "there is no threshold to test"
        return _refusal(fold, rows, claim, workload, why=why, spent=delta if order else 0.0)
    certificate = _certificate(passed, order, rows, claim, workload)
    if certificate.coverage < LEAST_KEPT:
        why = f"what passed keeps {certificate.coverage:.1%} from the reference"
        return _refusal(fold, rows, claim, workload, why=why, spent=delta)
    return certificate


def threshold_of(certificate: Certificate) -> float:
    """The threshold that a route's certificate holds for; a certificate states certainties, which are negated needs."""
    return -certificate.min_certainty


def _certificate(
    passed: Planned,
    order: Sequence[Planned],
    rows: Sequence[Trail],
    claim: Claim,
    workload: Workload,
) -> Certificate:
    delta = spending.share(claim.delta, workload.attempt)
    weights = weighted.weights([row.probability for row in rows])
    losses = _swept(rows, [passed.threshold], weights)[0].losses
    is_kept = [row.place(passed.threshold) < len(row.needs) for row in rows]
    sizes = weights or [1.0] * len(rows)
    return Certificate(
        task_id=workload.id,
        task_name=workload.name,
        claim=claim,
        bound=min(paired_loss.upper(losses, passed.stake, delta), claim.max_risk),
        min_certainty=-passed.threshold,
        min_scope=0.0,
        coverage=math.fsum(size for size, kept in zip(sizes, is_kept, strict=True) if kept) / math.fsum(sizes),
        n=len(rows),
        n_served=sum(is_kept),
        errors=math.fsum(row.loss(passed.threshold) for row in rows),
        attempt=workload.attempt,
        delta_spent=delta,
        schedule=spending.SCHEDULE,
        start_certainty=-order[0].threshold,
        procedure=PROCEDURE,
        split_rule=workload.split_rule,
        scorer=workload.scorer,
        data_sha256=workload.data_sha256,
        artefact_sha256=workload.route_id,
        created_at=workload.created_at,
        assumptions=LOSS_ASSUMPTIONS,
        details={
            "order_of_tests": [[-one.threshold, one.stake] for one in order],
            "request_ids": list(workload.request_ids),
        },
    )


def _refusal(
    fold: Sequence[Trail], rows: Sequence[Trail], claim: Claim, workload: Workload, *, why: str, spent: float
) -> Refusal:
    """What is short: judged by the outcomes of the plan alone, so that telling it costs nothing."""
    delta = spending.share(claim.delta, workload.attempt + (spent > 0.0))
    swept = _swept(fold, _thresholds(fold))
    needed = _rows_needed(swept, claim.max_risk, delta)
    short = None if needed is None or needed <= len(rows) else needed - len(rows)
    passing = next(
        (
            margin
            for margin in _MARGINS
            if margin > claim.max_risk and (_rows_needed(swept, margin, delta) or math.inf) <= len(rows)
        ),
        None,
    )
    margin = f"{claim.max_risk * 100:g} points"
    if needed is None:
        message = (
            f"Where {LEAST_KEPT:.0%} are kept, no number of outcomes like the {len(fold):,} that teach would prove a "
            f"loss of at most {margin}; there are {len(rows):,} others: {why}."
        )
    elif short is None:
        message = (
            f"The {len(rows):,} outcomes that are to prove a loss of at most {margin} lost more than the {len(fold):,} "
            f"that teach let expect: {why}."
        )
    else:
        message = (
            f"Beside the {len(fold):,} outcomes that teach, about {needed:,} would prove a loss of at most {margin}; "
            f"there are {len(rows):,} others: {why}."
        )
    return Refusal(
        task_id=workload.id,
        task_name=workload.name,
        claim=claim,
        short_of="agreement" if short is None else "examples",
        message=message,
        n=len(rows),
        examples_short=short,
        passing_risk=passing,
        attempt=workload.attempt,
        delta_spent=spent,
        created_at=workload.created_at,
    )


def _rows_needed(swept: Sequence[_Swept], margin: float, delta: float) -> int | None:
    """How many outcomes would prove `margin` for a threshold that keeps `LEAST_KEPT` or more, nine times in ten.

    None where none below a million would. A planning figure: what the plan's outcomes lost is itself uncertain.
    """
    enough = [one.losses for one in swept if one.kept >= LEAST_KEPT]
    needed = [paired_loss.rows_to_pass(losses, margin, delta, sure_sd=_NINE_IN_TEN_SD) for losses in enough]
    least = min(needed, default=math.inf)
    return math.ceil(least) if least <= _MOST_ROWS else None


class _Swept(NamedTuple):
    """What is lost, and the share that is kept, at a threshold."""

    threshold: float
    losses: Losses
    kept: float


def _swept(rows: Sequence[Trail], thresholds: Sequence[float], weights: Sequence[float] = ()) -> list[_Swept]:
    """The losses at rising thresholds, in one pass: a row's answer changes only at its needs."""
    events: list[tuple[float, float, float, float, bool]] = []
    counts: Counter[tuple[float, float]] = Counter()
    for row, weight in zip(rows, weights or [1.0] * len(rows), strict=True):
        counts[(0.0, weight)] += 1
        least, changes = math.inf, []
        for need, score in zip(row.needs, row.scores, strict=False):
            if need < least:
                least = need
                changes.append((need, row.scores[-1] - score))
        before = 0.0
        for place, (need, loss) in enumerate(reversed(changes)):
            events.append((need, before, loss, weight, place == 0))
            before = loss
    events.sort(key=lambda event: event[0], reverse=True)
    found, kept = [], 0
    for threshold in thresholds:
        while events and events[-1][0] <= threshold:
            _, before, loss, weight, is_first = events.pop()
            counts[(before, weight)] -= 1
            counts[(loss, weight)] += 1
            kept += is_first
        found.append(_Swept(threshold, {key: k for key, k in counts.items() if k}, kept / max(1, len(rows))))
    return found


def _planned(swept: Sequence[_Swept], n: int, margin: float, delta: float) -> list[Planned]:
    found = []
    for threshold, losses, kept in swept:
        outlook = paired_loss.outlook(losses, margin, n, delta)
        found.append(Planned(threshold=threshold, stake=outlook.stake, kept=kept, outlook=outlook))
    return found


def _thresholds(fold: Sequence[Trail]) -> list[float]:
    """At most `STEPS` of equal share, and the one that keeps everything."""
    least = sorted(value for row in fold if (value := min(row.needs)) < math.inf)
    if not least:
        return []
    places = {round(step * len(least) / STEPS) - 1 for step in range(1, STEPS + 1)}
    return [*sorted({least[place] for place in places if place >= 0}), EVERYTHING]
