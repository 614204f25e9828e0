"""Advice as one self-contained HTML page: the answer, what would change it, the break-even curve, all tables.

No script, no font, no request to anywhere. Whatever a model or a data set is called is escaped.
"""

from __future__ import annotations

import math
from html import escape

from pilotfish.advice.advise import Advice
from pilotfish.advice.changes import volume
from pilotfish.advice.costs import cost
from pilotfish.advice.needs import HOURS_PER_MONTH
from pilotfish.advice.tables import curves, headline, next_sentences, other_steps, tables
from pilotfish.evals.tables import Table
from pilotfish.pages import html, svg

_COLOURS = ("var(--local)", "var(--wrong)", "var(--promise)", "var(--soft)", "var(--ink)")
_PLACES = 121
_DECADES = 2.0


def render(advice: Advice, command: str) -> str:
    """The page. `command` makes it again."""
    first, *others = headline(advice)
    title = f"Which model, at {volume(advice.decision.per_h)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="claim">{escape(first)}</p>',
        "".join(f"<p>{escape(sentence)}</p>" for sentence in others),
        "<h2>What would change the answer</h2>" + html.bullets(advice.changes) if advice.changes else "",
        _chart(advice),
        "<h2>The next measurement worth making</h2>"
        + "".join(_sentence(sentence) for sentence in next_sentences(advice)),
        *("".join(_sentence(sentence) for sentence in step) for step in other_steps(advice)),
        *(_table(table) for table in tables(advice)),
        f"<h2>Made by</h2><pre>{escape(command)}</pre>",
    ]
    return html.document(title, parts)


def _sentence(text: str) -> str:
    return f"<pre>{escape(text.strip())}</pre>" if text.startswith("    ") else f"<p>{escape(text)}</p>"


def _table(table: Table) -> str:
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in table.notes if note)
    return f"<h2>{escape(table.title)}</h2>" + html.table(table.columns, table.rows) + notes


def _chart(advice: Advice) -> str:
    """Dollars a month against requests an hour, both logarithmic; empty with fewer than two curves."""
    options, decision = curves(advice), advice.decision
    middle = math.log10(decision.per_h)
    places = [middle - _DECADES + 2 * _DECADES * i / (_PLACES - 1) for i in range(_PLACES)]
    lines = {
        option.name: [
            (place, (cost(option, decision.needs, 10**place).usd_per_h or 0.0) * HOURS_PER_MONTH) for place in places
        ]
        for option in options
    }
    lines = {name: points for name, points in lines.items() if all(usd > 0 for _, usd in points)}
    if len(lines) < 2:
        return ""
    known = [math.log10(usd) for points in lines.values() for _, usd in points]
    low, high = math.floor(min(known)), math.ceil(max(known))
    span = max(1, high - low)

    def across(place: float) -> float:
        return (place - places[0]) / (2 * _DECADES)

    def height(usd: float) -> float:
        return (math.log10(usd) - low) / span

    pieces = [svg.axis(), svg.upright(across(middle), "var(--soft)")]
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        pieces.append(svg.curve([(across(place), height(usd)) for place, usd in points], colour))
        at = points[8 + 20 * number]
        pieces.append(svg.label((across(at[0]), min(0.97, height(at[1]) + 0.07)), name, "start", colour))
    for part in advice.segments[1:]:
        if places[0] < math.log10(part.low) < places[-1]:
            pieces.append(svg.upright(across(math.log10(part.low)), "var(--promise)"))
    marks = range(math.ceil(places[0]), math.floor(places[-1]) + 1)
    pieces += [svg.tick(across(power), f"{10.0**power:,g}", "bottom") for power in marks]
    pieces += [svg.tick((power - low) / span, _short(power), "left") for power in (low, high)]
    pieces.append(svg.note("USD a month", "top left"))
    label = "USD a month against requests an hour, both logarithmic; dashed: the volume asked for, and each break-even"
    return "<h2>Where the cheapest changes</h2>" + svg.figure(pieces, label)


def _short(power: int) -> str:
    """A power of ten as the margin of a chart holds it: 0.1, 100, 10k, 1M."""
    thousands = max(0, min(3, power // 3)) if power >= 4 else 0
    return f"{10.0 ** (power - 3 * thousands):,g}{('', 'k', 'M', 'G')[thousands]}"
