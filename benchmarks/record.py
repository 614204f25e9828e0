"""What every benchmark here needs: labelled data, CPU time, and one dated JSON beside the printed table.

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
RESULTS = Path(__file__).parent / "results"


def labelled(name: str) -> list[dict[str, Any]]:
    """The rows of one labelled data set (`id`, `text`, `label`, `split`). Ends the script where there is none."""
    path = DATA / f"cls_{name}.jsonl.gz"
    if not path.is_file():
        sys.exit(f"skipped: {path.name} is not there (it lies in ../shared/data of a development checkout)")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def cpu_s() -> float:
    """User and system seconds of this process and its ended children."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def save(name: str, **figures: Any) -> Path:
    """Write results/NAME-DATE.json: date, command, machine, versions, load, and the figures."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    written = {
        "date": today,
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {package: version(package) for package in ("pilotfish", "numpy", "onnxruntime", "scikit-learn")},
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"),
        "load_average": os.getloadavg()[0],
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{today}.json"
    path.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return path
