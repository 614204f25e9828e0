"""What requests under a route may cost a day (`[routing] usd_per_day`): held before each call, settled after it.

It is counted as a key's budget is (`store/tallies.py`), so that all processes share it and none forgets it. As the
money runs short for the rest of the day, the threshold rises to where it does most (`routing/budget.py`). Who decides
by it, and what that does to the promise, is `routed.py`'s business.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import deque
from typing import Any

from pilotfish.config.settings import RoutingSettings
from pilotfish.core.errors import LimitError, StoreError
from pilotfish.core.key import KeyRecord, Limits
from pilotfish.core.messages import Usage
from pilotfish.core.privacy import PrivacyMode
from pilotfish.gateway.visit import Known, PriceOf, Visit, limited
from pilotfish.routing.budget import Seen, threshold_for
from pilotfish.store.base import Log, LogFilter, Tallies

DAY_S = 86400.0
PLAN_EVERY_S = 1.0
LOOK_BACK_EVERY_S = 900.0
MOST_SEEN = 1_000
"""Requests from which the rest of the day is foretold: enough for a threshold, and a millisecond to look through."""

FEWEST_YESTERDAY = 20
SHORTEST_S = 600.0
"""Where yesterday is not known, today's pace is taken over this at least: a first minute says little of a day."""

PARAM = "usd_per_day"
_MOST_CHANGE = 2.0
_log = logging.getLogger(__name__)


class RoutedBudget:
    """The budget of one gateway, and what is foretold of the rest of the day."""

    def __init__(self, settings: RoutingSettings, tallies: Tallies, *, price_of: PriceOf, log: Log) -> None:
        """Looks back into the log, so that a new process need not learn the day anew."""
        assert settings.usd_per_day is not None
        self.usd_per_day = settings.usd_per_day
        self.when_spent = settings.when_spent
        self.price_of = price_of
        self._spares = frozenset(settings.models) if settings.when_spent == "small" else frozenset()
        self._tallies = tallies
        self._log = log
        self._record = KeyRecord(
            number=1, key_id="routes", name="", sha256="", created_s=0.0, limits=Limits(usd_per_day=self.usd_per_day)
        )
        self._unlimited = KeyRecord(number=1, key_id="routes", name="", sha256="", created_s=0.0)
        self._seen: deque[Seen] = deque(maxlen=MOST_SEEN)
        self._found_usd, self._n = 0.0, 0
        self.n_unpromised = 0
        self._raised: tuple[float, float, float] = (0.0, 0.0, 0.0)
        now_s = time.time()
        self.look_back(now_s)
        recent = LogFilter(since_s=now_s - DAY_S, newest_first=True, limit=MOST_SEEN)
        self._seen.extendleft(one for row in log.rows(recent) if row.route and (one := _seen(row.route)) is not None)

    def visit(self, own: Visit) -> Paid:
        """A request's visit that draws on this budget too; it is counted as one of the day's."""
        self._tallies.count_request(self._unlimited, time.time())
        self._n += 1
        return Paid(own, self)

    def limited(self) -> Visit:
        """A call that must fit into what is left."""
        return limited(Known.of(self._record), self._tallies, self.price_of)

    def spare(self, model: str) -> Visit | None:
        """A call of a smaller model that is made although nothing is left, None where the user wants none."""
        return limited(Known.of(self._unlimited), self._tallies, self.price_of) if model in self._spares else None

    def spend(self, usd: float) -> None:
        """Count what finding out has cost: audits, their grades, and what is collected."""
        self._found_usd += usd
        self.settle(usd)

    def settle(self, usd: float) -> None:
        """Count what was not held before."""
        self._tallies.settle(self._record, time.time(), held=(0, 0.0), used=(0, usd))

    def note(self, seen: Seen) -> None:
        """Learn from a request what the coming ones need and cost."""
        self._seen.append(seen)

    @property
    def spent_usd(self) -> float:
        """Since the day (UTC) began, in all processes."""
        return self._tallies.used(self._record, time.time(), PARAM)

    def has_room(self, usd: float) -> bool:
        """Whether so much is left."""
        return self.spent_usd + usd <= self.usd_per_day

    def threshold(self, least: float) -> float:
        """What a need is compared with now: the certified threshold, or a higher one where money runs short."""
        now_s = time.time()
        planned_s, for_least, found = self._raised
        if for_least != least or now_s - planned_s >= PLAN_EVERY_S:
            n = max(1.0, self.expected(now_s))
            each = (self.usd_per_day - self.spent_usd) / n - self._found_usd / max(1, self._n)
            found = threshold_for(self._seen, each, least)
            self._raised = now_s, least, found
        return found

    def expected(self, now_s: float) -> float:
        """How many requests the rest of the day brings: as yesterday from this hour on, by as much more or less as
        today has brought so far; where yesterday brought few, at today's pace."""
        begun_s = now_s // DAY_S * DAY_S
        n_today = self._tallies.used(self._unlimited, now_s, "requests_per_day")
        n_before, n_after, first_s = self._past
        if n_before + n_after >= FEWEST_YESTERDAY:
            change = (n_today + 1) / (n_before + 1)
            return n_after * min(max(change, 1.0 / _MOST_CHANGE), _MOST_CHANGE)
        since_s = max(begun_s, first_s)
        return n_today / max(now_s - since_s, SHORTEST_S) * (begun_s + DAY_S - now_s)

    async def run(self) -> None:
        """Look back now and then, notice other processes, and guard the count; cancel to end."""
        looked_s = time.monotonic()
        while True:
            await asyncio.sleep(PLAN_EVERY_S)
            try:
                self._tallies.refresh()
                await asyncio.to_thread(self._tallies.flush)
                if time.monotonic() - looked_s >= LOOK_BACK_EVERY_S:
                    looked_s = time.monotonic()
                    await asyncio.to_thread(self.look_back, time.time())
            except (StoreError, OSError) as error:
                _log.warning("What requests under routes cost is not on the disk yet: %s", error)

    def status(self, certified: float | None) -> dict[str, Any]:
        """What is spent and left, and whether the threshold is raised; `certified` is None where no route decides."""
        raised = None if certified is None else self.threshold(certified)
        return {
            "usd_per_day": self.usd_per_day,
            "spent_usd_today": round(self.spent_usd, 9),
            "when_spent": self.when_spent,
            "is_raised": raised is not None and certified is not None and raised > certified,
            "answers_without_promise": self.n_unpromised,
        }

    def look_back(self, now_s: float) -> None:
        """Count what the log has of yesterday and of today. Raises `StoreError` where it cannot be read."""
        begun_s = now_s // DAY_S * DAY_S
        n_before, _ = self._log.routed(begun_s - DAY_S, now_s - DAY_S)
        n_after, _ = self._log.routed(now_s - DAY_S, begun_s)
        _, first_s = self._log.routed(begun_s, now_s)
        self._past = n_before, n_after, first_s if first_s is not None else now_s


