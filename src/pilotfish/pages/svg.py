"""The pieces of our charts: inline SVG in the colours of the page.

All positions are shares in 0..1 of the plot, from the lower left; what is drawn is not known here. A chart is a
list of pieces, painted in order, in one `figure`. No style is inline: a strict Content-Security-Policy forbids it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Literal

WIDTH, HEIGHT, PAD, TOP = 720, 220, 40, 24

Place = tuple[float, float]


def figure(pieces: Iterable[str], label: str, *, top: int = 0) -> str:
    """The chart, with its description for those who cannot see it and, below it, for those who can.

    `top` is how much of its height is cut off above, where a chart needs less.
    """
    return (
        f'<div class="scroll" tabindex="0"><svg viewBox="0 {top} {WIDTH} {HEIGHT - top}" role="img" '
        f'aria-label="{escape(label)}">{"".join(pieces)}</svg></div><p class="soft">{escape(label)}.</p>'
    )


def axis() -> str:
    """The line at the bottom."""
    bottom = HEIGHT - PAD
    return f'<line x1="{PAD}" x2="{WIDTH - PAD}" y1="{bottom}" y2="{bottom}" stroke="var(--line)"/>'


def grid(height: float) -> str:
    """A thin line across."""
    y = _y(height)
    return f'<line x1="{PAD}" x2="{WIDTH - PAD}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)" stroke-width="0.5"/>'


def curve(places: Iterable[Place], colour: str) -> str:
    """A line through the places."""
    return f'<polyline points="{_points(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'


def area(places: Iterable[Place], colour: str) -> str:
    """A faint area with the places as its corners."""
    return f'<polygon points="{_points(places)}" fill="{colour}" fill-opacity="0.18"/>'


def dot(place: Place, colour: str) -> str:
    """A mark at a place."""
    return f'<circle cx="{_x(place[0]):.1f}" cy="{_y(place[1]):.1f}" r="4" fill="{colour}"/>'


def bar(start: Place, end: Place, colour: str, opacity: float = 1.0) -> str:
    """A rectangle between its lower left and its upper right corner."""
    x, y = _x(start[0]), _y(end[1])
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, _x(end[0]) - x):.1f}" '
        f'height="{max(0.0, _y(start[1]) - y):.1f}" fill="{colour}" fill-opacity="{opacity:g}"/>'
    )


def label(place: Place, text: str, anchor: Literal["start", "middle", "end"] = "start", colour: str = "") -> str:
    """A text at a place in the plot."""
    fill = f' fill="{colour}"' if colour else ""
    return f'<text x="{_x(place[0]):.1f}" y="{_y(place[1]):.1f}" text-anchor="{anchor}"{fill}>{escape(text)}</text>'


def level(height: float, colour: str, label: str) -> str:
    """A dashed line across, with its label at the right end."""
    y = _y(height)
    return (
        f'<line x1="{PAD}" x2="{WIDTH - PAD}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-dasharray="6 4"/>'
        f'<text x="{WIDTH - PAD}" y="{y - 4:.1f}" text-anchor="end" fill="{colour}">{escape(label)}</text>'
    )


def upright(across: float, colour: str) -> str:
    """A dashed line from the bottom up."""
    x = _x(across)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{HEIGHT - PAD}" stroke="{colour}" stroke-dasharray="3 3"/>'
    )


def tick(value: float, label: str, side: Literal["bottom", "left"]) -> str:
    """The label of a value at an axis."""
    x, y = (_x(value), HEIGHT - PAD + 16) if side == "bottom" else (PAD - 6, _y(value) + 4)
    anchor = "middle" if side == "bottom" else "end"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(label)}</text>'


def note(label: str, corner: Literal["top left", "top right", "bottom left", "bottom right"], colour: str = "") -> str:
    """A text in a corner, outside the plot."""
    y = 14 if corner.startswith("top") else HEIGHT - 8
    place = f'x="{PAD}"' if corner.endswith("left") else f'x="{WIDTH - PAD}" text-anchor="end"'
    fill = f' fill="{colour}"' if colour else ""
    return f'<text y="{y}" {place}{fill}>{escape(label)}</text>'


def _x(share: float) -> float:
    return PAD + (WIDTH - 2 * PAD) * share


def _y(share: float) -> float:
    return HEIGHT - PAD - share * (HEIGHT - PAD - TOP)


def _points(places: Iterable[Place]) -> str:
    return " ".join(f"{_x(across):.1f},{_y(height):.1f}" for across, height in places)
