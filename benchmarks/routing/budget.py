"""What a day's budget buys under a route: money where it does most, against first come, first served.

    python benchmarks/routing/budget.py [--days 4] [--requests 3000]

Recorded GSM8K outcomes (Mixtral-8x7B to GPT-4-1106): half teaches a route that reads the small model's answer, draws
from the other half are the traffic, five times as much at noon as at midnight. A small answer costs $0.0003, a large
one $0.009. The threshold that keeps 15 % stands for the certified one. `gateway/routed_budget.py` decides with its
clock moved; beside it the same money first come, first served, at random, and spent in hindsight. The first day has no
yesterday and is left out. Nobody is called. Writes benchmarks/results/routing_budget-DATE.json.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from certificate import taught

from pilotfish.config.settings import RoutingSettings
from pilotfish.core.messages import Price
from pilotfish.gateway.routed_budget import DAY_S, LOOK_BACK_EVERY_S, RoutedBudget
from pilotfish.gateway.visit import OPEN
from pilotfish.routing.budget import Seen
from pilotfish.routing.replay import Trail
from pilotfish.store.build import open_route_tally

from record import save, show

SHARES = (0.2, 0.4, 0.6, 0.8)
"""Of what the certified route would cost a day."""

KEPT = 0.15
SMALL_USD, LARGE_USD = 0.0003, 0.009


class Traffic:
    """The log of what was routed, as far as the budget looks at it."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def routed(self, since_s: float, until_s: float) -> tuple[int, float | None]:
        """As `Log.routed`."""
        found = [moment for moment in self.times if since_s <= moment < until_s]
        return len(found), min(found, default=None)

    def rows(self, _where: object) -> Iterator[Any]:
        """Nothing from before."""
        return iter(())


def moments(n: int, source: random.Random) -> list[float]:
    """Seconds of a day: five times as much at noon as at midnight."""
    found: list[float] = []
    while len(found) < n:
        moment = source.uniform(0.0, DAY_S)
        if source.random() < 0.6 - 0.4 * math.cos(2 * math.pi * moment / DAY_S):
            found.append(moment)
    return sorted(found)


def cost(*, is_further: bool) -> float:
    return SMALL_USD + is_further * LARGE_USD


def lived(days: list[list[tuple[float, Trail]]], usd: float, least: float) -> list[list[bool]]:
    """Which requests went on to the large model, day by day, as the gateway's budget has it."""
    traffic, decided = Traffic(), []
    clock = [1000 * DAY_S]
    price = Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(patch.object(time, "time", lambda: clock[0]))
        tally = stack.enter_context(contextlib.closing(open_route_tally(Path(folder))))
        settings = RoutingSettings(models=("small",), usd_per_day=usd)
        budget = RoutedBudget(settings, tally, price_of={"small": price}.get, log=traffic)  # type: ignore[arg-type]
        for number, day in enumerate(days):
            today, looked_s = [], -DAY_S
            for moment, row in day:
                clock[0] = (1000 + number) * DAY_S + moment
                if moment - looked_s >= LOOK_BACK_EVERY_S:
                    looked_s = moment
                    budget.look_back(clock[0])
                budget.visit(OPEN)
                further = row.needs[0] > budget.threshold(least) and budget.has_room(cost(is_further=True))
                budget.note(Seen(need=row.needs[0], usd=SMALL_USD, further_usd=LARGE_USD))
                budget.settle(cost(is_further=further))
                traffic.times.append(clock[0])
                today.append(further)
            decided.append(today)
    return decided


def first_come(day: list[tuple[float, Trail]], usd: float, least: float) -> list[bool]:
    found, left = [], usd
    for _, row in day:
        found.append(row.needs[0] > least and left >= cost(is_further=True))
        left -= cost(is_further=found[-1])
    return found


def at_random(day: list[tuple[float, Trail]], usd: float, least: float, source: random.Random) -> list[bool]:
    wanted = [i for i, (_, row) in enumerate(day) if row.needs[0] > least]
    n = max(0, int((usd - SMALL_USD * len(day)) / LARGE_USD))
    chosen = set(source.sample(wanted, min(n, len(wanted))))
    return [i in chosen for i in range(len(day))]


def in_hindsight(day: list[tuple[float, Trail]], usd: float, least: float) -> list[bool]:
    """The greatest needs of the day, known before it began."""
    wanted = sorted((i for i, (_, row) in enumerate(day) if row.needs[0] > least), key=lambda i: -day[i][1].needs[0])
    chosen = set(wanted[: max(0, int((usd - SMALL_USD * len(day)) / LARGE_USD))])
    return [i in chosen for i in range(len(day))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--requests", type=int, default=3000)
    options = parser.parse_args()
    fold, rows, _ = taught("gsm8k")
    needs = sorted(row.needs[0] for row in fold)
    least = needs[round(KEPT * len(needs))]
    source = random.Random(0)
    days = [
        [(moment, source.choice(rows)) for moment in moments(options.requests, source)] for _ in range(options.days + 1)
    ]
    whole = statistics.fmean(sum(cost(is_further=row.needs[0] > least) for _, row in day) for day in days)
    figures = []
    for share in SHARES:
        usd = share * whole
        ways = {
            "gateway": lived(days, usd, least),
            "first come, first served": [first_come(day, usd, least) for day in days],
            "at random": [at_random(day, usd, least, source) for day in days],
            "in hindsight": [in_hindsight(day, usd, least) for day in days],
        }
        for name, decided in ways.items():
            judged = list(zip(days[1:], decided[1:], strict=True))
            scores = [
                row.scores[-1] if further else row.scores[0]
                for day, found in judged
                for (_, row), further in zip(day, found, strict=True)
            ]
            usds = [sum(cost(is_further=further) for further in found) for day, found in judged]
            figures.append(
                {
                    "budget": share,
                    "way": name,
                    "score": statistics.fmean(scores),
                    "spent_of_it": statistics.fmean(usds) / usd,
                    "most_spent": max(usds) / usd,
                    "asked_further": statistics.fmean(further for _, found in judged for further in found),
                }
            )
    everything = [row.scores for day in days[1:] for _, row in day]
    ends = {
        "always_small": statistics.fmean(scores[0] for scores in everything),
        "always_large": statistics.fmean(scores[-1] for scores in everything),
        "certified_route": statistics.fmean(
            row.scores[-1] if row.needs[0] > least else row.scores[0] for day in days[1:] for _, row in day
        ),
    }
    show("what a day's budget buys", figures)
    print(ends)
    save("routing_budget", ways=figures, ends=ends, usd_a_day_certified=whole, days=options.days)


if __name__ == "__main__":
    main()
