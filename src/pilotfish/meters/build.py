"""Which meters run beside a model: those of this machine for a local one, none for one that is elsewhere."""

from __future__ import annotations

from pilotfish.meters.base import Meter
from pilotfish.meters.estimate import EstimateMeter
from pilotfish.meters.memory import MemoryMeter
from pilotfish.meters.nvidia import NvidiaMeter
from pilotfish.meters.powercap import PowercapMeter


def memory_meters() -> list[Meter]:
    """Meters that run from before a model is opened, since its weights are what they look for."""
    return [MemoryMeter()]


def work_meters(estimate_watts: float | None = None) -> list[Meter]:
    """Meters that run while it answers; `estimate_watts` adds an estimate beside them, never in their place."""
    meters: list[Meter] = [PowercapMeter(), NvidiaMeter()]
    return meters if estimate_watts is None else [*meters, EstimateMeter(estimate_watts)]
