"""`pilotfish promote TASK`: let its certified specialist answer, or run it unseen with --shadow.

It decides the mode only. Whether the certificate's promise is strict enough is decided by the gateway, from its own
settings; where the settings at hand already ask for more, this says so.
"""

from __future__ import annotations

from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.guarantees import by_hand
from pilotfish.store.home import open_home


@click.command("promote", help="Let TASK's certified specialist answer (with --shadow: run it beside, unseen).")
@click.argument("task")
@click.option("--shadow", is_flag=True, help="Run the specialist beside the large model; its answers are only logged.")
@options.place_options
def command(task: str, shadow: bool, config_path: Path | None, home: Path | None) -> int:
    settings = options.settings_from(config_path, home)
    place = open_home(load.home(settings))
    record = options.find_task(place.registry, task)
    mode = by_hand.decide(place.registry, record, "shadow" if shadow else "promote")
    if mode is None:
        click.echo(f"{record.name} has no certificate. `pilotfish distil {record.name} --max-risk 0.05` tries for one.")
        return 1
    click.echo(f"{record.name}: {record.mode} -> {mode}, under certificate {record.certificate_id}.")
    wanted = settings.quality.claim
    certificate = by_hand.falls_short(place.registry, record, wanted)
    if mode == "serve" and wanted is not None and certificate is not None:
        click.echo(
            f"It will not serve under these settings: they ask for {output.claim(wanted)}, and the certificate "
            f"promises {output.claim(certificate.claim)}. `pilotfish distil {record.name}` tries for a stricter one.",
            err=True,
        )
    return 0
