"""`pilotfish export TASK --to DIR`: the certified specialist as a folder that answers without Pilotfish.

It finds the task's certificate, its specialist and the encoder; what is written is known to `specialists/export.py`.
"""

from __future__ import annotations

from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.config import load


@click.command("export", help="Write the certified specialist of TASK as a folder that needs no Pilotfish.")
@click.argument("task")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="The folder to write; new, or empty.")
@click.option("--web", is_flag=True, help="A page that answers in a browser, offline, goes with it.")
@click.option(
    "--web-runtime",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of onnxruntime-web for --web (default: a node_modules here or above).",
)
@options.place_options
@options.json_option
def command(
    task: str,
    to: Path,
    web: bool,
    web_runtime: Path | None,
    config_path: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    if web_runtime is not None and not web:
        raise click.UsageError("--web-runtime goes with --web.")
    settings = options.settings_from(config_path, home)
    place = options.home_from(config_path, home)
    record = options.find_task(place.registry, task)
    certificate = place.registry.certificate(record.certificate_id) if record.certificate_id else None
    if certificate is None:
        click.echo(
            f"{record.name} has no certificate, and without one nothing may answer: "
            f"`pilotfish distil {record.name} --max-risk 0.05` tries for one.",
            err=True,
        )
        return 1
    from pilotfish.specialists.export import export, find_web_runtime
    from pilotfish.students.encoder_cache import built_encoder

    written = export(
        place.specialists / certificate.artefact_sha256[:16],
        built_encoder(load.cache(), settings.learning.encoder),
        certificate,
        to,
        web_runtime=find_web_runtime(web_runtime, Path()) if web else None,
    )
    n_bytes = sum(written.files.values())
    if as_json:
        output.print_json({"folder": str(to), "bytes": n_bytes, "certificate": certificate.id, "files": written.files})
    else:
        click.echo(f"{record.name}: {output.promise(certificate)}")
        click.echo(f"{to}: {n_bytes / 1e6:.1f} MB in {len(written.files)} files. Its README.md says how it is used.")
    return 0
