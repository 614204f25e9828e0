"""Peak memory: the sum over this process and everything it started, sampled every 50 ms, and the kernel's own mark.

On Linux `/proc` is read by a thread; a peak shorter than the gap between samples is caught by the kernel's high-water
mark where one process alone made it. Elsewhere only that mark is known, and says so. Shared pages count once a process,
so that the sum over a tree is an upper bound.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from pathlib import Path

from pilotfish.meters.base import Reading

GAP_S = 0.05
_PROC = Path("/proc")
_PAGE_BYTES = resource.getpagesize()


class MemoryMeter:
    """A `Meter` of the resident memory of the process tree of `pid` (this process where none is given)."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = os.getpid() if pid is None else pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-meter", daemon=True)
        self._started_s = 0.0
        self._peak_bytes = self._before_bytes = 0

    def start(self) -> None:
        """Begin to sample."""
        self._started_s = time.monotonic()
        if sys.platform == "linux":
            self._before_bytes = tree_bytes(self._pid)
            self._thread.start()

    def stop(self) -> list[Reading]:
        """The peak of the tree since the start."""
        window_s = time.monotonic() - self._started_s
        if not self._thread.is_alive():
            return [_high_water(window_s)]
        self._ended.set()
        self._thread.join()
        return [
            Reading(
                quantity="memory",
                value=float(max(self._peak_bytes, tree_bytes(self._pid))),
                unit="bytes",
                method=f"sum of resident memory, sampled every {1e3 * GAP_S:.0f} ms",
                scope=f"process tree ({self._before_bytes / 1e6:.0f} MB of it were there before)",
                window_s=window_s,
            )
        ]

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._peak_bytes = max(self._peak_bytes, tree_bytes(self._pid))
            self._ended.wait(GAP_S)


def tree_bytes(pid: int) -> int:
    """The resident bytes of a process and its descendants now; those that have ended count 0. Linux only."""
    total, waiting = 0, [pid]
    while waiting:
        process = _PROC / str(waiting.pop())
        try:
            total += int((process / "statm").read_text().split()[1]) * _PAGE_BYTES
            for children in process.glob("task/*/children"):
                waiting += [int(child) for child in children.read_text().split()]
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile
    return total


def _high_water(window_s: float) -> Reading:
    # KiB on Linux and the BSDs, bytes on macOS.
    factor = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor
    return Reading(
        quantity="memory",
        value=float(peak),
        unit="bytes",
        method="ru_maxrss since the process began",
        scope="this process",
        window_s=window_s,
    )