class Paid(Visit):
    """One request under a route: what it may cost is held at its key and in the day's budget.

    One call is held after the other; before the last is settled the next one can be held already (`hold`), so that who
    cannot be paid is known while there still is another answer to give.
    """

    __slots__ = ("_budget", "_day", "_is_further", "_next", "_own")

    def __init__(self, own: Visit, budget: RoutedBudget, *, is_further: bool = False) -> None:
        """One that `is_further` is not made once nothing is left, whoever is asked."""
        self._own = own
        self._budget = budget
        self._is_further = is_further
        self._day: Visit | None = None
        self._next: tuple[str, Visit] | None = None

    @property
    def key_id(self) -> str | None:
        """The key's own."""
        return self._own.key_id

    @property
    def privacy(self) -> PrivacyMode:
        """The key's own."""
        return self._own.privacy

    def may_use(self, *names: str) -> bool:
        """The key's own."""
        return self._own.may_use(*names)

    def check_model(self, named: str, model: str) -> None:
        """The key's own."""
        self._own.check_model(named, model)

    def hold(self, model: str, body: bytes) -> bool:
        """Hold what the next call may cost in the day's budget; False where there is not so much left."""
        if self._next is not None:
            self._next[1].end()
            self._next = None
        day = self._budget.limited()
        try:
            day.reserve(model, body)
        except LimitError:
            return False
        self._next = model, day
        return True

    def reserve(self, model: str, body: bytes) -> None:
        """Hold at the key and in the day's budget. Raises `LimitError` where one of them has no room."""
        self._own.reserve(model, body)
        if self._next is None or self._next[0] != model:
            spare = None if self._is_further else self._budget.spare(model)
            if not self.hold(model, body):
                if spare is None:
                    self._own.end()
                    raise spent(self._budget.usd_per_day)
                spare.reserve(model, body)
                self._next = model, spare
        assert self._next is not None
        self._day, self._next = self._next[1], None

    def settle(self, usage: Usage | None, *, answer: str | None, is_answered: bool) -> None:
        """Count at both."""
        self._own.settle(usage, answer=answer, is_answered=is_answered)
        if self._day is not None:
            self._day.settle(usage, answer=answer, is_answered=is_answered)

    def end(self) -> None:
        """Give back at both what is held still."""
        self._own.end()
        for day in (self._day, self._next[1] if self._next is not None else None):
            if day is not None:
                day.end()

    def further(self) -> Visit:
        """One that is held at both too, as long as there is something left."""
        return Paid(self._own.further(), self._budget, is_further=True)


def spent(usd_per_day: float) -> LimitError:
    """The error that a request ends with where its budget is spent and no smaller model may stand in."""
    now_s = time.time()
    return LimitError(
        f"The {usd_per_day:g} USD a day for routed requests are spent or held.",
        param=PARAM,
        status=402,
        retry_after_s=max(1, round((now_s // DAY_S + 1) * DAY_S - now_s)),
        hint="They begin anew at midnight UTC.",
    )


def _seen(route: str) -> Seen | None:
    """What an earlier request's row says, None for one that was not decided on."""
    expected = json.loads(route).get("expected")
    if expected is None:
        return None
    need = expected["need"]
    usd, further_usd = expected["usd"], expected["further_usd"]
    return Seen(need=math.inf if need is None else need, usd=usd, further_usd=further_usd)
