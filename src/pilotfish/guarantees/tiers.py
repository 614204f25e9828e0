"""Two tiers under one certificate: the n-grams first, then the full mixture, proven as one.

Given the first tier's gates, the cascade is one specialist with one score: `ACCEPTED_FIRST`, above every certainty, for
what the first tier answers, the mixture's certainty for the rest. So the tests of `stats/sequence.py` prove the risk
of both tiers together. The gates are chosen on out-of-fold rows of the fitting rows alone, which spends nothing;
calibration rows are never looked at twice, once with and once without a first tier.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from pilotfish.core.certificate import FULL_TIER_NEVER, Claim
from pilotfish.routing.policy import Gates, Policy
from pilotfish.stats import sequence

MIN_COVERAGE = 0.1
"""Serving less than a tenth is not worth a certificate, nor a first tier."""

MAX_SHARE = 0.5
"""Of the tolerated risk, what the first tier's own answers may use up out of fold: it takes the easy requests, and as
much again is left to the mixture, which gets the hard ones. The test of both together does not rest on it."""

MAX_COVERAGE_LOSS = 0.005
"""Of all requests, what the cascade may be expected to serve less than the mixture alone: half a point, so that with
the error of such expectations it stays within one."""

OUT_OF_FOLD_DEFERS = 1.2
"""The first tier that serves learnt from a third more rows than each of those that scored out of fold, and is surer: of
what these would defer, 13 to 17 % passes the same gate on banking77, 5 % on ag_news, 27 % on snips. So the gate is set
where so many times more would be deferred out of fold; about what was judged out of fold is then answered."""

ACCEPTED_FIRST = FULL_TIER_NEVER
"""The score of a row that the first tier answers: served at every threshold that a certificate may name."""

_SCOPE_SHARE = 0.01
_CANDIDATES = 100


class Rows(NamedTuple):
    """What one tier says on some rows: losses in 0..1, and its two scores."""

    losses: Sequence[float]
    certainty: Sequence[float]
    scope: Sequence[float]


def accepted(first: Rows, gates: Gates | None) -> list[bool]:
    """Which rows the first tier answers under its `gates`."""
    policy = Policy(Gates(min_certainty=math.inf, min_scope=math.inf, first=gates))
    return [policy.accepts_first(c, s) for c, s in zip(first.certainty, first.scope, strict=True)]


def joint(full: Rows, min_scope: float, first: Rows | None = None, gates: Gates | None = None) -> sequence.Curve:
    """The rows as a curve over the cascade's score; those that no tier may answer count, but are never served."""
    return sequence.curve(*scored(full, min_scope, first, gates))


def scored(
    full: Rows, min_scope: float, first: Rows | None = None, gates: Gates | None = None
) -> tuple[list[float], Sequence[float]]:
    """The cascade's scores, and the losses of the tier that would answer each row.

    -inf under the mixture's scope gate, where the first tier does not accept.
    """
    scores = [c if s >= min_scope else -math.inf for c, s in zip(full.certainty, full.scope, strict=True)]
    if first is None or gates is None:
        return scores, full.losses
    is_first = accepted(first, gates)
    scores = [ACCEPTED_FIRST if by_first else score for by_first, score in zip(is_first, scores, strict=True)]
    losses = zip(is_first, first.losses, full.losses, strict=True)
    return scores, [one if by_first else other for by_first, one, other in losses]


def decided(full: Rows, first: Rows | None, gates: Gates | None) -> Rows:
    """Of each row what the tier says that decides on it: the first where it accepts, else the mixture."""
    if first is None or gates is None:
        return full
    is_first = accepted(first, gates)
    return Rows(
        *(
            [one if by_first else other for by_first, one, other in zip(is_first, *columns, strict=True)]
            for columns in zip(first, full, strict=True)
        )
    )


def outlook(fold: sequence.Curve, n: int, claim: Claim, delta: float) -> sequence.Outlook:
    """What a test of `claim` on `n` rows like those of `fold` lets expect."""
    if not fold.n_rows or not n:
        return sequence.Outlook(0.0, -math.inf)
    of_kind = sequence.outlook if claim.is_of_served else sequence.outlook_per_traffic
    return of_kind(fold, n, claim.max_risk, delta)


def choose_first(full: Rows, first: Rows, min_scope: float, n: int, claim: Claim, delta: float) -> Gates | None:
    """The first tier's gates for a test on `n` other rows, or None; both kinds of rows are out-of-fold rows.

    The scope gate defers the strangest hundredth. The certainty gate is the lowest at which the first tier uses up no
    more than `MAX_SHARE` of the tolerated risk, the cascade is expected to serve at most `MAX_COVERAGE_LOSS` less than
    the mixture alone behind its gate `min_scope`, and the test is as sure to begin; raised by `OUT_OF_FOLD_DEFERS`.
    None where it would answer less than a tenth.
    """
    if not first.losses or not n:
        return None
    single = outlook(joint(full, min_scope), n, claim, delta)
    if single.margin == -math.inf:
        return None
    scope = sorted(first.scope)[int(_SCOPE_SHARE * len(first.scope))]
    rows = joint(first, scope)
    candidates = _candidates(rows, claim)

    def costs_nothing(point: sequence.Point) -> bool:
        both = joint(full, min_scope, first, Gates(min_certainty=point.threshold, min_scope=scope))
        found = outlook(both, n, claim, delta)
        enough = max(MIN_COVERAGE, single.coverage - MAX_COVERAGE_LOSS)
        return found.coverage >= enough and found.margin >= min(sequence.SURE_SD, single.margin)

    # A higher gate costs less, so the lowest that costs nothing is found by bisection; the one found was looked at.
    place = bisect_left(candidates, True, key=costs_nothing)
    return _raised(candidates[place], rows, scope) if place < len(candidates) else None


def _candidates(rows: sequence.Curve, claim: Claim) -> list[sequence.Point]:
    """At most a hundred points within the first tier's share of the risk, the lowest threshold first."""
    found: list[sequence.Point] = []
    for point in reversed(rows.points):
        base = point.n_served if claim.is_of_served else rows.n_rows
        is_next = not found or (found[-1].n_served - point.n_served) * _CANDIDATES >= rows.n_rows
        if is_next and point.errors <= MAX_SHARE * claim.max_risk * base:
            found.append(point)
    return found


def _raised(point: sequence.Point, rows: sequence.Curve, scope: float) -> Gates | None:
    """The gates where `OUT_OF_FOLD_DEFERS` times as many rows are deferred as at `point`."""
    most = rows.n_rows - OUT_OF_FOLD_DEFERS * (rows.n_rows - point.n_served)
    kept = max((p for p in rows.points if p.n_served <= most), key=lambda p: p.n_served, default=None)
    if kept is None or kept.n_served < MIN_COVERAGE * rows.n_rows:
        return None
    return Gates(min_certainty=kept.threshold, min_scope=scope)
