"""How long `pilotfish inspect` takes for a model of the catalogue, without a network: the whole process, and its CPU.

The machine's bandwidth is measured beforehand, as it is once in 90 days, and the modules are compiled by that first
call, as they are once installed. Runs of all commands take turns, so that a busy moment falls on each. Target: 150 ms.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record

RUNS = 15
CALLS = (["gpt2"], ["llama-3-8b"], ["gpt2", "bert-base-uncased", "deepseek-v3"], ["--help"])


def timed(arguments: list[str], cache: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of one call."""
    command = [sys.executable, "-m", "pilotfish", "inspect", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = _children_s(), time.perf_counter()
    subprocess.run(command, env={**environment, "PILOTFISH_CACHE": str(cache)}, check=True, capture_output=True)
    return time.perf_counter() - started, _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        first_s, _ = timed(["gpt2"], cache)
        rounds = [[timed(call, cache) for call in CALLS] for _ in range(RUNS)]
    cells = []
    for call, runs in zip(CALLS, zip(*rounds, strict=True), strict=True):
        wall_s, cpu_s = zip(*runs, strict=True)
        cells.append(
            {
                "inspect": " ".join(call),
                "median_ms": round(1000 * statistics.median(wall_s)),
                "fastest_ms": round(1000 * min(wall_s)),
                "cpu_ms": round(1000 * statistics.median(cpu_s)),
            }
        )
    record.show("pilotfish inspect", cells)
    record.save("sizing", first_call_s=round(first_s, 2), runs=RUNS, calls=cells)


if __name__ == "__main__":
    main()
