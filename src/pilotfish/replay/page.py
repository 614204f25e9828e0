"""The backtest report as one self-contained HTML page: no script, no font, no request to anywhere.

Pure text out of a `Report`; every text that came from a user's log is escaped. Its pieces are those of `pages/`.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise

import numpy as np

from pilotfish.core.certificate import Certificate
from pilotfish.core.measured import Measured
from pilotfish.pages import html, svg
from pilotfish.replay.report import Report
from pilotfish.replay.timeline import Replayed

N_WINDOWS = 40


def render(report: Report, title: str) -> str:
    """The page."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(headline(report))}</p>",
        _summary(report),
        *(_task(task, report) for task in report.tasks),
        _controls(report),
        _longer(report),
        _unreadable(report),
    ]
    return html.document(title, parts)


def headline(report: Report) -> str:
    """One sentence: what would have happened, or did."""
    claim = report.claim
    promise = (
        f"at most {100 * claim.max_risk:g} % disagreement per {claim.per} with {100 * claim.confidence:g} % confidence"
    )
    would = "were" if report.is_live else "would have been"
    if not report.served:
        none = "was" if report.is_live else "would have been"
        return f"Of {_requests(report)} none {none} answered locally under the promise of {promise}."
    found = report.disagreement if claim.is_of_served else report.disagreement_per_traffic
    return (
        f"Of {_requests(report)} {report.served:,} ({100 * report.coverage:.1f} %) {would} answered locally, under the "
        f"promise of {promise}; found: {text(found)}."
    )


def _requests(report: Report) -> str:
    return "1 request" if report.n_requests == 1 else f"{report.n_requests:,} requests"


def text(measured: Measured) -> str:
    """A share with its interval and n, or why there is none."""
    if measured.value is None or measured.low is None or measured.high is None:
        return measured.why_none
    return f"{100 * measured.value:.2f} % ({100 * measured.low:.2f} to {100 * measured.high:.2f} %, n = {measured.n:,})"


def _summary(report: Report) -> str:
    rows = [
        ("requests", f"{report.n_requests:,}"),
        ("answered locally", f"{report.served:,} ({100 * report.coverage:.1f} %)"),
        ("of them by a first tier, n-grams alone", f"{report.served_first:,}"),
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
    return html.table(["", ""], [[name, value] for name, value in rows])


def _task(task: Replayed, report: Report) -> str:
    verdict = task.verdict
    heading = f"<h2>Task: {escape(task.task.name)}</h2>"
    about = (
        f"<p>{len(task.rows):,} requests, answers: {escape(task.task.shape.kind)}, mode at the end: {task.mode}. "
        + (f"Withdrawn by audits at request {task.withdrawn_at:,}. " if task.withdrawn_at else "")
        + "".join(f"Drift at request {position:,}: {message} " for position, message in task.drifts)
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
        about += f"Only observed: {escape(task.why_observed)}.</p>"
    return heading + about + (_timeline(task, report) if task.ran.any() else "")


def _timeline(task: Replayed, report: Report) -> str:
    """Coverage and disagreement (per the promise's kind) in windows over the task's requests."""
    n = len(task.rows)
    edges = np.linspace(0, n, min(N_WINDOWS, n) + 1).astype(int)
    coverage, wrong = [], []
    for start, end in pairwise(edges):
        served = task.served[start:end]
        differing = int((served & task.differs[start:end]).sum())
        of = int(served.sum()) if report.claim.is_of_served else end - start
        coverage.append(served.mean())
        wrong.append(differing / of if of else 0.0)
    scale = max(0.1, 2 * report.claim.max_risk, *wrong)
    pieces = [
        svg.axis(),
        _line(coverage, 1.0, "var(--local)"),
        _line(wrong, scale, "var(--wrong)"),
        svg.level(report.claim.max_risk / scale, "var(--promise)", f"promise {100 * report.claim.max_risk:g} %"),
        svg.note("answered locally (0 to 100 %)", "top left", "var(--local)"),
        svg.note(f"disagreement per {report.claim.per} (0 to {100 * scale:.0f} %)", "top right", "var(--wrong)"),
        svg.note("first request", "bottom left"),
        svg.note(f"request {n:,} of the task", "bottom right"),
    ]
    for position, _ in task.adopted:
        at = next(i for i, row in enumerate(task.rows) if row.position >= position)
        pieces.append(svg.upright(at / n, "var(--soft)"))
    label = f"Coverage and disagreement of {task.task.name} over time; dashed: a certificate was adopted"
    return svg.figure(pieces, label)


def _line(values: list[float], scale: float, colour: str) -> str:
    """The values at equal distances over the whole width."""
    steps = max(1, len(values) - 1)
    return svg.curve([(i / steps, value / scale) for i, value in enumerate(values)], colour)


def _controls(report: Report) -> str:
    rows = [
        [control.name.replace("_", " "), f"{100 * control.coverage:.1f} %", text(control.disagreement), control.note]
        for control in report.controls
    ]
    return "<h2>Controls</h2>" + html.table(["policy", "answered locally", "disagreement among those", ""], rows)


def _longer(report: Report) -> str:
    if not report.longer:
        return ""
    rows = [
        [item.task, f"{item.position:,}", f"{100 * item.certified_coverage:.1f} %", f"{100 * item.share_of_all:.1f} %"]
        for item in report.longer
    ]
    return "<h2>What observing longer would have bought</h2>" + html.table(
        ["task", "observe until request", "certified coverage then", "share of all its requests"], rows
    )


def _unreadable(report: Report) -> str:
    if not report.unreadable:
        return ""
    return f"<h2>{len(report.unreadable):,} rows could not be read</h2>" + html.bullets(report.unreadable[:100])
