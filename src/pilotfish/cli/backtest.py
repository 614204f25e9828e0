"""`pilotfish backtest TRAFFIC...`: the whole loop on the user's own log, without calling any model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.errors import ConfigError

if TYPE_CHECKING:
    from pilotfish.replay.report import Report

MAX_NAMED = 10
"""Unreadable rows named in full; `--json` lists all."""


class ObserveType(click.ParamType[int | None]):
    """`auto` or a number of requests."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:  # noqa: ANN401
        """None for auto."""
        if value is None or value == "auto":
            return None
        try:
            number = int(value)
        except ValueError:
            self.fail(f"expected a number of requests or 'auto', got {value!r}", param, ctx)
        if number < 0:
            self.fail(f"expected a number of requests of at least 0, got {number}", param, ctx)
        return number


@click.command("backtest", help="What if Pilotfish had stood in front of this recorded traffic?")
@click.argument("traffic", nargs=-1, required=True)
@options.promise_options
@click.option("--observe", type=ObserveType(), default="auto", help="Requests to observe before serving, or auto.")
@click.option("--instructions", default="", help="Instructions of bare input/output pairs.")
@click.option(
    "--audit-rate", type=click.FloatRange(0, 1), help="Share of requests audited while serving (default 0.05)."
)
@click.option("--no-what-if", is_flag=True, help="Skip the question what observing longer would have bought.")
@click.option("--html", "html_path", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to FILE.")
@click.option("--seed", default=0, show_default=True, help="Seed of the audit coins.")
@options.place_options
@options.json_option
def command(
    traffic: tuple[str, ...],
    max_risk: float | None,
    confidence: float | None,
    per: str | None,
    observe: int | None,
    instructions: str,
    audit_rate: float | None,
    no_what_if: bool,
    html_path: Path | None,
    seed: int,
    config_path: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    flags = {("quality", "max_risk"): max_risk, ("quality", "confidence"): confidence, ("quality", "per"): per}
    settings = options.settings_from(config_path, home, {**flags, ("quality", "audit_rate"): audit_rate})
    claim = settings.quality.claim
    if claim is None:
        raise ConfigError(
            "A backtest needs the tolerated disagreement.", hint="Give it, for example: --max-risk 0.02 (two per cent)."
        )
    # Imported here so that --help needs neither numpy nor onnxruntime.
    from pilotfish.replay.backtest import Options, backtest
    from pilotfish.store.traffic import read_traffic
    from pilotfish.students.encoder_cache import open_encoder

    recorded = read_traffic(traffic, instructions=instructions)
    replay = Options(
        observe=observe,
        audit_rate=settings.quality.audit_rate,
        first_after=settings.learning.first_after,
        growth=settings.learning.growth,
        price=settings.large.price,
        what_if=not no_what_if,
        seed=seed,
    )
    with output.Progress() as progress:
        report = backtest(recorded, claim, open_encoder(load.cache(), settings.learning.encoder), replay, progress)
    if html_path is not None:
        from pilotfish.replay.page import render

        html_path.write_text(render(report, f"Backtest of {', '.join(Path(name).name for name in traffic)}"), "utf-8")
    if as_json:
        output.print_json(report.to_json())
    else:
        _print(report)
        if html_path is not None:
            click.echo(f"\nThe report with its charts: {html_path}")
    return 0 if report.served else 1


def _print(report: Report) -> None:
    """The report for people."""
    from pilotfish.replay.page import headline

    for row in report.unreadable[:MAX_NAMED]:
        click.echo(f"not read: {row}", err=True)
    if len(report.unreadable) > MAX_NAMED:
        click.echo(f"... and {len(report.unreadable) - MAX_NAMED:,} more (--json lists all)", err=True)
    click.echo(headline(report) + "\n")
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
            f"\nLocal decision: {latency[0]:.1f} ms median, {latency[1]:.1f} ms at 95 %, n = {len(report.local_s)}."
        )
    if report.cost is None:
        click.echo("Money: unknown. It needs [large] prices and token usage in every row.")
    else:
        click.echo(f"Money: ${report.cost.spent_usd:.4f} spent, ${report.cost.saved_net_usd:.4f} saved net of audits.")


def _print_tasks(report: Report) -> None:
    from pilotfish.replay.report import share

    rows: list[list[object]] = []
    for task in report.tasks:
        served, ran = int(task.served.sum()), int(task.ran.sum())
        wrong = share(int((task.served & task.differs).sum()), served, "-")
        rows.append(
            [
                task.task.name,
                len(task.rows),
                task.task.shape.kind,
                task.mode,
                served,
                output.percent(served / ran) if ran else "-",
                output.with_interval(wrong),
                task.first_served_at,
            ]
        )
    columns = ["task", "requests", "answers", "mode", "served", "coverage", "disagreement", "from request"]
    output.print_table(columns, rows)
    for task in report.tasks:
        verdict = task.verdict
        if isinstance(verdict, Certificate):
            click.echo(f"\n{task.task.name}: {output.promise(verdict)}")
        elif isinstance(verdict, Refusal):
            click.echo(f"\n{task.task.name}: not certified. {verdict.message}")
        if task.withdrawn_at is not None:
            click.echo(f"{task.task.name}: audits withdrew its certificate at request {task.withdrawn_at:,}.")
