"""Serve or defer, and by which tier: the one decision that the gateway, the backtest and the certificate share.

It compares scores with thresholds in double precision and does nothing else; where the scores come
from and what the thresholds promise is not known here. The first tier is asked first; only what it does not accept
is encoded, and decided by the scores of the full mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilotfish.core.certificate import Certificate
from pilotfish.core.receipt import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """The thresholds of a certificate; a score passes when it is at least its threshold.

    `first` are those of the first tier, None where there is a single one.
    """

    min_certainty: float
    min_scope: float
    first: Gates | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Decides by `gates` alone, so that equal scores always get equal decisions."""

    gates: Gates

    def accepts_first(self, certainty: float, scope: float) -> bool:
        """Whether the first tier's answer with these scores of its own is served. NaN never passes."""
        first = self.gates.first
        return first is not None and certainty >= first.min_certainty and scope >= first.min_scope

    def decide(self, certainty: float, scope: float) -> Reason:
        """For what the first tier does not answer: `certified` (serve), or why to defer, by the mixture's scores.

        `out-of-scope` comes first, then `uncertain`. NaN never passes.
        """
        if not scope >= self.gates.min_scope:
            return "out-of-scope"
        if not certainty >= self.gates.min_certainty:
            return "uncertain"
        return "certified"


def policy_of(certificate: Certificate) -> Policy:
    """The policy that a certificate holds for."""
    first = certificate.first
    return Policy(
        Gates(
            min_certainty=certificate.min_certainty,
            min_scope=certificate.min_scope,
            first=None if first is None else Gates(min_certainty=first.min_certainty, min_scope=first.min_scope),
        )
    )
