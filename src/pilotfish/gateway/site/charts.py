"""The charts of the pages, out of the pieces of `pages/svg.py`: drawn on the server, so they need no script and print.

Every chart says in words what it shows, above all for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pilotfish.gateway.site import words
from pilotfish.pages import svg
from pilotfish.pages.elements import Html
from pilotfish.stats import binomial
from pilotfish.store.periods import Period

_LOCAL, _REST, _PROMISE, _WRONG = "var(--local)", "var(--soft)", "var(--promise)", "var(--wrong)"
_GAP = 0.15


def traffic(periods: Sequence[Period], since_s: float, until_s: float, step_s: int) -> Html:
    """Requests in each step, the part answered locally below."""
    most = max((period.n_requests for period in periods), default=0) or 1
    pieces = [svg.axis()]
    for period in periods:
        left, right = _edges(period, since_s, until_s, step_s)
        local, every = period.n_local / most, period.n_requests / most
        pieces += [
            svg.bar((left, 0), (right, local), _LOCAL),
            svg.bar((left, local), (right, every), _REST, 0.45),
        ]
    pieces += [
        *_times(since_s, until_s, step_s),
        svg.tick(1.0, words.count(most), "left"),
        svg.note("answered locally", "top left", _LOCAL),
        svg.note("answered by the large model, or not at all", "top right"),
    ]
    return _figure(pieces, f"Requests in each {_step(step_s)}, at most {most:,}; those answered locally below")


def agreement(
    periods: Sequence[Period], since_s: float, until_s: float, step_s: int, max_risk: float | None
) -> Html | None:
    """Audited answers that differed, cumulatively, with the 95 % interval; None where none was compared."""
    judged = [period for period in periods if period.n_judged]
    if not judged:
        return None
    points: list[tuple[float, float, float, float]] = []
    n, losses = 0, 0.0
    for period in judged:
        n, losses = n + period.n_judged, losses + period.losses
        low, high = binomial.wilson(losses, n)
        points.append((_edges(period, since_s, until_s, step_s)[1], losses / n, low, high))
    scale = min(1.0, max(points[-1][3] * 1.5, 3 * (max_risk or 0.0), 0.02))

    def place(across: float, share: float) -> tuple[float, float]:
        return across, min(1.0, share / scale)

    upper = [place(x, high) for x, _, _, high in points]
    lower = [place(x, low) for x, _, low, _ in points]
    pieces = [
        svg.axis(),
        svg.area([*upper, *reversed(lower)], _LOCAL),
        svg.curve([place(x, share) for x, share, _, _ in points], _LOCAL),
        *(svg.dot(place(x, share), _LOCAL) for x, share, _, _ in points[-1:]),
        *_times(since_s, until_s, step_s),
        *(svg.tick(height, f"{100 * height * scale:.2g} %", "left") for height in (0.5, 1.0)),
        svg.note("differed, of all audited answers so far", "top left"),
    ]
    if max_risk is not None:
        pieces.append(svg.level(max_risk / scale, _PROMISE, f"promised: at most {100 * max_risk:g} %"))
    said = words.percent(points[-1][1], 2)
    return _figure(
        pieces, f"Of {n:,} audited local answers {said} differed, with the 95 % interval (Wilson) as audits came in"
    )


def gates(scores: Sequence[tuple[str, float, float | None]]) -> Html:
    """Scores by name, each on a line with the threshold it was held against (None: none is known)."""
    pieces, said = [], []
    for position, (name, value, needed) in enumerate(scores):
        ends = [value, *([needed] if needed is not None else [])]
        low, high = min(0.0, *ends), max(1.0, *ends)
        base = 1.0 - (position + 1) / len(scores)
        passes = needed is None or value >= needed
        colour = _LOCAL if passes else _WRONG

        def across(score: float, low: float = low, high: float = high) -> float:
            return (score - low) / (high - low)

        pieces += [
            svg.bar((0.0, base), (1.0, base + 0.12), _REST, 0.2),
            svg.bar((across(low), base), (across(value), base + 0.12), colour),
            svg.label((0.0, base + 0.2), f"{name} {value:.4f}", "start", colour),
            svg.label((1.0, base + 0.2), f"{low:.3g} to {high:.3g}", "end"),
        ]
        verdict = "no threshold is known"
        if needed is not None:
            verdict = f"{'at least' if passes else 'below'} the {needed:.4f} that is needed"
            at = across(needed)
            pieces += [
                svg.bar((at - 0.002, base - 0.04), (at + 0.002, base + 0.16), _PROMISE),
                svg.label((min(0.85, max(0.3, at)), base + 0.2), f"needed {needed:.4f}", "middle", _PROMISE),
            ]
        said.append(f"{name} {value:.4f}, {verdict}")
    return Html(svg.figure(pieces, f"The scores of this request: {'; '.join(said)}", top=10))


def spans(parts: Sequence[tuple[str, float]]) -> Html:
    """How long each step took, one after the other, by name."""
    whole = sum(seconds for _, seconds in parts) or 1.0
    pieces, start = [svg.axis()], 0.0
    for position, (name, seconds) in enumerate(parts):
        end = start + seconds / whole
        is_left = start < 0.6
        pieces += [
            svg.bar((start, 0.0), (end, 0.18), _LOCAL if position % 2 == 0 else _REST, 0.9),
            svg.label(
                (start if is_left else end, 0.42 - 0.14 * position),
                f"{name}: {words.duration(seconds)}",
                "start" if is_left else "end",
            ),
        ]
        start = end
    pieces.append(svg.tick(1.0, words.duration(whole), "bottom"))
    said = ", ".join(f"{name} {words.duration(seconds)}" for name, seconds in parts)
    return Html(svg.figure(pieces, f"How long each step took: {said}", top=90))


def _figure(pieces: Sequence[str], label: str) -> Html:
    return Html(svg.figure(pieces, label))


def _edges(period: Period, since_s: float, until_s: float, step_s: int) -> tuple[float, float]:
    """Where the step of a period lies, as shares of the whole time."""
    whole = until_s - since_s
    left, right = (period.start_s - since_s) / whole, (period.start_s + step_s - since_s) / whole
    inset = _GAP * (right - left) / 2
    return max(0.0, left) + inset, min(1.0, right) - inset


def _times(since_s: float, until_s: float, step_s: int) -> list[str]:
    """A few labels of the time axis."""
    show: Callable[[float], str] = words.day if step_s >= 6 * 3600 else lambda at: words.moment(at)[11:16]
    n = 4
    return [svg.tick(i / n, show(math.floor(since_s + (until_s - since_s) * i / n)), "bottom") for i in range(n + 1)]


def _step(step_s: int) -> str:
    if step_s == 3600:
        return "hour"
    return f"{step_s // 3600} hours" if step_s < 86400 else "day" if step_s == 86400 else f"{step_s // 86400} days"
