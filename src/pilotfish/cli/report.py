"""A backtest's or a demo's findings as text: the headline, tasks, controls, what waiting would have bought.

The figures and their reasons for not being there are made in `replay/report.py`; the page with charts is
`replay/page.py`. No figure is shown here without its n or its interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pilotfish.cli import output
from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.tasks.survey import MIN_REQUESTS

if TYPE_CHECKING:
    from pilotfish.replay.report import Report

MAX_NAMED = 10
"""Unreadable rows named in full; `--json` lists all."""


def print_report(report: Report) -> None:
    """The report for people."""
    from pilotfish.replay.page import headline

    for row in report.unreadable[:MAX_NAMED]:
        click.echo(f"not read: {row}", err=True)
    if len(report.unreadable) > MAX_NAMED:
        click.echo(f"... and {len(report.unreadable) - MAX_NAMED:,} more (--json lists all)", err=True)
    click.echo(headline(report) + "\n")
    if not report.tasks:
        click.echo(f"No task recurs in them: a task is {MIN_REQUESTS} requests or more with the same instructions.")
        return
    _print_tasks(report)
    click.echo("\nControls: a saving means nothing without them.")
    output.print_table(
        ["policy", "served", "coverage", "disagreement among those", "what it is"],
        [
            [
                c.name.replace("_", " "),
                c.served,
                output.percent(c.coverage),
                output.with_interval(c.disagreement),
                c.note,
            ]
            for c in report.controls
        ],
    )
    if report.longer:
        click.echo("\nWhat observing longer would have bought")
        output.print_table(
            ["task", "observe until request", "certified coverage then", "share of all its requests"],
            [
                [row.task, row.position, output.percent(row.certified_coverage), output.percent(row.share_of_all)]
                for row in report.longer
            ],
        )
    latency = report.latency_ms
    if latency is not None:
        click.echo(
            f"\nLocal decision: {latency[0]:.2g} ms median, {latency[1]:.2g} ms at 95 %, n = {len(report.local_s)}; "
            f"{report.served_first:,} of {report.served:,} local answers came from the first tier, n-grams alone."
        )
    if report.cost is None:
        click.echo("Money: unknown. It needs [large] prices and token usage in every row.")
    else:
        click.echo(f"Money: ${report.cost.spent_usd:.4f} spent, ${report.cost.saved_net_usd:.4f} saved net of audits.")


def _print_tasks(report: Report) -> None:
    from pilotfish.replay.report import per_traffic, share

    per = report.claim.per
    rows: list[list[object]] = []
    for task in report.tasks:
        served, ran = int(task.served.sum()), int(task.ran.sum())
        wrong = (
            share(int((task.served & task.differs).sum()), served, "-")
            if report.claim.is_of_served
            else per_traffic(task)
        )
        rows.append(
            [
                task.task.name,
                len(task.rows),
                task.task.shape.kind,
                task.mode,
                served,
                output.percent(served / ran) if ran else "-",
                output.with_interval(wrong) if served else "-",
                task.first_served_at,
            ]
        )
    columns = ["task", "requests", "answers", "mode", "served", "coverage", f"disagreement per {per}", "from request"]
    output.print_table(columns, rows)
    for task in report.tasks:
        verdict = task.verdict
        if isinstance(verdict, Certificate):
            click.echo(f"\n{task.task.name}: {output.promise(verdict)}")
        elif isinstance(verdict, Refusal):
            click.echo(f"\n{task.task.name}: not certified. {verdict.message}")
        else:
            click.echo(f"\n{task.task.name}: only observed, {task.why_observed}.")
        for position, message in task.drifts:
            click.echo(f"{task.task.name}: drift at request {position:,}. {message}")
        if task.withdrawn_at is not None:
            click.echo(f"{task.task.name}: audits withdrew its certificate at request {task.withdrawn_at:,}.")
