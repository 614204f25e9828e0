"""What every benchmark here needs: data, CPU time, a printed table, and one dated JSON beside it.

Not a benchmark itself. The data lies beside a development checkout (../shared/data); a user's clone has none of it.
"""

from __future__ import annotations

import datetime
import gzip
import json
import os
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "shared" / "data"
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("pilotfish", "numpy", "onnxruntime", "scikit-learn", "uvicorn", "uvloop", "httptools")


def labelled(name: str) -> list[dict[str, Any]]:
    """The rows of one labelled data set: `id`, `text`, `label`, `split`."""
    return read(f"cls_{name}")


def read(name: str) -> list[dict[str, Any]]:
    """The rows of any data set. Ends the script where there is none."""
    path = DATA / f"{name}.jsonl.gz"
    if not path.is_file():
        sys.exit(f"skipped: {path.name} is not there (it lies in ../shared/data of a development checkout)")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def cpu_s() -> float:
    """User and system seconds of this process and its ended children."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def show(title: str, cells: list[dict[str, Any]]) -> None:
    """Print a table whose columns are the keys, as wide as their names; shares as per cent."""
    print(f"\n{title}")
    print("  ".join(cells[0]))
    for cell in cells:
        print("  ".join(f"{_cell(key, value):>{len(key)}}" for key, value in cell.items()), flush=True)


def _cell(key: str, value: Any) -> str:
    if not isinstance(value, float):
        return {True: "yes", False: "NO"}[value] if isinstance(value, bool) else str(value)
    return f"{value:.2f}" if key.endswith(("_s", "_us", "_ms", "_ratio")) else f"{100 * value:.1f} %"


def save(name: str, **figures: Any) -> Path:
    """Write results/NAME-DATE.json: the figures, and date, command, machine, versions, load and CPU of the script."""
    script = Path(sys.argv[0]).resolve().relative_to(RESULTS.parents[1])
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    written = {
        "date": today,
        "command": " ".join(["python", str(script), *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {package: version(package) for package in PACKAGES},
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"),
        "load_average": os.getloadavg()[0],
        "cpu_s": round(cpu_s(), 1),
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{today}.json"
    path.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return path
