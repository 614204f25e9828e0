"""What an option costs at a volume, and from which volume another one is cheaper.

A request that is paid for costs its price; a machine of one's own costs its hours whether it works or not, and there
are as many as the volume needs at the stated utilisation. An unknown part makes the whole unknown. The formulas are
those of `evals/money.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.advice.needs import HOURS_PER_MONTH, Needs
from pilotfish.advice.option import Option
from pilotfish.evals.money import blended_usd_per_request

LOWEST_PER_H, HIGHEST_PER_H = 0.01, 1e7
"""Volumes between which a break-even is looked for."""
_STEPS_PER_DECADE = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """US dollars an hour; None where `why_none` says why."""

    usd_per_h: float | None
    machines: int = 0
    is_estimate: bool = False
    why_none: str = ""

    @property
    def usd_per_month(self) -> float | None:
        """The same a month."""
        return None if self.usd_per_h is None else self.usd_per_h * HOURS_PER_MONTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """`option` is the cheapest from `low` to `high` requests an hour."""

    option: str
    low: float
    high: float


def cost(option: Option, needs: Needs, per_h: float) -> Cost:
    """What the option costs at `per_h` requests an hour."""
    machines, fixed, is_estimate = 0, 0.0, False
    if option.is_own:
        rent = needs.machine if option.rent_usd_per_h is None else option.rent_usd_per_h
        if rent is None:
            return Cost(
                usd_per_h=None, why_none="no price of its machine (--machine, 0 where it stands idle anyway; or --rent)"
            )
        capacity = option.capacity_per_h.value
        if capacity is None and rent:
            why = option.capacity_per_h.why_none
            return Cost(usd_per_h=None, why_none=f"how many requests its machine answers is not known: {why}")
        machines = 1 if capacity is None else max(1, math.ceil(per_h / (capacity * needs.utilisation) - 1e-9))
        is_estimate = bool(rent) and option.capacity_per_h.is_estimate and machines > 1
        fixed = machines * rent + needs.upkeep_usd_per_h
    if option.paid_share and option.usd_per_call.value is None:
        return Cost(usd_per_h=None, machines=machines, why_none=_no_price(option.usd_per_call.why_none))
    each = blended_usd_per_request(fixed, per_h, option.paid_share, option.usd_per_call.value or 0.0)
    is_estimate = is_estimate or bool(option.paid_share and option.usd_per_call.is_estimate)
    return Cost(usd_per_h=each * per_h, machines=machines, is_estimate=is_estimate)


def _no_price(why: str) -> str:
    return (
        "no price (--price NAME=IN/OUT@SOURCE, or --rent where it runs on a machine of yours)"
        if why == "no price"
        else f"no price: {why}"
    )


def utilisation(option: Option, found: Cost, per_h: float) -> float | None:
    """The share of what its machines can answer that the volume takes; None where that is not known."""
    capacity = option.capacity_per_h.value
    return None if not found.machines or capacity is None else per_h / (found.machines * capacity)


def cheapest(options: Sequence[Option], needs: Needs, per_h: float) -> Option | None:
    """The cheapest whose cost is known; of equals the one that answers sooner (measured), then the one with the higher
    measured score, then by name."""
    known = [(option, cost(option, needs, per_h).usd_per_h) for option in options]
    priced = [(option, usd) for option, usd in known if usd is not None]
    return min(priced, key=lambda pair: (_rounded(pair[1]), *_rank(pair[0])))[0] if priced else None


def _rank(option: Option) -> tuple[float, float, str]:
    seconds = option.latency.measured.value
    return math.inf if seconds is None else seconds, -(option.quality.value or 0.0), option.name


def _rounded(usd: float) -> float:
    """Equal costs are equal: nobody is preferred for the last bits of a float."""
    return float(f"{usd:.9g}")


def segments(options: Sequence[Option], needs: Needs) -> list[Segment]:
    """Which option is the cheapest at which volume, from few requests to many; the borders to nine digits."""
    steps = round(math.log10(HIGHEST_PER_H / LOWEST_PER_H) * _STEPS_PER_DECADE)
    places = [LOWEST_PER_H * 10 ** (i / _STEPS_PER_DECADE) for i in range(steps + 1)]
    found: list[Segment] = []
    last, low = cheapest(options, needs, places[0]), places[0]
    for before, after in itertools.pairwise(places):
        now = cheapest(options, needs, after)
        if now is not last and last is not None and now is not None:
            border = _border(options, needs, last, (before, after))
            found.append(Segment(option=last.name, low=low, high=border))
            low = border
        last = now
    if last is not None:
        found.append(Segment(option=last.name, low=low, high=places[-1]))
    return found


def _border(options: Sequence[Option], needs: Needs, last: Option, between: tuple[float, float]) -> float:
    low, high = between
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if cheapest(options, needs, middle) is last else (low, middle)
    return high
