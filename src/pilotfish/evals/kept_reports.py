"""Reports of comparisons, kept in the home beside their runs, so that pages can show them without the data.

    HOME/runs/NAME.jsonl         the run (wherever --run says; here where it says nothing)
    HOME/runs/NAME.report.json   its report, as it was last made

A report is the record of `report.py` as JSON, read back into the same record: what shows it is what shows a fresh one.
The JSON is Python's, which has a word for what is infinite: an error that a single item tells nothing of.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pilotfish.core.errors import StoreError
from pilotfish.evals.report import Report
from pilotfish.evals.run_file import Head, read_head

RUNS = "runs"
MOST_LISTED = 200
_SUFFIX = ".report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """A run of a home. `has_report` is false of those from before reports were kept, or that were never finished."""

    name: str
    head: Head
    changed_s: float
    has_report: bool


def keep(report: Report, home: Path) -> Path:
    """Write a report into the home, whole or not at all; where to. Raises `StoreError` where it cannot be written."""
    stem = Path(report.run_path).stem
    name = stem if stem.endswith(report.head.id) else f"{stem}-{report.head.id}"
    path = home / RUNS / f"{name}{_SUFFIX}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(json.dumps(msgspec.to_builtins(report, str_keys=True)), "utf-8")
        fresh.replace(path)
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be written: {error.strerror}.") from error
    return path


def kept_runs(home: Path) -> list[KeptRun]:
    """The runs and reports of a home, the newest first, 200 at most; files that are neither are left out."""
    found: dict[str, KeptRun] = {}
    for path, changed_s in _newest(home / RUNS):
        name, is_report = path.name.removesuffix(_SUFFIX), path.name.endswith(_SUFFIX)
        if not is_report:
            name = path.stem
        if name in found and not is_report:
            continue
        with contextlib.suppress(StoreError, OSError):
            head = _read(path).head if is_report else read_head(path)
            found[name] = KeptRun(name=name, head=head, changed_s=changed_s, has_report=is_report)
    return sorted(found.values(), key=lambda run: -run.changed_s)


def kept_report(home: Path, name: str) -> Report | None:
    """The report of that name; None where there is none. Raises `StoreError` where it cannot be read."""
    names = {path.name: path for path, _ in _newest(home / RUNS)}
    path = names.get(f"{name}{_SUFFIX}")
    return None if path is None else _read(path)


def _newest(folder: Path) -> list[tuple[Path, float]]:
    return sorted(_files(folder), key=lambda found: -found[1])[:MOST_LISTED]


def _files(folder: Path) -> Iterator[tuple[Path, float]]:
    if folder.is_dir():
        for path in folder.iterdir():
            is_ours = path.name.endswith((_SUFFIX, ".jsonl")) and not path.name.startswith(".")
            if is_ours and path.is_file() and not path.is_symlink():
                yield path, path.stat().st_mtime


def _read(path: Path) -> Report:
    try:
        return msgspec.convert(json.loads(path.read_text("utf-8")), Report, str_keys=True)
    except (msgspec.ValidationError, ValueError, RecursionError, OSError) as error:
        raise StoreError(
            f"{path.name} is no report of this version: {error}.", hint="Run the same `pilotfish compare` again."
        ) from error
