"""Energy as stated watts times busy seconds: an estimate, made only where the user asks for one.

It is no measurement. Its readings carry the method `tdp_estimate`, and reports keep them in a column of their own.
"""

from __future__ import annotations

import time

from pilotfish.meters.base import Reading


class EstimateMeter:
    """A `Meter` that multiplies the stated `watts` with the time between start and stop."""

    def __init__(self, watts: float) -> None:
        self._watts = watts
        self._started_s = 0.0

    def start(self) -> None:
        """Begin."""
        self._started_s = time.monotonic()

    def stop(self) -> list[Reading]:
        """The estimate."""
        window_s = time.monotonic() - self._started_s
        return [
            Reading(
                quantity="energy",
                value=self._watts * window_s,
                unit="J",
                method="tdp_estimate",
                scope=f"{self._watts:g} W as stated, over the whole run",
                window_s=window_s,
            )
        ]
