"""How long models take, as a deadline asks for it: the time that nine answers in ten stay within.

A median would miss every second deadline. What this process has measured lately goes before what the outcomes say; it
is forgotten after `KEEP_S`, so that a model that was too slow is tried again.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Hashable, Sequence

LATE = 0.9
FEWEST = 20
MOST = 200
KEEP_S = 600.0


def late(times_s: Sequence[float]) -> float | None:
    """The time that nine in ten of these stay within, None where there are none."""
    return sorted(times_s)[math.ceil(LATE * len(times_s)) - 1] if times_s else None


class Latencies:
    """What was measured in the last minutes, by whatever it was of."""

    def __init__(self) -> None:
        self._found: defaultdict[Hashable, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=MOST))

    def note(self, what: Hashable, seconds: float, now_s: float) -> None:
        """One more measurement; of a call that was given up, how long it was waited for."""
        self._found[what].append((now_s, seconds))

    def late(self, what: Hashable, now_s: float) -> float | None:
        """The time that nine in ten stay within, None where too few were measured lately."""
        found = self._found[what]
        while found and now_s - found[0][0] > KEEP_S:
            found.popleft()
        return late([seconds for _, seconds in found]) if len(found) >= FEWEST else None
