"""What this machine can hold and how fast it reads memory.

Memory is what the kernel says, bounded by the control group this process runs in. The bandwidth is measured once in a
process of its own (`measuring.py`) and kept with its date; what cannot be read is None with a reason.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

MAX_AGE_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes that a process may take here; `limited_by` names what sets them."""

    total_bytes: int | None
    available_bytes: int | None
    limited_by: str
    why_none: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What was measured here: bytes read a second by all cores, the GPUs that nvidia-smi named, and when."""

    bandwidth: float | None
    method: str
    measured: str
    gpus: tuple[tuple[str, int], ...] = ()
    why_none: str = ""


def memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> Memory:
    """The memory of this machine or of this process's control group, whichever is less."""
    total, available = _kernel(proc)
    if total is None:
        return Memory(total_bytes=None, available_bytes=None, limited_by="", why_none="the system does not tell")
    limit = _group_limit(proc, groups)
    if limit is not None and limit < total:
        left = limit if available is None else min(limit, available)
        return Memory(total_bytes=limit, available_bytes=left, limited_by="control group")
    return Memory(total_bytes=total, available_bytes=available, limited_by="RAM")


def speed(cache: Path) -> Speed:
    """The measured speed, from the cache folder where at most `MAX_AGE_DAYS` old, else measured now (a second)."""
    file = cache / "machine" / "speed.json"
    kept = _kept(file)
    if kept is not None:
        return kept
    from pilotfish.sizing.measuring import measure  # noqa: PLC0415 - once in 90 days

    found = measure()
    if found.bandwidth is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs a second next time
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"machine": _machine(), **asdict(found)}) + "\n", encoding="utf-8")
    return found


def is_measured(cache: Path) -> bool:
    """Whether `speed` has no need to measure."""
    return _kept(cache / "machine" / "speed.json") is not None


def _kept(file: Path) -> Speed | None:
    try:
        values = json.loads(file.read_text("utf-8"))
        age = datetime.datetime.now(datetime.UTC).date() - datetime.date.fromisoformat(values["measured"])
        if values["machine"] != _machine() or not 0 <= age.days <= MAX_AGE_DAYS:
            return None
        return Speed(
            bandwidth=float(values["bandwidth"]),
            method=str(values["method"]),
            measured=values["measured"],
            gpus=tuple((str(name), int(size)) for name, size in values["gpus"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _kernel(proc: Path) -> tuple[int | None, int | None]:
    """Total and available bytes."""
    try:
        lines = (proc / "meminfo").read_text("ascii").splitlines()
        rows = dict(line.split(":", 1) for line in lines if ":" in line)
        return _kib(rows.get("MemTotal")), _kib(rows.get("MemAvailable"))
    except (OSError, ValueError):
        pass
    try:  # macOS
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    except (ValueError, OSError):
        return None, None


def _kib(text: str | None) -> int | None:
    number = (text or "").split()
    return int(number[0]) << 10 if number and number[0].isdigit() else None


def _group_limit(proc: Path, groups: Path) -> int | None:
    """The lowest limit of this process's control group and those above it (version 2, else 1)."""
    limits = [_limit(groups / "memory" / "memory.limit_in_bytes"), _limit(groups / "memory.max")]
    with contextlib.suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                base, name = (groups, "memory.max") if not controllers else (groups / "memory", "memory.limit_in_bytes")
                own = base / path.lstrip("/")
                limits += [_limit(folder / name) for folder in (own, *own.parents) if folder.is_relative_to(base)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdigit() else None


def _machine() -> str:
    """What the measurement holds for: processor and number of cores."""
    name = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name} x {os.cpu_count()}"
