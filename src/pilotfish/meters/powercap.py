"""Energy from the kernel's powercap counters (Intel and AMD RAPL): `/sys/class/powercap/*/energy_uj`.

Only whole packages are counted (`intel-rapl:0`); their parts (`intel-rapl:0:0`) are inside them. The counters wrap at
`max_energy_range_uj`, after minutes under load, so a thread looks every ten seconds. Most systems let only root read
them: then the reading says so.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from pilotfish.meters.base import Reading

ROOT = Path("/sys/class/powercap")
GAP_S = 10.0
SHORTEST_S = 1.0
"""Shorter windows are not reported: the counter's steps would be a visible share of them."""


class PowercapMeter:
    """A `Meter` of the energy of all CPU packages of the machine, whoever used it."""

    def __init__(self, root: Path = ROOT, *, gap_s: float = GAP_S) -> None:
        self._packages = sorted(path for path in root.glob("*-rapl:*") if path.name.count(":") == 1)
        self._gap_s = gap_s
        self._last: dict[Path, int] = {}
        self._used_uj = 0
        self._why_none = "" if self._packages else "no powercap (RAPL) counter on this machine"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="powercap-meter", daemon=True)
        self._started_s = 0.0

    def start(self) -> None:
        """Read the counters for the first time."""
        self._started_s = time.monotonic()
        self._look()
        if not self._why_none:
            self._thread.start()

    def stop(self) -> list[Reading]:
        """The energy since the start."""
        window_s = time.monotonic() - self._started_s
        if self._thread.is_alive():
            self._ended.set()
            self._thread.join()
            self._look()
        if not self._why_none and window_s < SHORTEST_S:
            self._why_none = f"the run took {window_s:.2f} s; at least {SHORTEST_S:g} s are needed"
        return [
            Reading(
                quantity="energy",
                value=None if self._why_none else self._used_uj / 1e6,
                unit="J",
                method="none" if self._why_none else "rapl",
                scope="CPU packages of the machine, idle included",
                window_s=window_s,
                why_none=self._why_none,
            )
        ]

    def _watch(self) -> None:
        while not self._ended.wait(self._gap_s):
            self._look()

    def _look(self) -> None:
        try:
            for package in self._packages:
                now_uj = int((package / "energy_uj").read_text())
                step_uj = now_uj - self._last.get(package, now_uj)
                if step_uj < 0:
                    step_uj += int((package / "max_energy_range_uj").read_text())
                self._used_uj += step_uj
                self._last[package] = now_uj
        except PermissionError:
            self._why_none = "the RAPL counters may be read by root only (chmod a+r energy_uj lets this user)"
        except (OSError, ValueError) as error:
            self._why_none = f"the RAPL counters cannot be read: {error}"
