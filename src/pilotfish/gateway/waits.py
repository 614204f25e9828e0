"""How long models take under a route, and so how long a smaller one is waited for.

With a deadline it gets what leaves the reference its own time. Without one it is given up after so many times what its
own answers take (`routing/latency.py`), so that one that hangs does not hold a request for as long as a model may.
Either way only until something was sent to the client; then the reference answers. One that was given up several times
in a row is left alone for a moment: each request would be held up by it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from typing import Literal

from pilotfish.gateway.rows import Turn
from pilotfish.gateway.tried import Said
from pilotfish.models.breaker import Breaker
from pilotfish.routing.latency import Latencies, patience_s
from pilotfish.routing.route import Route, Step

_log = logging.getLogger(__name__)

Part = Literal["whole", "beginning", "first byte"]
"""How much of an answer is waited for: all of it, the tokens that decide, or what is relayed at once."""


class Waits:
    """Those of one gateway, as this process has measured them and as the outcomes had them."""

    def __init__(self, deadline_s: float | None, timeout_s: float) -> None:
        """`timeout_s` bounds an answer where there is no deadline."""
        self.deadline_s = deadline_s
        self.most_s = deadline_s or timeout_s
        self._taken = Latencies()
        self._answered = Latencies()
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)

    @property
    def left_alone(self) -> list[str]:
        """The smaller models that are not waited for now."""
        return sorted(model for model, breaker in self._breakers.items() if breaker.is_open)

    def admits(self, model: str) -> bool:
        """Whether a smaller model is waited for. Of one that is left alone True stands for one probe."""
        return self._breakers[model].admits()

    def given_up(self, model: str) -> None:
        """A smaller model was given up before anything of its answer came."""
        breaker = self._breakers[model]
        was_open = breaker.is_open
        breaker.failed()
        if breaker.is_open and not was_open:
            fields = {"event": "left-alone", "model": model}
            _log.warning("%s was given up several times in a row and is left alone.", model, extra={"fields": fields})

    def for_step(self, turn: Turn, place: int, ends_s: float) -> float:
        """Seconds that a step is waited for, so that what comes after it can end at a moment of `time.perf_counter`."""
        assert turn.routing is not None
        route = turn.routing.route
        step = route.steps[place]
        known_s = self._answered.late((step.model, part_of(turn, step)), time.monotonic())
        left_s = self._left_s(ends_s, self._late_s(turn, route, place + 1))
        return left_s if self.deadline_s is not None else min(left_s, patience_s(known_s or step.cost.latency_s))

    def for_relay(self, turn: Turn, model: str) -> float:
        """Seconds that a smaller model's reply is waited for that is relayed as it comes: until its first byte."""
        assert turn.routing is not None
        route = turn.routing.route
        left_s = self._left_s(turn.started_s + self.most_s, self._late_s(turn, route, len(route.steps)))
        known_s = self._answered.late((model, _relayed(turn)), time.monotonic())
        stated_s = next((step.cost.latency_s for step in route.steps if step.model == model), None)
        if left_s <= 0.0:
            # The reference would be late too: who is waited for at all gets the time that its answers take.
            return patience_s(known_s or stated_s)
        return left_s if self.deadline_s is not None else min(left_s, patience_s(known_s or stated_s))

    def cascade_s(self, turn: Turn, route: Route) -> float | None:
        """Until the reference has answered where every reading step was tried, inf where that is not known; None where
        no deadline asks for it."""
        if self.deadline_s is None:
            return None
        places = [i for i, step in enumerate(route.steps) if step.reads_answer]
        times = [self._late_s(turn, route, place) for place in (*places, len(route.steps))]
        return math.fsum(math.inf if time_s is None else time_s for time_s in times)

    def note_step(self, turn: Turn, step: Step, said: Said) -> None:
        """A step has answered."""
        self._came(step.model)
        took_s, what, now_s = said.tried.latency_s or 0.0, (step.model, part_of(turn, step)), time.monotonic()
        self._taken.note(what, took_s, now_s)
        self._answered.note(what, took_s, now_s)

    def note_late(self, turn: Turn, step: Step, waited_s: float) -> None:
        """A step was given up. That is no time that its answers take: else a model that hangs would be waited for
        longer and longer."""
        self._taken.note((step.model, part_of(turn, step)), waited_s, time.monotonic())

    def note_relay(self, turn: Turn, model: str, began_s: float) -> None:
        """A smaller model's reply was relayed, of which nothing had been heard at a moment of `time.perf_counter`."""
        self._came(model)
        until_s = time.perf_counter() if turn.begun_s is None else turn.begun_s
        self._answered.note((model, _relayed(turn)), until_s - began_s, time.monotonic())

    def note_reference(self, model: str, took_s: float) -> None:
        """The reference has answered."""
        self._taken.note((model, "whole"), took_s, time.monotonic())

    def _came(self, model: str) -> None:
        breaker = self._breakers[model]
        if breaker.is_open:
            _log.info("%s answers again.", model, extra={"fields": {"event": "back", "model": model}})
        breaker.succeeded()

    def _left_s(self, ends_s: float, further_s: float | None) -> float:
        """What the next model will need is kept back for it; half of the time where that is not known."""
        left_s = ends_s - time.perf_counter()
        return left_s / 2 if further_s is None else left_s - further_s

    def _late_s(self, turn: Turn, route: Route, place: int) -> float | None:
        """The time that nine in ten of a step's answers stay within, as much of them as is read; the reference's whole
        ones after the last step. None where neither was measured lately nor known from the outcomes."""
        what: tuple[str, Part] = (route.reference, "whole")
        if place < len(route.steps):
            step = route.steps[place]
            what, stated_s = (step.model, part_of(turn, step)), step.cost.latency_s
        else:
            stated_s = route.steps[-1].further.latency_s
        measured_s = self._taken.late(what, time.monotonic())
        return stated_s if measured_s is None else measured_s


def part_of(turn: Turn, step: Step) -> Part:
    """How much of a step's answer decides."""
    return "beginning" if turn.request.stream and step.prefix > 0 else "whole"


def _relayed(turn: Turn) -> Part:
    return "first byte" if turn.request.stream else "whole"
