"""Quality against a cost, drawn: a dot a model with both intervals, and the Pareto front through those nobody beats.

The cost has a logarithmic axis, since models differ by orders of magnitude. A name stands where it covers neither a dot
nor another name, if there is such a place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from pilotfish.core.measured import Measured
from pilotfish.pages import svg

Place = tuple[float, float]
Anchor = Literal["start", "end"]

_PLOT_WIDTH, _PLOT_HEIGHT = svg.WIDTH - 2 * svg.PAD, svg.HEIGHT - svg.PAD - svg.TOP
_LETTER, _LINE = 6.6 / _PLOT_WIDTH, 13 / _PLOT_HEIGHT
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
_MOST_LINES = 6


class Point(NamedTuple):
    """One model; `cost` in the units of the axis."""

    name: str
    cost: Measured
    quality: Measured


class Box(NamedTuple):
    """Where a text stands."""

    left: float
    right: float
    bottom: float
    top: float

    def meets(self, other: Box) -> bool:
        """Whether they overlap."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )


def pareto(places: Sequence[Place]) -> list[Place]:
    """The places (cost, quality) that no other one beats in both, by cost."""
    front: list[Place] = []
    for cost, worth in sorted(places, key=lambda place: (place[0], -place[1])):
        if not front or worth > front[-1][1]:
            front.append((cost, worth))
    return front


def draw(points: Sequence[Point], what: str, without: Sequence[str]) -> str:
    """The chart of points that have both values; `what` names the cost, `without` the models that have none."""
    ends = [end for _, cost, _ in points for end in (cost.low, cost.value, cost.high) if end]
    low_cost, span = math.log(min(ends)), math.log(max(ends)) - math.log(min(ends))
    levels = list(_levels([point.quality for point in points]))

    def across(cost: float) -> float:
        return 0.05 + 0.9 * (math.log(cost) - low_cost) / span if span > 1e-9 else 0.5

    def height(worth: float) -> float:
        return (worth - levels[0]) / (levels[-1] - levels[0])

    front = pareto([(point.cost.value or 0.0, point.quality.value or 0.0) for point in points])
    pieces = [svg.axis()]
    for level in levels:
        pieces += [svg.grid(height(level)), svg.tick(height(level), f"{100 * level:.0f}", "left")]
    pieces += [svg.tick(across(cost), f"{cost:g}", "bottom") for cost in _ticks(min(ends), max(ends))]
    places, bars = [], []
    for _, cost, quality in points:
        x, y = across(cost.value or 0.0), height(quality.value or 0.0)
        places.append((x, y))
        if quality.low is not None and quality.high is not None:
            pieces.append(svg.curve([(x, height(quality.low)), (x, height(quality.high))], "var(--soft)"))
            bars.append(Box(x - 0.004, x + 0.004, height(quality.low), height(quality.high)))
        if cost.low and cost.high:
            pieces.append(svg.curve([(across(cost.low), y), (across(cost.high), y)], "var(--soft)"))
    line = [(across(cost), height(worth)) for cost, worth in front]
    pieces.append(svg.curve(line, "var(--promise)"))
    for (_, cost, quality), place in zip(points, places, strict=True):
        is_front = (cost.value, quality.value) in front
        pieces.append(svg.dot(place, "var(--promise)" if is_front else "var(--local)"))
    pieces += _names([point.name for point in points], places, line, bars)
    pieces += [svg.note("score in per cent", "top left"), svg.note(what, "bottom right")]
    label = f"Quality against {what}; bars: 95 % intervals, golden: Pareto front, axis: logarithmic"
    return svg.figure(pieces, label + (f"; without a figure: {', '.join(without)}" if without else ""))


def _levels(figures: Sequence[Measured]) -> Iterator[float]:
    """Round qualities around all intervals, not more than a reader can take in."""
    ends = [end for figure in figures for end in (figure.low, figure.value, figure.high) if end is not None]
    step = next((step for step in _STEPS if (max(ends) - min(ends)) / step <= _MOST_LINES - 2), 0.25)
    first, last = math.floor(min(ends) / step + 1e-9), math.ceil(max(ends) / step - 1e-9)
    for number in range(first, max(last, first + 1) + 1):
        yield number * step


def _ticks(low: float, high: float) -> list[float]:
    """Round costs within the axis (1, 2, 5 times powers of ten; powers alone where those are many), else its ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [float(f"{factor}e{power}") for power in powers for factor in factors]
        shown = [cost for cost in found if low <= cost <= high]
        if len(shown) <= 8:
            break
    return shown if len(shown) > 1 else sorted({float(f"{low:.3g}"), float(f"{high:.3g}")})


def _names(names: Sequence[str], places: Sequence[Place], line: Sequence[Place], bars: Sequence[Box]) -> Iterator[str]:
    covered = [*places, *(place for ends in pairwise(line) for place in _between(*ends))]
    taken = [*bars, *(Box(x - 0.008, x + 0.008, y - 0.03, y + 0.03) for x, y in covered)]
    for name, place in zip(names, places, strict=True):
        options = list(_around(name, place))
        box, at, anchor = next((o for o in options if _is_free(o[0], taken)), options[0])
        taken.append(box)
        yield svg.label(at, name, anchor)


def _is_free(box: Box, taken: Sequence[Box]) -> bool:
    is_inside = box.left >= -svg.PAD / _PLOT_WIDTH and box.right <= 1 + svg.PAD / _PLOT_WIDTH
    return is_inside and not any(box.meets(other) for other in taken)


def _between(start: Place, end: Place) -> Iterator[Place]:
    for step in range(1, 50):
        share = step / 50
        yield start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _around(name: str, place: Place) -> Iterator[tuple[Box, Place, Anchor]]:
    """Places for a name beside a dot, the best first: off the dot's own bars, and within the drawing."""
    width, (x, y) = _LETTER * len(name), place
    sides: list[tuple[Anchor, float]] = [("start", x + 0.012), ("end", x - 0.012)]
    if x + 0.012 + width > 1.05:
        sides.reverse()
    for lift in (0.05, -0.05 - _LINE, 0.05 + _LINE, -0.05 - 2 * _LINE):
        for anchor, at in sides:
            left = at if anchor == "start" else at - width
            yield Box(left, left + width, y + lift, y + lift + _LINE), (at, y + lift), anchor
