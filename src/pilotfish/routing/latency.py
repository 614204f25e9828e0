"""How long models take, as a deadline asks for it, and who gives one up that hangs: the time that nine answers in ten
stay within.

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

TIMES = 5.0
"""So many times `late` an answer is waited for at most. Who gives up an answer that would have come pays for it and has
waited for nothing; who gives up late lets the client wait so long for each request while a model hangs.

Where times go with the recorded lengths of answers (145 models on three workloads, `benchmarks/routing/patience.py`,
23 November 2026), three times give up .1 to .3 % of the answers and 1.6 % of the worst model's, five times at most .1 %
and 1.0 %, ten times as good as none and .9 %. Where the server swings by itself too, a hundredfold between the fastest
and the slowest hundredth (lognormal, sigma 1), it is 1.4 to 1.9 %, .3 to .5 % and .1 %. A hang is then waited for as
long as 8 to 23 median answers take, with ten times twice as long: five wastes half a percent of the calls at worst.
"""

LEAST_S = 5.0
"""However fast a model is, a queue or a connection may take this long."""

UNKNOWN_S = 60.0
"""Where nothing is known of a model's times. Who has one that takes longer states a deadline."""


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


def patience_s(late_s: float | None) -> float:
    """How long an answer is waited for where nothing bounds that: nine in ten of its model's stay within `late_s`."""
    return UNKNOWN_S if late_s is None else max(LEAST_S, TIMES * late_s)
