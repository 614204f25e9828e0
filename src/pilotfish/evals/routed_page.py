"""A routing report as one self-contained HTML page: the sentence, quality over cost with its controls, the tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pilotfish.evals.routed_report import Report, unit
from pilotfish.evals.tables import Table
from pilotfish.pages import html, svg
from pilotfish.stats import routing
from pilotfish.stats.routing import Point

_MOST_POINTS = 200


def render(sentence: str, tables: Sequence[Table], charted: Report | None) -> str:
    """The page; with a chart where there is a report to draw."""
    parts = ["<h1>Routing</h1>", f'<p class="claim">{escape(sentence)}</p>']
    parts.append(_chart(charted) if charted is not None else "")
    for table in tables:
        notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in table.notes if note)
        parts.append(f"<h2>{escape(table.title)}</h2>{html.table(table.columns, table.rows)}{notes}")
    return html.document("Routing", parts)


def _chart(found: Report) -> str:
    """Curves of what is proposed, of prompt length and of the oracle, over the hull of single models."""
    shown = [one for one in found.figures if not one.is_control or one.name.startswith(("prompt", "oracle"))]
    corners = routing.hull(list(found.singles.values()))
    points = [*corners, *(point for one in shown for point in one.curve)]
    low_x, high_x = min(point.cost for point in points), max(point.cost for point in points)
    low_y, high_y = min(point.quality for point in points), max(point.quality for point in points)
    if high_x <= low_x or high_y <= low_y:
        return ""

    def place(point: Point) -> svg.Place:
        return (point.cost - low_x) / (high_x - low_x), (point.quality - low_y) / (high_y - low_y)

    pieces = [svg.axis()]
    for figures in shown:
        colour = "var(--soft)" if figures.is_control else "var(--local)"
        step = max(1, len(figures.curve) // _MOST_POINTS)
        drawn = [place(point) for point in (*figures.curve[:-1:step], figures.curve[-1])]
        middle = drawn[len(drawn) // 2]
        pieces += [svg.curve(drawn, colour), svg.label(middle, figures.name, "middle", colour)]
    pieces.append(svg.curve([place(point) for point in corners], "var(--promise)"))
    for name, point in found.singles.items():
        if name in (found.pair.small, found.pair.reference):
            across, height = place(point)
            pieces.append(svg.dot((across, height), "var(--promise)"))
            pieces.append(svg.label((across, height + 0.04), name, "start" if across < 0.5 else "end"))
    if found.reached is not None:
        pieces.append(svg.dot(place(Point(found.reached.cost, found.reached.quality)), "var(--local)"))
    pieces += [svg.tick(0.0, f"{low_x:.3g}", "bottom"), svg.tick(1.0, f"{high_x:.3g}", "bottom")]
    pieces += [svg.tick(0.0, f"{100 * low_y:.0f}", "left"), svg.tick(1.0, f"{100 * high_y:.0f}", "left")]
    pieces.append(svg.note("mean score in per cent", "top left"))
    label = f"Score against {unit(found.pair)}; controls are grey, the hull of single models joins the dots"
    return svg.figure(pieces, label)
