"""The backtest report as one self-contained HTML page: no script, no font, no request to anywhere.

Pure text out of a `Report`; every text that came from a user's log is escaped. Charts are inline SVG.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise

import numpy as np

from pilotfish.core.certificate import Certificate
from pilotfish.core.measured import Measured
from pilotfish.replay.report import Report
from pilotfish.replay.timeline import Replayed

WIDTH, HEIGHT, PAD = 720, 220, 40
N_WINDOWS = 40

_STYLE = """
:root { --ink: #1b2733; --soft: #5b6b7a; --line: #d7dee5; --paper: #fff;
  --local: #0b7a75; --wrong: #b3261e; --promise: #8a6d00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa8b5; --line: #33414d; --paper: #12181e;
    --local: #4fc3bd; --wrong: #ff8a80; --promise: #e0c060; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 760px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.soft { color: var(--soft); } svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--soft); }
.scroll { overflow-x: auto; }
"""


def render(report: Report, title: str) -> str:
    """The page."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(headline(report))}</p>",
        _summary(report),
        *(_task(task, report) for task in report.tasks if task.task.shape.is_closed),
        _controls(report),
        _longer(report),
        _unreadable(report),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def headline(report: Report) -> str:
    """One sentence: what would have happened."""
    claim = report.claim
    promise = (
        f"at most {100 * claim.max_risk:g} % disagreement per {claim.per} with {100 * claim.confidence:g} % confidence"
    )
    if not report.served:
        return (
            f"Of {report.n_requests:,} requests none would have been answered locally under the promise of {promise}."
        )
    found = report.disagreement if claim.per == "answer" else report.disagreement_per_traffic
    return (
        f"Of {report.n_requests:,} requests {report.served:,} ({100 * report.coverage:.1f} %) would have been answered "
        f"locally, under the promise of {promise}; found: {text(found)}."
    )


def text(measured: Measured) -> str:
    """A share with its interval and n, or why there is none."""
    if measured.value is None or measured.low is None or measured.high is None:
        return measured.why_none
    return f"{100 * measured.value:.2f} % ({100 * measured.low:.2f} to {100 * measured.high:.2f} %, n = {measured.n:,})"


def _summary(report: Report) -> str:
    rows = [
        ("requests", f"{report.n_requests:,}"),
        ("answered locally", f"{report.served:,} ({100 * report.coverage:.1f} %)"),
        ("disagreement among those", text(report.disagreement)),
        ("disagreement per traffic", text(report.disagreement_per_traffic)),
        ("first local answer at request", f"{report.first_served_at:,}" if report.first_served_at else "never"),
    ]
    if report.latency_ms is not None:
        p50, p95 = report.latency_ms
        rows.append(("local decision", f"{p50:.1f} ms median, {p95:.1f} ms at 95 %, n = {len(report.local_s)}"))
    if report.cost is not None:
        rows.append(
            ("money", f"{report.cost.spent_usd:.4f} $ spent, {report.cost.saved_net_usd:.4f} $ saved net of audits")
        )
    return _table(["", ""], [[name, value] for name, value in rows])


def _task(task: Replayed, report: Report) -> str:
    verdict = task.verdict
    heading = f"<h2>Task: {escape(task.task.name)}</h2>"
    about = (
        f"<p>{len(task.rows):,} requests, answers: {escape(task.task.shape.kind)}, mode at the end: {task.mode}. "
        + (f"Withdrawn by audits at request {task.withdrawn_at:,}. " if task.withdrawn_at else "")
    )
    if isinstance(verdict, Certificate):
        about += (
            f"Certificate {verdict.id}: risk per {verdict.claim.per} at most {100 * verdict.claim.max_risk:g} % "
            f"(bound {100 * verdict.bound:.2f} %), {verdict.errors:g} disagreements among {verdict.n_served:,} of "
            f"{verdict.n:,} calibration rows, coverage {100 * verdict.coverage:.1f} %, attempt {verdict.attempt}, "
            f"delta spent {verdict.delta_spent:.4f}.</p>"
        )
    elif verdict is not None:
        about += f"{escape(verdict.message)}</p>"
    else:
        about += "Too few requests for an attempt.</p>"
    return heading + about + (_timeline(task, report) if task.ran.any() else "")


def _timeline(task: Replayed, report: Report) -> str:
    """Coverage and disagreement (per the promise's kind) in windows over the task's requests."""
    n = len(task.rows)
    edges = np.linspace(0, n, min(N_WINDOWS, n) + 1).astype(int)
    coverage, wrong = [], []
    for start, end in pairwise(edges):
        served = task.served[start:end]
        differing = int((served & task.differs[start:end]).sum())
        of = int(served.sum()) if report.claim.per == "answer" else end - start
        coverage.append(served.mean())
        wrong.append(differing / of if of else 0.0)
    scale = max(0.1, 2 * report.claim.max_risk, *wrong)
    lines = [
        _axis(),
        _line(coverage, 1.0, "var(--local)"),
        _line(wrong, scale, "var(--wrong)"),
        _level(report.claim.max_risk / scale, "var(--promise)", f"promise {100 * report.claim.max_risk:g} %"),
        f'<text x="{PAD}" y="14" style="fill:var(--local)">answered locally (0 to 100 %)</text>',
        f'<text x="{WIDTH - PAD}" y="14" text-anchor="end" style="fill:var(--wrong)">'
        f"disagreement per {report.claim.per} (0 to {100 * scale:.0f} %)</text>",
        f'<text x="{PAD}" y="{HEIGHT - 8}">first request</text>',
        f'<text x="{WIDTH - PAD}" y="{HEIGHT - 8}" text-anchor="end">request {n:,} of the task</text>',
    ]
    for position, _ in task.adopted:
        at = next(i for i, row in enumerate(task.rows) if row.position >= position)
        x = PAD + (WIDTH - 2 * PAD) * at / n
        lines.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="20" y2="{HEIGHT - PAD}" stroke="var(--soft)" stroke-dasharray="3 3"/>'
        )
    label = f"Coverage and disagreement of {task.task.name} over time; dashed: a certificate was adopted"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(lines)}</svg>"
        f'<p class="soft">{escape(label)}.</p>'
    )


