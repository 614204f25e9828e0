"""`pilotfish forget TASK --matching TEXT`: past answers that are given no more, at once and in all later learning.

With --source what `distil --answers` brought is taken back.
"""

from __future__ import annotations

from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.guarantees.forget import forget
from pilotfish.guarantees.pace import Pace
from pilotfish.store.home import open_home


@click.command("forget", help="Give past answers of TASK no more: those with a text in them, or all.")
@click.argument("task")
@click.option("--matching", metavar="TEXT", help="Answers that hold this text; case and spaces do not count.")
@click.option("--source", metavar="NAME", help="Those that only this file of `distil --answers` brought.")
@click.option("--all", "everything", is_flag=True, help="All answers: the task goes back to the large model.")
@options.place_options
@options.json_option
def command(
    task: str,
    matching: str | None,
    source: str | None,
    everything: bool,
    config_path: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    if [matching is not None and bool(matching.strip()), bool(source), everything].count(True) != 1:
        raise click.UsageError("Say which answers: --matching TEXT, --source NAME, or --all.")
    settings = options.settings_from(config_path, home)
    place = open_home(load.home(settings), settings.learning)
    record = options.find_task(place.registry, task)
    learning = settings.learning
    pace = Pace(first_after=learning.first_after, growth=learning.growth)
    texts = forget(place, record, matching or "", pace, source=source or "")
    if as_json:
        output.print_json({"task": record.name, "forgotten": list(texts)})
    elif not texts:
        what = f"{source} is taken back; no answer came from it alone" if source else "no past answer holds that text"
        click.echo(f"{record.name}: {what}.")
    else:
        for text in texts:
            click.echo(f"  {output.shorten(text, 100)}")
        click.echo(
            f"{record.name}: {len(texts):,} past answers forgotten; a running gateway stops giving them at once."
        )
    return 0 if texts or source else 1
