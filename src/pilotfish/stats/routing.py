"""How good a router is: what quality it buys for which share of the cost, and what is possible without one.

A router gives each request a number saying how much it needs the stronger model (`needs`); sorted by it, the first k
of n go there. All figures are of the expected curve when ties are in random order, exactly and without drawing:
within a tie the curve is a straight line. `gains` are the stronger model's score less the weaker's, request by
request.

Sources: I. Ong et al., "RouteLLM" (arXiv 2406.18665) for PGR, APGR and CPT; Q. Hu et al., "RouterBench" (arXiv
2403.12031) for the non-decreasing hull and AIQ.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Point(NamedTuple):
    """What a router, or a model, reaches at a cost. The cost is a share of strong calls, or US dollars a request."""

    cost: float
    quality: float


class Ties(NamedTuple):
    """Requests that need the stronger model equally: how many, and the sum of their gains."""

    n: int
    gain: float


def ties(needs: Sequence[float], gains: Sequence[float]) -> list[Ties]:
    """The requests in groups of equal need, the neediest first. ValueError for a need that is no number."""
    if any(math.isnan(need) for need in needs):
        raise ValueError("A need is NaN.")
    found: list[Ties] = []
    last: float | None = None
    for i in sorted(range(len(needs)), key=needs.__getitem__, reverse=True):
        if needs[i] == last:
            found[-1] = Ties(found[-1].n + 1, found[-1].gain + gains[i])
        else:
            found.append(Ties(1, gains[i]))
            last = needs[i]
    return found


def curve(needs: Sequence[float], weak: Sequence[float], gains: Sequence[float]) -> list[Point]:
    """The corners of quality over the share sent to the stronger model, from none to all."""
    n = len(needs)
    points, sent, total = [Point(0.0, math.fsum(weak) / n)], 0, math.fsum(weak)
    for group in ties(needs, gains):
        sent, total = sent + group.n, total + group.gain
        points.append(Point(sent / n, total / n))
    return points


def apgr(needs: Sequence[float], gains: Sequence[float]) -> float | None:
    """The mean share of the gap that is recovered, over all shares of strong calls; a random router has 0.5.

    None where the stronger model is not better on these requests: there is no gap to recover.
    """
    gap = math.fsum(gains)
    if gap <= 0.0:
        return None
    area = recovered = 0.0
    for group in ties(needs, gains):
        area += group.n * (recovered + group.gain / 2.0)
        recovered += group.gain
    return area / (len(gains) * gap)


def cpt(needs: Sequence[float], gains: Sequence[float], share: float) -> float | None:
    """The smallest share of strong calls, as k of n, that recovers `share` of the gap; None where there is no gap."""
    gap, n = math.fsum(gains), len(gains)
    if gap <= 0.0:
        return None
    wanted, recovered, sent = share * gap - 1e-9, 0.0, 0
    for group in ties(needs, gains):
        if recovered + group.gain >= wanted:
            part = math.ceil((wanted - recovered) * group.n / group.gain) if group.gain > 0.0 else 0
            return (sent + max(0, part)) / n
        sent, recovered = sent + group.n, recovered + group.gain
    return 1.0


def oracle(gains: Sequence[float]) -> list[float]:
    """The needs of whoever knows the outcome beforehand. No router can: chance answers cannot be foreseen."""
    return list(gains)


def area(points: Sequence[Point]) -> float:
    """The area under straight lines through the points, which are in order of cost."""
    return math.fsum((b.cost - a.cost) * (a.quality + b.quality) / 2.0 for a, b in pairwise(points))


def cost_curve(
    needs: Sequence[float], weak: Sequence[float], gains: Sequence[float], kept: Sequence[float], sent: Sequence[float]
) -> list[Point]:
    """The same over mean costs: `kept` is what a request costs where the weaker model answers, `sent` where it goes
    on."""
    n, order = len(needs), sorted(range(len(needs)), key=needs.__getitem__, reverse=True)
    cost, quality = math.fsum(kept), math.fsum(weak)
    points = [Point(cost / n, quality / n)]
    for place, i in enumerate(order):
        cost, quality = cost + sent[i] - kept[i], quality + gains[i]
        if place + 1 == n or needs[order[place + 1]] != needs[i]:
            points.append(Point(cost / n, quality / n))
    return sorted(points)


def hull(points: Sequence[Point]) -> list[Point]:
    """The corners of the upper convex hull that rise, cheapest first: what mixing these at random can reach."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.quality)):
        if found and point.quality <= found[-1].quality:
            continue
        while len(found) > 1 and _bends_up(found[-2], found[-1], point):
            found.pop()
        found.append(point)
    return found


def height(corners: Sequence[Point], cost: float) -> float | None:
    """The hull's quality at `cost`: flat beyond its last corner, None where it is cheaper than the cheapest."""
    if not corners or cost < corners[0].cost:
        return None
    place = bisect_left([point.cost for point in corners], cost)
    if place == len(corners):
        return corners[-1].quality
    if corners[place].cost == cost:
        return corners[place].quality
    before, after = corners[place - 1], corners[place]
    return before.quality + (after.quality - before.quality) * (cost - before.cost) / (after.cost - before.cost)


def aiq(points: Sequence[Point]) -> float | None:
    """The mean quality of the points' rising hull over the costs they span; None where they span none."""
    corners, dearest = hull(points), max((point.cost for point in points), default=0.0)
    if not corners or dearest <= corners[0].cost:
        return None
    if corners[-1].cost < dearest:
        corners.append(Point(dearest, corners[-1].quality))
    return area(corners) / (dearest - corners[0].cost)


def over_hull(points: Sequence[Point], corners: Sequence[Point]) -> float | None:
    """By how much quality the points lie above a hull at equal cost, on average over the costs they share.

    None where they share no span of costs.
    """
    span = [point for point in points if height(corners, point.cost) is not None]
    if len(span) < 2 or span[-1].cost <= span[0].cost:
        return None
    # The hull is a straight line between its corners, so these are looked at too.
    inside = [corner.cost for corner in corners if span[0].cost < corner.cost < span[-1].cost]
    costs = sorted({*(point.cost for point in span), *inside})
    above = [Point(cost, _along(span, cost) - (height(corners, cost) or 0.0)) for cost in costs]
    return area(above) / (costs[-1] - costs[0])


def _along(points: Sequence[Point], cost: float) -> float:
    """The quality of straight lines through points in order of cost; the best where several share it."""
    place = bisect_left([point.cost for point in points], cost)
    if points[place].cost == cost:
        return max(point.quality for point in points if point.cost == cost)
    before, after = points[place - 1], points[place]
    return before.quality + (after.quality - before.quality) * (cost - before.cost) / (after.cost - before.cost)


def _bends_up(a: Point, b: Point, c: Point) -> bool:
    return (b.quality - a.quality) * (c.cost - a.cost) <= (c.quality - a.quality) * (b.cost - a.cost)
