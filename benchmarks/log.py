"""The log: CPU per appended row, import speed, queries on a million rows, rows lost by kill -9 of a busy writer.

    python benchmarks/log.py [--rows 1000000]

Writes benchmarks/results/log-DATE.json.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pilotfish.core.ids import request_id
from pilotfish.core.log_row import InstructionsRow, RequestRow
from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_log, open_writer
from pilotfish.store.spool import Spool, segments
from pilotfish.store.sqlite_import import import_spool
from pilotfish.store.sqlite_log import SqliteLog

from record import save

TEXT = "I ordered two weeks ago and the parcel still has not arrived, can you tell me where it is? Order {}"


def request_row(number: int, time_s: float) -> RequestRow:
    return RequestRow(
        request_id=request_id(),
        time_s=time_s,
        instructions_id=f"{number % 20:016x}",
        task_id=f"{number % 20:016x}",
        mode="serve",
        model="large-model-2025-01-01",
        reason="certified" if number % 3 else "uncertain",
        sampling="observe",
        probability=1.0,
        input=TEXT.format(number),
        answer="delivery_status",
        reference_answer=None if number % 3 else "delivery_status",
        local_answer="delivery_status",
        certainty=0.97,
        scope=0.81,
        prompt_tokens=412,
        completion_tokens=5,
        cost_usd=0.000131,
        latency_s=0.00123,
        settings_sha256="0" * 64,
        specialist_sha256="1" * 64,
        certificate_id="2" * 16,
    )


def append_cost(home: Path, n: int) -> dict[str, float]:
    rows = [request_row(i, 1.7e9 + i) for i in range(n)]
    spool = open_writer(home)
    user, system, wall = os.times().user, os.times().system, time.perf_counter()
    for row in rows:
        spool.append(row)
    seconds = time.perf_counter() - wall
    after = os.times()
    spool.close()
    cpu = after.user - user + after.system - system
    size = sum(path.stat().st_size for path in segments(home / "spool"))
    return {
        "append_cpu_us": 1e6 * cpu / n,
        "append_wall_us": 1e6 * seconds / n,
        "row_bytes": size / n,
        "gaps": spool.n_gaps,
    }


def import_speed(home: Path, n: int) -> dict[str, float]:
    """Fills the log with `n` rows, in rounds as the importer would."""
    SqliteLog(home / "log.db")
    seconds, cpu, done = 0.0, 0.0, 0
    while done < n:
        spool = Spool(home / "spool")
        for number in range(done, min(done + 100_000, n)):
            spool.append(request_row(number, 1.7e9 + number))
        spool.close()
        start, start_cpu = time.perf_counter(), time.process_time()
        done += import_spool(home / "spool", home / "log.db")
        seconds += time.perf_counter() - start
        cpu += time.process_time() - start_cpu
    return {
        "import_rows_per_s": done / seconds,
        "import_cpu_us": 1e6 * cpu / done,
        "log_bytes_per_row": (home / "log.db").stat().st_size / done,
    }


def milliseconds(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def query_times(home: Path, n: int) -> dict[str, float]:
    log = SqliteLog(home / "log.db")
    some = next(log.rows(LogFilter(newest_first=True, limit=1)))
    late = LogFilter(task_id=some.task_id, since_s=1.7e9 + 0.99 * n)
    return {
        "newest_50_ms": milliseconds(lambda: list(log.rows(LogFilter(newest_first=True, limit=50)))),
        "one_row_ms": milliseconds(lambda: log.row(some.request_id)),
        "task_counts_ms": milliseconds(log.task_counts),
        "last_percent_of_a_task_ms": milliseconds(lambda: list(log.rows(late))),
        "one_task_10000_rows_ms": milliseconds(lambda: list(log.rows(LogFilter(task_id=some.task_id, limit=10_000)))),
    }


def write_until_killed(home: Path) -> None:
    """The writer process: appends and acknowledges each row by its number on standard output."""
    spool = open_writer(home)
    spool.append(InstructionsRow(instructions_id="i", time_s=0.0, body="{}", text=""))
    number = 0
    while True:
        row = request_row(number, float(number))
        spool.append(row)
        os.write(1, f"{row.request_id}\n".encode())
        number += 1


def lost_by_kills(home: Path, kills: int) -> dict[str, float]:
    acknowledged: set[str] = set()
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, __file__, "--write", str(home)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        acknowledged.add(process.stdout.readline().decode().strip())
        deadline = time.perf_counter() + 0.5
        while time.perf_counter() < deadline:
            acknowledged.add(process.stdout.readline().decode().strip())
        process.send_signal(signal.SIGKILL)
        acknowledged |= {
            line.strip() for line in process.stdout.read().decode().splitlines(keepends=True) if "\n" in line
        }
        process.wait()
    found = {row.request_id for row in open_log(home).rows(LogFilter())}
    return {"kills": kills, "acknowledged": len(acknowledged), "lost": len(acknowledged - found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_until_killed(Path(options.write))
    figures: dict[str, float] = {"rows": options.rows}
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder) / name for name in ("append", "import", "kill")]
        for home in homes:
            (home / "spool").mkdir(parents=True)
        figures |= append_cost(homes[0], 100_000)
        figures |= import_speed(homes[1], options.rows)
        figures |= query_times(homes[1], options.rows)
        figures |= lost_by_kills(homes[2], 5)
    for name, value in figures.items():
        print(f"{name:28} {value:12,.2f}")
    save("log", figures=figures)


if __name__ == "__main__":
    main()
