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

How many would be given up, for times in proportion to the recorded lengths of answers of 49 models on AlpacaEval, 51 on
CRUXEval and 45 on GSM8K (22 November 2026; `late` as here, of the last 200): at 3 times .09 to .24 % and 1.6 % of the
worst model, at 5 times .05 to .15 % and 1.0 %, at 10 times at most .07 % and .9 %. Where a server's own swings come on
top of that, lognormal with sigma 1 (a hundredfold between the 1st and the 99th of a hundred): 1.3 to 1.8 % at 3, .4 to
.6 % at 5, .1 % at 10. Five wastes half a percent of the calls at worst, for half the wait of ten.
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
