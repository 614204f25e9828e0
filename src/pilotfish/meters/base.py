"""The meter protocol: something that is started, stopped, and then says what was used, or why it does not know.

A figure carries how it was got (`method`) and what it covers (`scope`), because a counter of the whole machine, the
sum of sampled power and an estimate from a data sheet are three different things that never share a column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was used between start and stop. `value` (unit in `unit`) is None exactly where `why_none` says why.

    `window_s` is the time between start and stop; idle use is never subtracted.
    """

    quantity: Literal["energy", "memory", "device memory"]
    value: float | None
    unit: Literal["J", "bytes"]
    method: str
    scope: str
    window_s: float = 0.0
    why_none: str = ""


class Meter(Protocol):
    """Measures one stretch of work, once."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> list[Reading]:
        """End; at least one reading. Never raises: what cannot be read is a reading without a value."""
