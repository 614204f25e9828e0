"""How the tolerated error probability is spent over repeated attempts.

Every attempt that looks at the answers of calibration rows may go wrong with its own share of delta. The
shares of all attempts ever made for a task sum to at most delta, so by the union bound the chance
that any certificate of the task is false when it is issued stays below delta, however the attempts
depend on one another (they share rows) and however many there will be. A refusal that did not look
at calibration answers (too few rows) spends nothing.

The weights 6 / (pi^2 k^2) sum to 1 (Euler's Basel problem); the same schedule guards sequences of tests in
D. Foster and R. Stine, "Alpha-investing" (JRSS B 70, 2008) and online false-discovery control.
"""

from __future__ import annotations

import math

SCHEDULE = "delta * 6 / (pi^2 * attempt^2)"


def share(delta: float, attempt: int) -> float:
    """What attempt number `attempt` (1 for the first) may spend of `delta`."""
    if attempt < 1:
        raise ValueError(f"Attempts are numbered from 1, not {attempt!r}.")
    return delta * 6.0 / (math.pi * attempt) ** 2
