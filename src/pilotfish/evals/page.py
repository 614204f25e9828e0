"""A report as one self-contained HTML page: verdicts, charts with the Pareto front, tables, items to read.

No script, no font, no request to anywhere; light and dark. Whatever a model or a data set says is escaped. The tables
are those of `tables.py`, the pieces those of `pages/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape

from pilotfish.core.measured import Measured
from pilotfish.evals import chart
from pilotfish.evals.axes import Axes
from pilotfish.evals.report import Disagreement, Report, Robustness
from pilotfish.evals.tables import Table, headline, tables
from pilotfish.pages import html

MOST_FLIPS = 20
MOST_CHARACTERS = 600

_LOOSE = re.compile(r"(?<=\d) (?=(?:ms|%|J|MB|MiB|tokens/s|requests/s|to)(?![\w-]))|(?<=\d to) (?=[-+\d])")


def render(report: Report) -> str:
    """The page."""
    return html.document(title(report), [f"<h1>{escape(title(report))}</h1>", *parts(report)])


def title(report: Report) -> str:
    """What it is about."""
    return f"{', '.join(model.name for model in report.models)} on {report.head.data}"


def parts(report: Report) -> list[str]:
    """What stands below its title, each as HTML; some are empty."""
    return [
        "".join(f'<p class="claim">{escape(sentence)}</p>' for sentence in headline(report)),
        _chart(report, "US dollars an answer", lambda model: model.money.usd_per_task, 1.0),
        _chart(report, "ms end to end, median", lambda model: model.latency["end_to_end"]["p50"], 1e3),
        *(_table(table) for table in tables(report)),
        *(_flips(row) for row in report.robustness if row.flips),
        _disagreements(report),
        _origin(report),
    ]


def _table(table: Table) -> str:
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in table.notes if note)
    return (
        f"<h2>{escape(table.title)}</h2>"
        + html.table(table.columns, [[_kept(cell) for cell in row] for row in table.rows])
        + notes
    )


def _kept(cell: str) -> str:
    """The cell with its figures held together with their units, and intervals in one piece."""
    return _LOOSE.sub("\u00a0", cell)


def _chart(report: Report, what: str, cost_of: Callable[[Axes], Measured], factor: float) -> str:
    """Quality against a cost; empty where fewer than two models have one."""
    points, without = [], []
    for model in report.models:
        cost = cost_of(model)
        if cost.value and model.quality.value is not None:
            points.append(chart.Point(model.name, _scaled(cost, factor), model.quality))
        else:
            without.append(model.name)
    return chart.draw(points, what, without) if len(points) > 1 else ""


def _scaled(figure: Measured, factor: float) -> Measured:
    def times(end: float | None) -> float | None:
        return None if end is None else end * factor

    return replace(figure, value=times(figure.value), low=times(figure.low), high=times(figure.high))


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
