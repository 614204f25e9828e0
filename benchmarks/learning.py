"""Learning: CPU-seconds and memory from 10,000 logged requests to a specialist folder, encoding included.

    OPENBLAS_NUM_THREADS=1 python benchmarks/learning.py [--rows 10000]

Needs ../shared/data. Writes benchmarks/results/learning-DATE.json.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.scoring.answers import parse, settle
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import open_encoder

from record import cpu_s, labelled, save


def measure(name: str, n_rows: int, home: Path) -> dict[str, Any]:
    rows = labelled(name)[:n_rows]
    encoder = open_encoder(home)
    started, cpu_started = time.monotonic(), cpu_s()
    shape = settle(row["label"] for row in rows)
    task = Task(id="0" * 16, name=name, instructions_id="", instructions="", shape=shape)
    examples = [Example(text=row["text"], answer=parse(shape, row["label"]), time_s=0) for row in rows]
    encoded_at = [cpu_started]

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "encode" and done == total:
            encoded_at[0] = cpu_s()

    fitted = distil(examples, task, encoder, home / "specialists", progress=progress)
    finished = cpu_s()
    return {
        "data": name,
        "rows": len(rows),
        "classes": len(shape.fields[0].values),
        "encode_cpu_s": round(encoded_at[0] - cpu_started, 2),
        "fit_cpu_s": round(finished - encoded_at[0], 2),
        "cpu_s": round(finished - cpu_started, 2),
        "wall_s": round(time.monotonic() - started, 2),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "folder_mb": round(sum(path.stat().st_size for path in fitted.folder.iterdir()) / 1e6, 2),
        "out_of_fold_agreement": round(1 - float(fitted.out_of_fold.disagreement.mean()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    n_rows = parser.parse_args().rows
    figures = []
    for name in ("banking77", "customer_support_bitext", "sst2"):
        with tempfile.TemporaryDirectory() as home:
            figures.append(measure(name, n_rows, Path(home)))
        if len(figures) == 1:
            print("  ".join(figures[0]))
        print("  ".join(f"{value!s:>{len(key)}}" for key, value in figures[-1].items()), flush=True)
    save("learning", figures=figures)


if __name__ == "__main__":
    main()
