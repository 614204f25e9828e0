"""Serve or defer: the one decision that the gateway, the backtest and the certificate share.

It compares two scores with two thresholds in double precision and does nothing else; where the
scores come from and what the thresholds promise is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilotfish.core.receipt import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """The thresholds of a certificate; a score passes when it is at least its threshold."""

    min_certainty: float
    min_scope: float


@dataclass(frozen=True, slots=True)
class Policy:
    """Decides by `gates` alone, so that equal scores always get equal decisions."""

    gates: Gates

    def decide(self, certainty: float, scope: float) -> Reason:
        """`certified` (serve), or why to defer: `out-of-scope` first, then `uncertain`. NaN never passes."""
        if not scope >= self.gates.min_scope:
            return "out-of-scope"
        if not certainty >= self.gates.min_certainty:
            return "uncertain"
        return "certified"
