"""`pilotfish demote TASK`: back to the large model at once, and held there until promoted.

It only writes to the registry. A running gateway notices at its next look, and the learner leaves a held task alone, so
that a person's decision is not undone by a better specialist.
"""

from __future__ import annotations

from pathlib import Path

import click

from pilotfish.cli import options
from pilotfish.guarantees import by_hand


@click.command("demote", help="Send TASK back to the large model; it stays there until promoted.")
@click.argument("task")
@options.place_options
def command(task: str, config_path: Path | None, home: Path | None) -> int:
    place = options.home_from(config_path, home)
    record = options.find_task(place.registry, task)
    by_hand.decide(place.registry, record, "demote")
    click.echo(f"{record.name}: {record.mode} -> observe, held. `pilotfish promote {record.name}` lets it serve again.")
    return 0