def _axis() -> str:
    bottom = HEIGHT - PAD
    return f'<line x1="{PAD}" x2="{WIDTH - PAD}" y1="{bottom}" y2="{bottom}" stroke="var(--line)"/>'


def _y(share: float) -> float:
    return HEIGHT - PAD - share * (HEIGHT - PAD - 24)


def _line(values: list[float], scale: float, colour: str) -> str:
    step = (WIDTH - 2 * PAD) / max(1, len(values) - 1)
    points = " ".join(f"{PAD + i * step:.1f},{_y(value / scale):.1f}" for i, value in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _level(share: float, colour: str, label: str) -> str:
    y = _y(share)
    return (
        f'<line x1="{PAD}" x2="{WIDTH - PAD}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-dasharray="6 4"/>'
        f'<text x="{WIDTH - PAD}" y="{y - 4:.1f}" text-anchor="end" style="fill:{colour}">{escape(label)}</text>'
    )


def _controls(report: Report) -> str:
    rows = [
        [control.name.replace("_", " "), f"{100 * control.coverage:.1f} %", text(control.disagreement), control.note]
        for control in report.controls
    ]
    return "<h2>Controls</h2>" + _table(["policy", "answered locally", "disagreement among those", ""], rows)


def _longer(report: Report) -> str:
    if not report.longer:
        return ""
    rows = [
        [item.task, f"{item.position:,}", f"{100 * item.certified_coverage:.1f} %", f"{100 * item.share_of_all:.1f} %"]
        for item in report.longer
    ]
    return "<h2>What observing longer would have bought</h2>" + _table(
        ["task", "observe until request", "certified coverage then", "share of all its requests"], rows
    )


def _unreadable(report: Report) -> str:
    if not report.unreadable:
        return ""
    items = "".join(f"<li>{escape(row)}</li>" for row in report.unreadable[:100])
    return f"<h2>{len(report.unreadable):,} rows could not be read</h2><ul>{items}</ul>"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{escape(column)}</th>" for column in columns)
    head = f"<thead><tr>{cells}</tr></thead>" if any(columns) else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
