"""`pilotfish certify TASK [--verify]`: what is promised for a task, and whether it can be recomputed."""

from __future__ import annotations

from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.errors import TaskError
from pilotfish.store.base import TaskRecord
from pilotfish.store.home import Home


@click.command("certify", help="Show what is promised for TASK; with --verify recompute it from the log.")
@click.argument("task")
@click.option("--verify", "recompute", is_flag=True, help="Recompute it; exit 1 on any difference.")
@click.option("--certificate", "certificate_id", default="", help="An older certificate instead of the one in force.")
@options.place_options
@options.json_option
def command(
    task: str, recompute: bool, certificate_id: str, config_path: Path | None, home: Path | None, as_json: bool
) -> int:
    settings = options.settings_from(config_path, home)
    place = options.home_from(config_path, home)
    record = options.find_task(place.registry, task)
    certificate = _certificate(place, record, certificate_id)
    if certificate is None:
        return _refused(place, record, as_json)
    differences: list[str] = []
    if recompute:
        differences = _differences(place, record, certificate, settings.learning.encoder)
    if as_json:
        found = {"certificate": certificate.to_json(), "verified": recompute and not differences}
        output.print_json({**found, "differences": differences} if recompute else found)
    else:
        click.echo(f"{record.name}: {output.promise(certificate)}")
        click.echo(f"procedure: {certificate.procedure}\nsplit: {certificate.split_rule}")
        click.echo("it assumes: " + "\n            ".join(certificate.assumptions))
        for difference in differences:
            click.echo(f"DIFFERS: {difference}", err=True)
        if recompute and not differences:
            click.echo(f"Recomputed from the log and specialist {certificate.artefact_sha256[:16]}: no difference.")
    return 1 if differences else 0


def _certificate(place: Home, record: TaskRecord, certificate_id: str) -> Certificate | None:
    wanted = certificate_id or record.certificate_id
    if not wanted:
        return None
    certificate = place.registry.certificate(wanted)
    if certificate is None or certificate.task_id != record.task_id:
        raise TaskError(f"Task {record.name!r} has no certificate {wanted!r}.")
    return certificate


def _refused(place: Home, record: TaskRecord, as_json: bool) -> int:
    verdicts = place.registry.verdicts(record.task_id)
    last = verdicts[-1] if verdicts else None
    if as_json:
        output.print_json({"certificate": None, "refusal": last.to_json() if isinstance(last, Refusal) else None})
    elif isinstance(last, Refusal):
        click.echo(f"{record.name}: not certified. {last.message}")
    else:
        click.echo(f"{record.name}: never attempted. `pilotfish distil {record.name} --max-risk 0.02` tries.")
    return 1


def _differences(place: Home, record: TaskRecord, certificate: Certificate, encoder: str) -> list[str]:
    from pilotfish.guarantees.learn import known_examples
    from pilotfish.guarantees.verify import verify
    from pilotfish.specialists.specialist import Specialist
    from pilotfish.students.encoder_cache import open_encoder

    specialist = Specialist.load(
        place.specialists / certificate.artefact_sha256[:16], open_encoder(load.cache(), encoder)
    )
    examples = known_examples(place).get(record.task_id, [])
    return [str(difference) for difference in verify(certificate, examples, specialist)]
