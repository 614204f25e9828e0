"""How long `pilotfish inspect` takes for a model of the catalogue, without a network: the whole process, and its CPU.

The machine's bandwidth is measured beforehand, as it is once in 90 days. Target: 150 ms.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record

RUNS = 15
MODELS = (["gpt2"], ["llama-3-8b"], ["gpt2", "bert-base-uncased", "deepseek-v3"])


def timed(arguments: list[str], cache: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of one call."""
    command = [sys.executable, "-m", "pilotfish", *arguments]
    before, started = _children_s(), time.perf_counter()
    subprocess.run(command, env={**record.os.environ, "PILOTFISH_CACHE": str(cache)}, check=True, capture_output=True)
    return time.perf_counter() - started, _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        first_s, _ = timed(["inspect", "gpt2"], cache)
        cells = []
        for models in MODELS:
            runs = [timed(["inspect", *models], cache) for _ in range(RUNS)]
            median, fastest = (1000 * of(wall for wall, _ in runs) for of in (statistics.median, min))
            cpu = 1000 * statistics.median(cpu for _, cpu in runs)
            cells.append({"models": " ".join(models), "median_ms": median, "fastest_ms": fastest, "cpu_ms": cpu})
    record.show("pilotfish inspect", cells)
    record.save("sizing", first_call_s=round(first_s, 2), runs=RUNS, calls=cells)


if __name__ == "__main__":
    main()
