"""`pilotfish backtest TRAFFIC...`: the whole loop on the user's own log, without calling any model.

Flags in, a `replay.backtest.Options` out, and the report as a table, JSON or a page; what a backtest is and what its
figures mean is known to `replay/`. Exit code 1 where nothing would have been served.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pilotfish.cli import options, output
from pilotfish.cli.report import print_report
from pilotfish.config.settings import FINETUNE_MODES
from pilotfish.core.errors import ConfigError


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
    "--audit-rate",
    type=click.FloatRange(0, 1),
    help="Share of requests audited while serving (default: chosen by the promise).",
)
@click.option("--finetune", type=click.Choice(FINETUNE_MODES), help="Fine-tune encoders, too: minutes a task.")
@click.option("--no-what-if", is_flag=True, help="Skip the question what observing longer would have bought.")
@click.option("--html", "html_path", type=options.NewFile(), help="Write a page to FILE.")
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
    finetune: str | None,
    no_what_if: bool,
    html_path: Path | None,
    seed: int,
    config_path: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    flags = options.promise_flags(max_risk, confidence, per)
    flags |= {("quality", "audit_rate"): audit_rate, ("learning", "finetune"): finetune or "never"}
    settings = options.settings_from(config_path, home, flags)
    claim = settings.quality.claim
    if claim is None:
        raise ConfigError(
            "A backtest needs the tolerated disagreement.", hint="Give it, for example: --max-risk 0.02 (two per cent)."
        )
    # Imported here so that --help needs neither numpy nor onnxruntime.
    from pilotfish.replay.backtest import Options, backtest
    from pilotfish.store.traffic import read_traffic

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
        replay = replace(replay, tuning=options.tuning_from(settings, progress.say))
        report = backtest(recorded, claim, options.encoder_from(settings), replay, progress)
    if html_path is not None:
        from pilotfish.replay.page import render

        html_path.write_text(render(report, f"Backtest of {', '.join(Path(name).name for name in traffic)}"), "utf-8")
    if as_json:
        output.print_json(report.to_json())
    else:
        print_report(report)
        if html_path is not None:
            click.echo(f"\nThe report with its charts: {html_path}")
    return 0 if report.served else 1
