"""A report as one self-contained HTML page: verdicts, charts with the Pareto front, tables, items to read.

No script, no font, no request to anywhere; light and dark. Whatever a model or a data set says is escaped. The tables
are those of `tables.py`, the pieces those of `pages/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Literal

from pilotfish.core.measured import Measured
from pilotfish.evals.axes import Axes
from pilotfish.evals.report import Disagreement, Report, Robustness
from pilotfish.evals.tables import Table, headline, tables
from pilotfish.pages import html, svg

MOST_FLIPS = 20
MOST_CHARACTERS = 600


def render(report: Report) -> str:
    """The page."""
    title = f"{', '.join(model.name for model in report.models)} on {report.head.data}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        "".join(f'<p class="claim">{escape(sentence)}</p>' for sentence in headline(report)),
        _chart(report, "US dollars an answer", lambda model: model.money.usd_per_task, 1.0),
        _chart(report, "milliseconds, end to end (median)", lambda model: model.latency["end_to_end"]["p50"], 1e3),
        *(_table(table) for table in tables(report)),
        *(_flips(row) for row in report.robustness if row.flips),
        _disagreements(report),
        _origin(report),
    ]
    return html.document(title, parts)


def pareto(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The places (cost, quality) that no other one beats in both, by cost."""
    front: list[tuple[float, float]] = []
    for cost, worth in sorted(places, key=lambda place: (place[0], -place[1])):
        if not front or worth > front[-1][1]:
            front.append((cost, worth))
    return front


def _table(table: Table) -> str:
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in table.notes if note)
    return f"<h2>{escape(table.title)}</h2>" + html.table(table.columns, table.rows) + notes


def _chart(report: Report, what: str, cost_of: Callable[[Axes], Measured], factor: float) -> str:
    """Quality against a cost on a logarithmic axis; empty where fewer than two models have one."""
    known = [(model, cost_of(model)) for model in report.models if model.quality.value is not None]
    shown = [(model, cost) for model, cost in known if cost.value]
    if len(shown) < 2:
        return ""
    across = _scale([end * factor for _, cost in shown for end in (cost.low, cost.value, cost.high) if end])
    low, high = _bounds([model.quality for model, _ in shown])

    def height(value: float) -> float:
        return (value - low) / (high - low)

    front = pareto([(cost.value * factor, model.quality.value or 0.0) for model, cost in shown if cost.value])
    pieces = [svg.axis(), svg.curve([(across(cost), height(worth)) for cost, worth in front], "var(--promise)")]
    for model, cost in shown:
        assert cost.value is not None
        assert model.quality.value is not None
        x, y = across(cost.value * factor), height(model.quality.value)
        if model.quality.low is not None and model.quality.high is not None:
            pieces.append(svg.curve([(x, height(model.quality.low)), (x, height(model.quality.high))], "var(--soft)"))
        if cost.low and cost.high:
            pieces.append(svg.curve([(across(cost.low * factor), y), (across(cost.high * factor), y)], "var(--soft)"))
        pieces += [svg.dot((x, y), "var(--local)"), svg.label((x, y + 0.05), model.name, _anchor(x))]
        pieces.append(svg.tick(x, f"{cost.value * factor:.3g}", "bottom"))
    pieces += [svg.tick(height(value), f"{100 * value:.0f}", "left") for value in (low, high)]
    pieces.append(svg.note("score in per cent", "top left"))
    missing = [model.name for model in report.models if not cost_of(model).value]
    label = f"Quality against {what}; bars: 95 % intervals, line: Pareto front, axis: logarithmic"
    label += f"; without a figure: {', '.join(missing)}" if missing else ""
    return svg.figure(pieces, label)


def _scale(values: Sequence[float]) -> Callable[[float], float]:
    low, high = math.log(min(values)), math.log(max(values))
    if high - low < 1e-9:
        return lambda value: 0.5
    return lambda value: 0.05 + 0.9 * (math.log(value) - low) / (high - low)


def _anchor(across: float) -> Literal["start", "middle", "end"]:
    return "start" if across < 0.2 else "end" if across > 0.8 else "middle"


def _bounds(figures: Sequence[Measured]) -> tuple[float, float]:
    ends = [end for figure in figures for end in (figure.low, figure.value, figure.high) if end is not None]
    low, high = math.floor(20 * min(ends)) / 20, math.ceil(20 * max(ends)) / 20
    return (low, high) if high > low else (low - 0.05, high + 0.05)


def _flips(row: Robustness) -> str:
    cells = [
        [
            flip.item,
            _cut(flip.text),
            f"{_cut(flip.answer)} ({flip.score:g})",
            f"{_cut(flip.perturbed_answer)} ({flip.perturbed_score:g})",
        ]
        for flip in row.flips[:MOST_FLIPS]
    ]
    heading = f"<h2>{escape(row.model)}, {escape(row.variant)}: {len(row.flips):,} flips</h2>"
    return heading + html.table(["item", "text", "answer before", "answer after"], cells)


def _disagreements(report: Report) -> str:
    if not report.disagreements:
        return ""
    names = [model.name for model in report.models]
    rows = [
        [found.item, _cut(found.text), _cut(found.expected), *_said(found, names)] for found in report.disagreements
    ]
    heading = f"<h2>Items on which they part: {len(rows):,} of {report.n_disagreements:,}</h2>"
    return heading + html.table(["item", "text", "expected", *names], rows)


def _said(found: Disagreement, names: Sequence[str]) -> list[str]:
    cells = []
    for name in names:
        answer, score, failure = found.answers.get(name, ("", 0.0, "no answer"))
        cells.append(f"{_cut(answer)} ({failure or f'{score:g}'})".strip())
    return cells


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _origin(report: Report) -> str:
    head = report.head
    rows = [
        ["data", f"{head.data}, SHA-256 {head.data_sha256}"],
        ["prompts", head.prompts_sha256],
        ["scorer", head.scorer],
        ["asked with", head.sampling],
        ["seed", str(report.rule.seed)],
        *([f"model {model.name}", f"{model.kind}, SHA-256 {model.sha256}"] for model in report.models),
        *([name, value] for name, value in head.environment.items()),
    ]
    command = f"<pre>{escape(report.command)}</pre>" if report.command else ""
    return "<h2>Where these figures come from</h2>" + html.table(["", ""], rows) + command
