"""Measures this machine, in a process of its own, and asks nvidia-smi for its GPUs.

Apart from `machine.py`, which reads what was measured before: most calls need neither a subprocess nor numpy.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import shutil
import subprocess
import sys

from pilotfish.sizing.machine import Speed

LIMIT_S = 30


def measure() -> Speed:
    """The speed of this machine now, or why it could not be measured. Takes about a second."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    gpus = _gpus()
    if importlib.util.find_spec("numpy") is None:
        why = "measuring memory needs numpy: pip install 'pilotfish[local]'"
        return Speed(bandwidth=None, method="", measured=today, gpus=gpus, why_none=why)
    command = [sys.executable, "-m", "pilotfish.sizing.bandwidth"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=True)  # noqa: S603 - our own module
        found = json.loads(done.stdout)
        return Speed(bandwidth=float(found["bandwidth"]), method=found["method"], measured=today, gpus=gpus)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        why = f"the measurement failed ({type(error).__name__})"
        return Speed(bandwidth=None, method="", measured=today, gpus=gpus, why_none=why)


def _gpus() -> tuple[tuple[str, int], ...]:
    """Names and bytes of the GPUs that nvidia-smi lists; nothing is known of others."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.rpartition(",") for line in done.stdout.splitlines()]
    return tuple((name.strip(), int(size) << 20) for name, _, size in rows if size.strip().isdigit())
