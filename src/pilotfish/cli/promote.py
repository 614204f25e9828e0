"""`pilotfish promote TASK`: let its certified specialist answer, or run it unseen with --shadow.

It decides the mode only. Whether the certificate's promise is strict enough is decided by the gateway, from its own
settings; where the settings at hand already ask for more, this says so.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.core.task import Mode
from pilotfish.store.base import Event
from pilotfish.store.home import open_home


@click.command("promote", help="Let TASK's certified specialist answer (with --shadow: run it beside, unseen).")
@click.argument("task")
@click.option("--shadow", is_flag=True, help="Run the specialist beside the large model; its answers are only logged.")
@options.place_options
def command(task: str, shadow: bool, config_path: Path | None, home: Path | None) -> int:
    settings = options.settings_from(config_path, home)
    place = open_home(load.home(settings))
    record = options.find_task(place.registry, task)
    if not record.certificate_id:
        # The certificate of a withdrawn task is not enough: it must be earned again. The learner may try.
        place.registry.update_task(record.task_id, is_held=False)
        click.echo(f"{record.name} has no certificate. `pilotfish distil {record.name} --max-risk 0.05` tries for one.")
        return 1
    mode: Mode = "shadow" if shadow else "serve"
    # A shadow stays one until a person says otherwise: the learner must not let it serve.
    place.registry.update_task(record.task_id, mode=mode, is_held=shadow)
    place.registry.add_event(
        Event(time_s=time.time(), task_id=record.task_id, kind="promoted", message=f"to {mode} by hand", details={})
    )
    click.echo(f"{record.name}: {record.mode} -> {mode}, under certificate {record.certificate_id}.")
    wanted, certificate = settings.quality.claim, place.registry.certificate(record.certificate_id)
    if mode == "serve" and wanted is not None and certificate is not None and not certificate.claim.covers(wanted):
        click.echo(
            f"It will not serve under these settings: they ask for {output.claim(wanted)}, and the certificate "
            f"promises {output.claim(certificate.claim)}. `pilotfish distil {record.name}` tries for a stricter one.",
            err=True,
        )
    return 0
