"""A report as Markdown, to be pasted into an issue or kept beside the code.

The tables are those of `tables.py`; pipes and line breaks that came from a model are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.evals.report import Report
from pilotfish.evals.tables import Table, headline, tables

MOST_READ = 20


def render(report: Report) -> str:
    """The whole report."""
    names = " and ".join(model.name for model in report.models)
    parts = [f"# {_cell(names)} on {_cell(report.head.data)}", "\n".join(f"- {_cell(s)}" for s in headline(report))]
    parts += [_table(table) for table in tables(report)]
    parts += [_disagreements(report), _origin(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(table: Table) -> str:
    lines = [_row(table.columns), _row(["---"] * len(table.columns)), *(_row(row) for row in table.rows)]
    return "\n\n".join([f"## {table.title}", "\n".join(lines), *(_cell(note) for note in table.notes if note)])


def _disagreements(report: Report) -> str:
    if not report.disagreements:
        return ""
    names = [model.name for model in report.models]
    lines = [_row(["item", "text", "expected", *names]), _row(["---"] * (3 + len(names)))]
    for found in report.disagreements[:MOST_READ]:
        said = [found.answers.get(name, ("", 0.0, "")) for name in names]
        cells = [f"{answer[:80] or failure or '(none)'} ({score:g})" for answer, score, failure in said]
        lines.append(_row([found.item, found.text[:120], found.expected[:80], *cells]))
    return f"## Items on which they part ({report.n_disagreements:,} in all)\n\n" + "\n".join(lines)


def _origin(report: Report) -> str:
    head = report.head
    lines = [f"- {name}: {value}" for name, value in head.environment.items()]
    lines += [
        f"- data: {head.data}, SHA-256 `{head.data_sha256}`; prompts `{head.prompts_sha256}`",
        f"- scorer: {head.scorer}; {head.sampling}; seed {report.rule.seed}",
    ]
    lines += [f"- {model.name}: {model.kind}, SHA-256 `{model.sha256}`" for model in report.models]
    if report.command:
        lines.append(f"- command: `{report.command}`")
    return "## Where these figures come from\n\n" + "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    # HTML of a model's answer must not become a page's.
    escaped = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
