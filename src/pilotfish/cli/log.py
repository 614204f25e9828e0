"""`pilotfish log list|show|marks|export|prune`: what was recorded.

Its only destructive command asks first. The format of an export is `store/export.py`'s; here it is written to a file or
to standard output, where a reader may leave at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections import Counter
from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.core.by_hand import VERDICTS
from pilotfish.core.errors import TaskError
from pilotfish.core.receipt import REASONS
from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_by_hand
from pilotfish.store.build import prune as delete
from pilotfish.store.export import export as export_rows


@click.group("log", help="List, show, export and prune what was recorded; list the marks of its disagreements.")
def command() -> None:
    pass


@command.command("list")
@click.option("-n", "limit", default=20, show_default=True, type=click.IntRange(1), help="How many, newest first.")
@click.option("--task", default="", help="Only this task (name or id).")
@click.option("--reason", type=click.Choice(list(REASONS)), help="Only this reason.")
@click.option("--errors", is_flag=True, help="Only requests that failed.")
@options.place_options
@options.json_option
def list_rows(
    limit: int, task: str, reason: str | None, errors: bool, config_path: Path | None, home: Path | None, as_json: bool
) -> None:
    """The newest requests."""
    place = options.home_from(config_path, home)
    task_id = options.find_task(place.registry, task).task_id if task else ""
    where = LogFilter(task_id=task_id, reason=reason or "", errors_only=errors, limit=limit, newest_first=True)
    rows = list(place.log.rows(where))
    if as_json:
        output.print_json([dataclasses.asdict(row) for row in rows])
        return
    if not rows:
        click.echo("The log holds no such request.")
        return
    names = {record.task_id: record.name for record in place.registry.tasks()}
    output.print_table(
        ["request", "time (UTC)", "task", "model", "reason", "ms", "input", "answer"],
        [
            [
                row.request_id,
                output.moment(row.time_s),
                names.get(row.task_id, row.task_id[:8]),
                output.shorten(row.model, 24),
                row.reason if row.status == 200 else f"HTTP {row.status}",
                f"{1000 * row.latency_s:.1f}",
                output.shorten(row.input, 40),
                output.shorten(row.answer, 24),
            ]
            for row in rows
        ],
    )


@command.command("show")
@click.argument("request")
@options.place_options
def show(request: str, config_path: Path | None, home: Path | None) -> None:
    """One request whole, with its instructions, as JSON."""
    place = options.home_from(config_path, home)
    row = place.log.row(request)
    if row is None:
        raise TaskError(f"The log holds no request {request!r}.", hint="`pilotfish log list` shows the newest ids.")
    found = place.log.instructions(row.instructions_id)
    audit = place.log.audit(request)
    output.print_json(
        {
            **dataclasses.asdict(row),
            "instructions": json.loads(found.body) if found else None,
            "audit": dataclasses.asdict(audit) if audit else None,
            "repeats": [dataclasses.asdict(item) for item in place.log.repeats(request)],
        }
    )


@command.command("marks")
@click.option("--task", default="", help="Only this task (name or id).")
@options.place_options
@options.json_option
def marks(task: str, config_path: Path | None, home: Path | None, as_json: bool) -> None:
    """Which answer people found right where specialist and large model disagreed; with --json every mark ever made."""
    place = options.home_from(config_path, home)
    task_id = options.find_task(place.registry, task).task_id if task else ""
    with contextlib.closing(open_by_hand(place.folder)) as by_hand:
        if as_json:
            output.print_json([dataclasses.asdict(mark) for mark in by_hand.marks(task_id)])
            return
        records = [record for record in place.registry.tasks() if task_id in ("", record.task_id)]
        counted = [(record.name, Counter(verdict for verdict, _ in tally.elements())) for record in records
                   if (tally := by_hand.tally(record.task_id))]  # fmt: skip
    if not counted:
        click.echo("No disagreement was marked.")
        return
    rows = [[name, str(counts.total()), *(str(counts[verdict]) for verdict in VERDICTS)] for name, counts in counted]
    output.print_table(["task", "marked", *VERDICTS.values()], rows)


@command.command("export")
@click.option("--task", default="", help="Only this task (name or id).")
@click.option("-o", "--output", "path", type=options.NewFile(), help="A file; else standard output.")
@options.place_options
def export(task: str, path: Path | None, config_path: Path | None, home: Path | None) -> int:
    """Requests with the reference's answers as JSON lines that `pilotfish backtest` reads."""
    place = options.home_from(config_path, home)
    task_id = options.find_task(place.registry, task).task_id if task else ""
    n = 0
    with click.open_file(str(path) if path else "-", "wb") as stream:
        for line in export_rows(place.log, LogFilter(task_id=task_id)):
            stream.write(line)
            n += 1
    click.echo(f"{n:,} requests exported.", err=True)
    return 0 if n else 1


@command.command("prune")
@click.option("--days", type=click.FloatRange(0), required=True, help="Delete requests older than this many days.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.place_options
def prune(days: float, yes: bool, config_path: Path | None, home: Path | None) -> int:
    """Delete old requests for good; certificates stay, but can no longer be recomputed without them."""
    place = options.home_from(config_path, home)
    if not yes and not click.confirm(f"Delete every request older than {days:g} days for good?"):
        return 1
    click.echo(f"{delete(place.folder, time.time() - days * 86400):,} requests deleted.")
    return 0
