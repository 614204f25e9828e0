"""Servers as processes under measurement: started on one core, their CPU and memory read from the kernel (Linux).

Not a benchmark itself. It knows nothing of what a server serves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server of ours. `cold_s` is from its start to its first whole answer."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    cold_s: float

    def tree(self) -> list[int]:
        """The server's process and all below it."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def cpu_s(self) -> float:
        """User and system seconds used so far."""
        ticks = 0
        for pid in self.tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_S

    def rss_mb(self) -> float:
        """Resident memory of the tree, shared pages counted once a process."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.tree())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], port: int, *, core: int | str, answers: Callable[[int], bool], **environment: str
) -> Iterator[Server]:
    """Start a server on one core, wait until it `answers` on its port, end it by its process id."""
    started_s = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            while not answers(port):
                if process.poll() is not None or time.perf_counter() - started_s > 90:
                    output.seek(0)
                    sys.exit(f"{name} did not start: {output.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.005)
            yield Server(name, port, process, time.perf_counter() - started_s)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_quiet(limit_s: float = 20.0) -> None:
    """Wait until the machine is nine tenths idle, at most `limit_s`: neighbours halve what a core does."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        before = _ticks()
        time.sleep(0.3)
        idle, total = (after - then for after, then in zip(_ticks(), before, strict=True))
        if idle > 0.9 * total:
            return


def _ticks() -> tuple[int, int]:
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
