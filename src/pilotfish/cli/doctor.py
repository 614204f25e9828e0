"""`pilotfish doctor`: can this installation do its work, and has anything been lost?

It looks and mends nothing, and needs no large model. A missing extra or encoder is a warning, since a gateway that
observes needs neither; what has been lost or changed on disk is bad.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.config.settings import NO_ENCODER, Settings
from pilotfish.core.errors import PilotfishError
from pilotfish.core.version import __version__
from pilotfish.store.base import LogFilter
from pilotfish.store.home import Home, open_home

Check = tuple[str, str, str]
"""What was looked at; "ok", "warn" or "bad"; what was found."""

EXTRAS = {
    "local": ("numpy", "onnxruntime", "safetensors", "tokenizers"),
    "learn": ("onnx", "sklearn"),
}
LOW_DISK_BYTES = 1 << 30


@click.command("doctor", help="Check this installation, its folders and its log. Exit code 1 when something is wrong.")
@options.place_options
@options.json_option
def command(config_path: Path | None, home: Path | None, as_json: bool) -> int:
    checks: list[Check] = [("version", "ok", f"Pilotfish {__version__}, Python {platform.python_version()}")]
    checks += [_extra(extra, modules) for extra, modules in EXTRAS.items()]
    try:
        settings = options.settings_from(config_path, home)
    except PilotfishError as error:
        checks.append(("configuration", "bad", str(error)))
    else:
        checks.append(
            ("configuration", "ok", f"large model: {settings.large.url or settings.large.weights or 'none set'}")
        )
        checks += _encoder(settings)
        checks += _home(load.home(settings))
    if as_json:
        output.print_json([{"check": name, "state": state, "found": found} for name, state, found in checks])
    else:
        output.print_table(["check", "", "found"], checks)
    return 1 if any(state == "bad" for _, state, _ in checks) else 0


def _extra(extra: str, modules: tuple[str, ...]) -> Check:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        return f"extra {extra}", "warn", f"{', '.join(missing)} missing: pip install 'pilotfish[{extra}]'"
    return f"extra {extra}", "ok", ", ".join(modules)


def _encoder(settings: Settings) -> list[Check]:
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    if settings.learning.encoder == NO_ENCODER:
        return [("encoder", "ok", "none: n-grams learn and answer alone")]
    from pilotfish.students.encoder_cache import open_encoder

    try:
        encoder = open_encoder(load.cache(), settings.learning.encoder)
    except (PilotfishError, OSError) as error:
        return [("encoder", "warn", str(error))]
    return [("encoder", "ok", f"{settings.learning.encoder}, {encoder.dimension} dimensions, {encoder.sha256[:12]}")]


def _home(folder: Path) -> list[Check]:
    if not folder.exists():
        return [("home", "ok", f"{folder} (nothing recorded yet)")]
    try:
        place = open_home(folder)
        checks = _contents(place)
    except PilotfishError as error:
        return [("home", "bad", str(error))]
    free = shutil.disk_usage(folder).free
    state = "ok" if free > LOW_DISK_BYTES else "warn"
    return [("home", "ok", str(folder)), ("disk", state, f"{free / 1e9:.1f} GB free"), *checks]


def _contents(place: Home) -> list[Check]:
    counts = place.log.task_counts()
    n_failed = sum(1 for _ in place.log.rows(LogFilter(errors_only=True, limit=10_000)))
    gaps = place.log.n_gaps()
    checks: list[Check] = [
        ("log", "ok", f"{sum(count.n_requests for count in counts):,} requests, {n_failed:,} of them failed"),
        ("gaps", "bad" if gaps else "ok", f"{gaps:,} rows could not be written (disk full?)" if gaps else "none"),
    ]
    records = place.registry.tasks()
    serving = [record for record in records if record.mode == "serve"]
    checks.append(("tasks", "ok", f"{len(records)} known, {len(serving)} served by a specialist"))
    for record in records:
        if record.specialist_sha256:
            checks.append(_specialist(place, record.name, record.specialist_sha256))
    return checks


def _specialist(place: Home, name: str, sha256: str) -> Check:
    if "numpy" not in sys.modules and importlib.util.find_spec("numpy") is None:
        return f"specialist {name}", "warn", "cannot be checked without the 'local' extra"
    from pilotfish.specialists.card import read_folder

    try:
        found = read_folder(place.specialists / sha256[:16]).sha256
        if found != sha256:
            return f"specialist {name}", "bad", f"its folder holds another one ({found[:16]})"
    except PilotfishError as error:
        return f"specialist {name}", "bad", f"{error} The gateway defers to the large model."
    return f"specialist {name}", "ok", sha256[:16]
