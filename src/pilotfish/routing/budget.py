"""Where a budget does most: the threshold at which requests like those seen cost what there is to spend.

Needs are gains per dollar, so money is best spent on those above one threshold that all requests share (the price of
the budget), whatever order they come in. The threshold never falls below the certified one: what that one keeps is
good enough already. What it is raised by is not covered by any promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

FEWEST_SEEN = 20
"""Requests from which the needs and costs of the coming ones are foretold; before, the threshold stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request under a route: its need (inf where it could not be told), and what it was expected to cost.

    `usd` is the cost until it was decided, `further_usd` what asking further adds where every later model is asked.
    """

    need: float
    usd: float
    further_usd: float


def threshold_for(seen: Sequence[Seen], usd_each: float, least: float) -> float:
    """The lowest threshold, not below `least`, at which requests as those seen cost `usd_each` on average at most.

    Infinite where even asking nobody further costs more; `least` where too few were seen.
    """
    if len(seen) < FEWEST_SEEN:
        return least
    spare = (usd_each - fmean(one.usd for one in seen)) * len(seen)
    if spare <= 0.0:
        return math.inf
    for need, further_usd in sorted(((one.need, one.further_usd) for one in seen if one.need > least), reverse=True):
        spare -= further_usd
        if spare < 0.0:
            return need
    return least
