"""Choosing a threshold whose risk is proven: which scores may be answered locally.

Rows are (score, loss); a row is served when its score is at least the threshold, and a score of -inf is
never served (another gate deferred it). Thresholds never cut through equal scores.

*Per answer* (expected loss among served rows): fixed-sequence testing. A plan, a descending list of
thresholds from independent scores, is tested one by one at the full delta until the first
failure; no correction is needed since the order was fixed beforehand. Given how many rows a threshold
serves, their losses are independent, so the exact binomial test of "risk > alpha" applies.
*Per traffic* (expected loss of served rows among all): it only grows as the threshold falls, so the
hypotheses are nested and every threshold may be tried.

Source: A. Angelopoulos et al., "Learn then Test" (arXiv 2110.01052), section 2.3 and proposition 1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from pilotfish.stats import binomial, bounded


class Point(NamedTuple):
    """At `threshold`, `n_served` rows are served and their losses sum to `errors`."""

    threshold: float
    n_served: int
    errors: float


class Curve(NamedTuple):
    """One point for each distinct score above -inf, from the highest down, over `n_rows` rows in all."""

    points: tuple[Point, ...]
    n_rows: int
    is_binary: bool

    def at(self, thresholds: Iterable[float]) -> list[Point]:
        """The sums at any thresholds."""
        keys = [-point.threshold for point in self.points]
        found = []
        for threshold in thresholds:
            position = bisect_right(keys, -threshold)
            last = self.points[position - 1] if position else Point(threshold, 0, 0.0)
            found.append(last._replace(threshold=threshold))
        return found


class Choice(NamedTuple):
    """A threshold that passed, and the upper bound of its risk at the level it was tested at."""

    threshold: float
    n_served: int
    errors: float
    bound: float


# Chosen in November 2026 on simulated curves shaped like banking77's (risks 1, 2, 5 %; n 500 to 3,000;
# out-of-fold errors up to 15 % lower or higher than those of the calibration rows): 2.5 standard deviations
# fail at once in 1 of 5 runs under that shift, four in 1 of 50, at less than a point of coverage.
SURE_SD = 4.0
_MARGIN_SHARE = 0.9
_STEPS = 200


_allowed = lru_cache(maxsize=4)(binomial.allowed_errors)
"""A design asks for the same list many times."""


def curve(scores: Sequence[float], losses: Sequence[float]) -> Curve:
    """The rows sorted once, equal scores together. NaN counts as -inf: never served."""
    order = sorted((i for i, score in enumerate(scores) if score > -math.inf), key=scores.__getitem__, reverse=True)
    points: list[Point] = []
    errors = 0.0
    for position, i in enumerate(order):
        errors += losses[i]
        if position + 1 == len(order) or scores[order[position + 1]] != scores[i]:
            points.append(Point(scores[i], position + 1, errors))
    return Curve(tuple(points), len(scores), all(loss in (0.0, 1.0) for loss in losses))


def plan(rows: Curve, n: int, max_risk: float, delta: float) -> list[float]:
    """The thresholds to test per answer on `n` other rows, from the start down; empty without a score.

    `rows` must be independent of those others (out-of-fold scores of the fitting rows). At most 200 steps of
    equal coverage. The start is the lowest threshold at which the errors expected on `n` rows stay four
    standard deviations under those allowed, or nine tenths of the best margin where none reaches
    four: lower would fail too often at once, higher would walk too far.
    """
    points, margins = _margins(rows, n, max_risk, delta)
    if not points:
        return []
    best = max(margins)
    wanted = min(SURE_SD, best - (1.0 - _MARGIN_SHARE) * abs(best)) if best > -math.inf else best
    start = max(i for i, margin in enumerate(margins) if margin >= wanted)
    return [point.threshold for point in points[start:]]


def steps(rows: Curve) -> list[float]:
    """At most 200 thresholds of equal coverage, from the highest down."""
    return [point.threshold for point in _steps(rows)]


class Outlook(NamedTuple):
    """What out-of-fold rows let expect of a test: the coverage, and the margin with which it begins, which is how far
    the errors expected stay under those allowed, in standard deviations; -inf where none can pass."""

    coverage: float
    margin: float


def outlook(rows: Curve, n: int, max_risk: float, delta: float) -> Outlook:
    """Of a test per answer on `n` such rows: the largest share of `rows` served at which it would pass on average, and
    the best margin at which it may start."""
    points, margins = _margins(rows, n, max_risk, delta)
    passing = [point.n_served for point, margin in zip(points, margins, strict=True) if margin >= 0.0]
    return Outlook(passing[-1] / rows.n_rows if passing else 0.0, max(margins, default=-math.inf))


def outlook_per_traffic(rows: Curve, n: int, max_risk: float, delta: float) -> Outlook:
    """The same of a test per traffic, which begins with the rows of the highest score."""
    few = _allowed(n, max_risk, delta)[n]
    if few < 0 or not rows.points:
        return Outlook(0.0, -math.inf)
    most = few / n * rows.n_rows
    served = max((point.n_served for point in rows.points if point.errors <= most), default=0)
    return Outlook(served / rows.n_rows, _margin(rows.points[0].errors / rows.n_rows, n, few))


def per_answer(rows: Curve, thresholds: Sequence[float], max_risk: float, delta: float) -> Choice | None:
    """The last of the planned `thresholds` before the first that fails; None when the first one fails.

    Valid when `thresholds` were fixed without these rows, in this order: with probability at least
    1 - `delta` the chosen threshold's risk is at most `max_risk`.
    """
    test = _Test(rows, max_risk, delta)
    passed = None
    for point in rows.at(thresholds):
        if not test.passes(point.errors, point.n_served):
            break
        passed = point
    return test.choice(passed, passed.n_served) if passed else None


def per_traffic(rows: Curve, max_risk: float, delta: float) -> Choice | None:
    """The lowest threshold whose served losses among all rows prove a share of at most `max_risk`.

    Every hypothesis "the share above this threshold is too large" implies those below it, so the one
    test at the border is the only one that can go wrong: no plan and no correction.
    """
    test = _Test(rows, max_risk, delta)
    passed = None
    for point in rows.points:
        if not test.passes(point.errors, rows.n_rows):
            break
        passed = point
    return test.choice(passed, rows.n_rows) if passed else None


def bonferroni(rows: Curve, thresholds: Sequence[float], max_risk: float, delta: float) -> Choice | None:
    """Reference per answer: all `thresholds` (fixed beforehand) at once, each at delta / number."""
    if not thresholds:
        return None
    test = _Test(rows, max_risk, delta / len(thresholds))
    passing = [p for p in rows.at(thresholds) if test.passes(p.errors, p.n_served)]
    best = max(passing, key=lambda point: point.n_served, default=None)
    return test.choice(best, best.n_served) if best else None


def split_test(pick: Curve, prove: Curve, max_risk: float, delta: float) -> Choice | None:
    """Reference per answer: the naive threshold of one part of the rows, tested once on the other."""
    picked = naive(pick, max_risk)
    return per_answer(prove, [picked.threshold], max_risk, delta) if picked else None


def naive(rows: Curve, max_risk: float, *, per_traffic: bool = False) -> Point | None:
    """What most tools do: the lowest threshold with an observed risk of at most `max_risk`. It proves nothing.

    About half of such thresholds break the promise on later traffic.
    """
    kept = (p for p in rows.points if p.errors <= max_risk * (rows.n_rows if per_traffic else p.n_served))
    return max(kept, key=lambda p: p.n_served, default=None)


class _Test:
    """Tests "the mean of n losses is above max_risk" for many n: exact for 0/1 losses."""

    def __init__(self, rows: Curve, max_risk: float, delta: float) -> None:
        self.max_risk, self.delta = max_risk, delta
        self.allowed = _allowed(rows.n_rows, max_risk, delta) if rows.is_binary else None

    def passes(self, errors: float, n: int) -> bool:
        if self.allowed is not None:
            return errors <= self.allowed[n]
        return n > 0 and bounded.hoeffding_bentkus(errors / n, n, self.max_risk) <= self.delta

    def choice(self, point: Point, n: int) -> Choice:
        if self.allowed is not None:
            bound = binomial.upper(round(point.errors), n, self.delta)
        else:
            bound = bounded.hoeffding_bentkus_upper(point.errors / n, n, self.delta)
        # The test has decided; rounding in the last digit of the bound must not contradict it.
        return Choice(*point, bound=min(bound, self.max_risk))


def _steps(rows: Curve) -> list[Point]:
    found: list[Point] = []
    for point in rows.points:
        if point is rows.points[-1] or not found or (point.n_served - found[-1].n_served) * _STEPS >= rows.n_rows:
            found.append(point)
    return found


def _margins(rows: Curve, n: int, max_risk: float, delta: float) -> tuple[list[Point], list[float]]:
    """Steps of equal coverage down `rows`, and how far each is expected to pass on `n` others.

    In standard deviations of the errors between those expected and those allowed; -inf where none is allowed.
    """
    points = _steps(rows)
    allowed = _allowed(n, max_risk, delta)
    margins = []
    for point in points:
        n_served = n * point.n_served // rows.n_rows
        margins.append(_margin(point.errors / point.n_served, n_served, allowed[n_served]))
    return points, margins


def _margin(risk: float, n: int, allowed: int) -> float:
    spread = math.sqrt(max(0.25, n * risk * (1.0 - risk)))
    return (allowed + 0.5 - n * risk) / spread if allowed >= 0 else -math.inf
