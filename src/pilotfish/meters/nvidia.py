"""Energy and memory of NVIDIA devices, through `nvidia-smi`, which reads NVML and comes with the driver.

One `nvidia-smi` in a loop reports power draw and used memory of each device every 100 ms; energy is the sum of power
over time. It counts the whole device, whoever uses it, and is labelled as sampled: short spikes between samples are
not seen.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time

from pilotfish.meters.base import Reading

GAP_MS = 100
SHORTEST_S = 1.0
_QUERY = "index,power.draw,memory.used"
_SCOPE = "all NVIDIA devices of the machine, idle included"


class NvidiaMeter:
    """A `Meter` of energy and peak memory of the NVIDIA devices. `command` is the program to ask."""

    def __init__(self, command: str = "nvidia-smi") -> None:
        self._command = shutil.which(command)
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._watch, name="nvidia-meter", daemon=True)
        self._started_s = 0.0
        self._joules = 0.0
        self._n_samples = 0
        self._no_power = ""
        self._last: dict[str, tuple[float, float]] = {}
        self._used_bytes: dict[str, float] = {}
        self._peak_bytes = 0.0

    def start(self) -> None:
        """Start the program, where there is one."""
        self._started_s = time.monotonic()
        if self._command is None:
            return
        words = [self._command, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits", f"--loop-ms={GAP_MS}"]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a program of the driver, found on the path
                words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError:
            self._command = None
            return
        self._thread.start()

    def stop(self) -> list[Reading]:
        """Energy and peak memory since the start."""
        window_s = time.monotonic() - self._started_s
        if self._process is not None:
            self._process.terminate()
            self._thread.join()
            self._process.wait()
        why = self._why_none()
        no_energy = why or self._no_power
        if not no_energy and window_s < SHORTEST_S:
            no_energy = f"the run took {window_s:.2f} s; at least {SHORTEST_S:g} s are needed"
        return [
            Reading(
                quantity="energy",
                value=None if no_energy else self._joules,
                unit="J",
                method="none" if no_energy else "nvml_sampled",
                scope=_SCOPE,
                window_s=window_s,
                why_none=no_energy,
            ),
            Reading(
                quantity="device memory",
                value=None if why else self._peak_bytes,
                unit="bytes",
                method="nvml, device total",
                scope=_SCOPE,
                window_s=window_s,
                why_none=why,
            ),
        ]

    def _why_none(self) -> str:
        if self._command is None:
            return "no nvidia-smi on this machine"
        return "" if self._n_samples else "nvidia-smi reported nothing"

    def _watch(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._note(line.split(","), time.monotonic())
        self._process.stdout.close()

    def _note(self, cells: list[str], now_s: float) -> None:
        """One line of one device: its number, watts and mebibytes."""
        try:
            device, used_bytes = cells[0].strip(), float(cells[2]) * 1024**2
        except (IndexError, ValueError):
            return
        self._n_samples += 1
        self._used_bytes[device] = used_bytes
        self._peak_bytes = max(self._peak_bytes, sum(self._used_bytes.values()))
        try:
            watts = float(cells[1])
        except ValueError:
            self._no_power = f"nvidia-smi reports no power for device {device}"
            return
        before_s, before_watts = self._last.get(device, (now_s, watts))
        self._joules += (now_s - before_s) * (watts + before_watts) / 2.0
        self._last[device] = (now_s, watts)
