"""The risk-coverage curve that a certificate keeps of its calibration rows: at most a few more than 120 points.

Pages draw it at once, without the rows, the texts or the specialist. `verify.py` recomputes it like any other number.
"""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.core.certificate import Certificate
from pilotfish.stats.sequence import Curve, Point

_STEPS = 120


def thinned(rows: Curve, thresholds: Sequence[float]) -> list[Point]:
    """Points at equal steps of coverage, with those at `thresholds` and the last."""
    step = max(1, rows.n_rows // _STEPS)
    kept = {point.n_served // step: point for point in rows.points}
    found = {point.n_served: point for point in [*kept.values(), *rows.at(thresholds)]}
    return [found[n_served] for n_served in sorted(found)]


def to_json(rows: Curve, certified: float, naive: Point | None) -> dict[str, object]:
    """What the certificate keeps, as JSON: with the certified threshold, and the naive one that is drawn beside it."""
    thresholds = [certified] if naive is None else [certified, naive.threshold]
    return {"is_binary": rows.is_binary, "points": [list(point) for point in thinned(rows, thresholds)]}


def of(certificate: Certificate) -> Curve | None:
    """The kept curve; None for certificates from before one was kept."""
    kept = certificate.details.get("curve")
    if kept is None:
        return None
    return Curve(tuple(Point(*point) for point in kept["points"]), certificate.n, kept["is_binary"])
