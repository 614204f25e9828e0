"""Open-ended requests under a route: the smaller model first, its answer kept or the reference asked.

The decision is the route's alone, the same object that was certified. An answer that is read is held back until it has
been decided on, a stream until as much of it has come as the route reads; nothing is switched after the first byte. A
conversation that a smaller model has begun stays with it.
Whatever fails, is late or is not allowed goes to the reference.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pilotfish.config.settings import RoutingSettings
from pilotfish.core.errors import ModelError, PilotfishError, RequestError
from pilotfish.core.ids import fingerprint
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.core.outcome import Outcome
from pilotfish.core.receipt import Reason
from pilotfish.gateway import asgi
from pilotfish.gateway.embedder import Embedder
from pilotfish.gateway.live_route import LiveRoute
from pilotfish.gateway.looks import Looks, read_by
from pilotfish.gateway.routed_budget import Paid, RoutedBudget, spent
from pilotfish.gateway.rows import Turn
from pilotfish.gateway.tried import Asker, Call, Routing, Said, prompt_of
from pilotfish.gateway.visit import most_usd
from pilotfish.gateway.waits import Waits, part_of
from pilotfish.models.base import Model
from pilotfish.models.wire.chat import CHAT
from pilotfish.routing.budget import Seen
from pilotfish.routing.cascade import Decision
from pilotfish.routing.route import Choice, Route

MAX_BEGUN = 10_000
"""Conversations remembered with the model that began them; beyond, the oldest go on with the reference."""

Ask = Callable[[Turn, int, float], Awaitable[Said | None]]
"""Gives a step's answer until a moment of `time.perf_counter`, None where there is none."""

_log = logging.getLogger(__name__)
_UNTOUCHED = ("n", "tools", "functions", "audio", "modalities")
_NOT_OURS: frozenset[Reason] = frozenset(("other-model", "private", "encoder"))

_BY_REFERENCE: frozenset[Reason] = frozenset(("asked-at-once", "asked-further"))


class Routed:
    """Decides on the requests of one gateway that no specialist answers."""

    def __init__(
        self,
        *,
        live: LiveRoute,
        settings: RoutingSettings,
        models: Mapping[str, Model],
        looks: Looks,
        embedder: Embedder,
        timeout_s: float,
        budget: RoutedBudget | None = None,
    ) -> None:
        """`timeout_s` bounds an answer where the settings state no deadline."""
        self.live = live
        self.budget = budget
        self._judge = settings.judge
        self.asker = Asker()
        self.looks = looks
        self.models = {name: models[name] for name in settings.models if name in models}
        self._waits = Waits(settings.deadline_s, timeout_s)
        self._embedder = embedder
        self._begun: OrderedDict[str, str] = OrderedDict()

    @property
    def status(self) -> dict[str, Any]:
        """What is in force, or why nothing is; models left alone; and the day's budget, None where there is none."""
        budget = None if self.budget is None else self.budget.status(self.certified)
        return {**self.live.status, "left_alone": self._waits.left_alone, "budget": budget}

    @property
    def certified(self) -> float | None:
        """The threshold of the route in force, None where none is."""
        return None if self.live.route is None else self.live.route.threshold

    def is_open(self, turn: Turn) -> bool:
        """Whether the request is of the kind that routes are for, and that they are learnt from.

        The client leaves the model to us, no specialist is learning or answering it, it may leave, and it is plain
        text without tools.
        """
        request = turn.request
        if request.format is not CHAT or request.model or turn.live is not None or turn.privacy.is_local_only:
            return False
        return turn.decision.reason not in _NOT_OURS and not request.is_tool_loop and not _untouched(request)

    async def decide(self, turn: Turn, receive: asgi.Receive) -> Said | None:
        """The smaller model's answer where it is kept; None where `turn.target` is to be asked.

        What was tried, and why, stands in `turn.routing`; it stays None where no route decides.
        """
        routing = self._routing(turn)
        if routing is None:
            return None
        if turn.request.has_begun:
            routing.stays = self._begun.get(_conversation(turn.request.messages), "")
            if routing.stays not in self.models or not self._waits.admits(routing.stays):
                return None
        turn.routing = routing
        if self.budget is not None:
            turn.visit = self.budget.visit(turn.visit)
        if routing.stays:
            routing.decided_s = time.perf_counter()
            self._hand_over(turn, routing.stays, "same-model")
            return None
        turn.coin = self.live.coin
        turn.is_audited = random.random() < self.live.coin and self._can_audit(turn)
        with asgi.Departure(receive) as departure:
            said = await self._cascade(turn, routing, self._ask, self._waits.admits)
        self._foretell(turn, routing)
        routing.decided_s = time.perf_counter()
        routing.is_left = departure.is_gone
        return None if departure.is_gone else said

    def reads(self, model: Model) -> frozenset[str]:
        """The signals that the route in force reads of this model's answers and that take further calls."""
        steps = self.live.route.steps if self.live.route is not None else ()
        return frozenset[str]().union(*(read_by(step) for step in steps if step.model == model.card.name))

    async def rehearse(self, turn: Turn, heard: Mapping[str, Said | None]) -> str:
        """What a route would make of answers heard elsewhere (None: the model failed), in `turn.routing`; asks nobody.

        The model it would have to ask and that is not among them, empty where it comes to a decision.
        """
        routing = self._routing(turn)
        missing: list[str] = []

        async def known(turn: Turn, place: int, _ends_s: float) -> Said | None:
            assert turn.routing is not None
            model = turn.routing.route.steps[place].model
            if model not in heard:
                missing.append(model)
            return heard.get(model)

        if routing is not None:
            turn.routing = routing
            await self._cascade(turn, routing, known, lambda _model: True)
        return "".join(missing)

    def back(self, turn: Turn, reference: Model) -> None:
        """Let the reference answer after all: a smaller model that was to answer has failed, or was given up."""
        assert turn.routing is not None
        if turn.routing.late:
            self._waits.given_up(turn.model)
            turn.visit.settle(None, answer=None, is_answered=False)
        turn.visit.end()
        turn.routing.kept, turn.wait_s = "", None
        turn.decision = Decision(reason="smaller-failed")
        turn.target, turn.model, turn.price = reference, reference.card.name, reference.card.price

    async def end(self, turn: Turn, said: Said) -> None:
        """Note the whole of a stream that was begun; a broken one stays as it was heard."""
        assert turn.routing is not None
        with contextlib.suppress(ModelError):
            latency_s = time.perf_counter() - turn.started_s
            turn.routing.end(said, await self.asker.end(self.models[said.model], said, latency_s))

    def note(self, turn: Turn, answer: str | None) -> None:
        """Remember that a smaller model has said this, so that the conversation can stay with it."""
        routing = turn.routing
        if self.budget is not None and turn.decision.reason == "budget":
            self.budget.n_unpromised += 1
        if routing is not None and routing.decided_s and turn.decision.reason in _BY_REFERENCE:
            self._waits.note_reference(routing.route.reference, time.perf_counter() - routing.decided_s)
        if routing is None or not routing.kept or answer is None:
            return
        if turn.wait_s is not None:
            self._waits.note_relay(turn, routing.kept, routing.decided_s)
        said = [*turn.request.messages, Message(role="assistant", content=answer)]
        self._begun[_conversation(said)] = routing.kept
        while len(self._begun) > MAX_BEGUN:
            self._begun.popitem(last=False)

    def _routing(self, turn: Turn) -> Routing | None:
        """The beginning of a route's decision, None where no route is to decide."""
        route = self.live.route
        if route is None or not self.is_open(turn):
            return None
        prompt = prompt_of(turn.request)
        if prompt is None or not all(turn.visit.may_use(turn.named, name) for name in self.looks.asked(route)):
            return None
        assert self.live.certificate is not None
        return Routing(
            route=route,
            certificate_id=self.live.certificate.id,
            request=Outcome(request_id=turn.request_id, prompt=prompt, tried={}),
        )

    async def _cascade(self, turn: Turn, routing: Routing, ask: Ask, admits: Callable[[str], bool]) -> Said | None:
        route = self._affordable(turn, routing)
        ends_s = time.perf_counter() + self._waits.most_s
        embedding = await self._embedding(route, routing.request.prompt)
        latency_s = self._waits.cascade_s(turn, route)
        choice = route.first(routing.request, embedding, deadline_s=self._waits.deadline_s, latency_s=latency_s)
        reason: Reason = "asked-at-once"
        said: Said | None = None
        while True:
            if not self._can_pay(turn, choice.model):
                return self._without_money(turn, routing, said, choice)
            if said is not None:
                await self._leave(turn, said)
            if choice.model == route.reference:
                break
            routing.choice, routing.place = choice, _place(route, choice)
            step = route.steps[routing.place]
            is_admitted = admits(step.model)
            if is_admitted and not step.reads_answer:
                self._hand_over(turn, step.model, routing.reason)
                return None
            said = await ask(turn, routing.place, ends_s) if is_admitted else None
            if said is None:
                routing.left_alone = "" if is_admitted else step.model
                routing.choice = Choice(model=route.reference, why="unknown")
                turn.decision = Decision(reason="smaller-failed")
                return None
            choice = _after(route, routing, said, embedding)
            if choice.why == "kept":
                return self._keep(turn, routing, said, choice)
            reason = "asked-further"
        routing.choice = choice
        turn.decision = Decision(reason=reason)
        return None

    def _affordable(self, turn: Turn, routing: Routing) -> Route:
        """The certified route, or the same with the threshold that the day's budget bears.

        An audited request is decided as certified: its reference is paid for anyway, and its loss is evidence.
        """
        least = routing.route.threshold
        assert least is not None
        raised = least if self.budget is None or turn.is_audited else self.budget.threshold(least)
        if raised <= least:
            return routing.route
        routing.raised = raised
        return dataclasses.replace(routing.route, threshold=raised)

    def _can_pay(self, turn: Turn, model: str) -> bool:
        return not isinstance(turn.visit, Paid) or turn.visit.hold(model, turn.privacy.body)

    def _can_audit(self, turn: Turn) -> bool:
        """Whether the day still has room for an audit. Told by the time and the request's length alone."""
        if self.budget is None:
            return True
        calls = [self.live.route.reference if self.live.route is not None else "", self._judge, self._judge]
        prices = [self.budget.price_of(name) for name in calls if name]
        looks_usd = [self.looks.most_usd(model, turn.request) for model in self.models.values()]
        usd = [*looks_usd, *(most_usd(price, turn.request.raw) for price in prices if price)]
        return self.budget.has_room(math.fsum(usd))

    def _without_money(self, turn: Turn, routing: Routing, said: Said | None, choice: Choice) -> Said | None:
        """What becomes of a request whose next call cannot be paid: the answer at hand, the smallest model, or none."""
        assert self.budget is not None
        turn.is_audited = False
        smallest = routing.route.steps[0].model if said is None else said.model
        choice = dataclasses.replace(choice, model=smallest, why="budget")
        if said is not None:
            return self._keep(turn, routing, said, choice)
        routing.choice = choice
        turn.decision = Decision(reason="budget")
        if self.budget.when_spent == "refuse":
            raise spent(self.budget.usd_per_day)
        self._hand_over(turn, smallest, "budget")
        return None

    def _keep(self, turn: Turn, routing: Routing, said: Said, choice: Choice) -> Said:
        routing.choice = choice
        self._hand_over(turn, said.model, routing.reason)
        turn.request.server, turn.request.tries = said.server, said.tries
        return said

    def _foretell(self, turn: Turn, routing: Routing) -> None:
        """Note what the request needed and would cost, from which the budget foretells the coming ones."""
        first = routing.first or routing.choice
        if self.budget is None or first is None or first.why == "budget":
            return
        steps, prompt, body = routing.route.steps, routing.request.prompt, turn.request.raw
        stated = [steps[0].cost, *(step.further for step in steps)]
        prices = [self.budget.price_of(name) for name in routing.route.models]
        looks = [self.looks.most_usd(self.models[step.model], turn.request, read_by(step)) for step in steps]
        most = [
            0.0 if price is None else most_usd(price, body) + usd
            for price, usd in zip(prices, [*looks, 0.0], strict=True)
        ]
        usd = [known if (known := cost.of(prompt)) is not None else usd for cost, usd in zip(stated, most, strict=True)]
        # Who needs no look at the answer is not asked where the next one is.
        further_usd = math.fsum(usd[1:]) - (0.0 if steps[0].reads_answer else usd[0])
        need = math.inf if first.need is None else first.need
        routing.expected = Seen(need=need, usd=usd[0], further_usd=max(0.0, further_usd))
        self.budget.note(routing.expected)

    async def _ask(self, turn: Turn, place: int, ends_s: float) -> Said | None:
        """The step's answer; None where it fails, where there is no time for it, or the key may not pay for it."""
        assert turn.routing is not None
        routing, visit = turn.routing, turn.visit
        step = routing.route.steps[place]
        limit_s = self._waits.for_step(turn, place, ends_s)
        if limit_s <= 0:
            return None
        model, said = self.models[step.model], None
        try:
            visit.reserve(step.model, turn.request.raw)
            async with asyncio.timeout(limit_s):
                if part_of(turn, step) == "beginning":
                    said = await self.asker.begin(model, turn.request, step.prefix)
                else:
                    said = await self.asker.ask(model, turn.request)
                    visit.settle(said.usage, answer=said.tried.text, is_answered=True)
                    said = await self.looks.fill(turn, model, said, reads=read_by(step), visit=visit)
        except (RequestError, PilotfishError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                self._waits.note_late(turn, step, limit_s)
            if isinstance(error, TimeoutError) and said is None:
                routing.late.append((step.model, limit_s))
                self._waits.given_up(step.model)
                visit.settle(None, answer=None, is_answered=False)
            visit.end()
            # An answer of which the further looks came too late is not known enough; what they cost is not known.
            return said and dataclasses.replace(said, further=(Call(model=said.model),))
        self._waits.note_step(turn, step, said)
        return said

    async def _leave(self, turn: Turn, said: Said) -> None:
        """Cancel a stream that is not given to the client; what has come of it was used."""
        if said.opened is not None:
            await said.opened.aclose()
            turn.visit.settle(None, answer="".join(said.tried.tokens), is_answered=True)

    def _hand_over(self, turn: Turn, name: str, reason: Reason) -> None:
        """Let a smaller model answer; one that only the day's budget has kept is waited for: no other is paid."""
        assert turn.routing is not None
        model = self.models[name]
        turn.routing.kept = name
        turn.target, turn.model, turn.price = model, name, model.card.price
        turn.decision = Decision(reason=reason)
        is_said = any(said.model == name for said in turn.routing.said)
        turn.wait_s = None if is_said or reason == "budget" else self._waits.for_relay(turn, name)

    async def _embedding(self, route: Route, prompt: str) -> Sequence[float] | None:
        return await self._embedder.vector(prompt, route.encoder_sha256) if route.encoder_sha256 else None


def _after(route: Route, routing: Routing, said: Said, embedding: Sequence[float] | None) -> Choice:
    """What the route makes of an answer. What no signal can read is the reference's, like what it cannot tell."""
    try:
        routing.read(said)
        choice = route.after(routing.place, routing.request, said.tried, embedding)
    except (ValueError, ArithmeticError, LookupError, RecursionError) as error:
        # An answer is any text: reading it must never cost the client a reply.
        _log.warning("An answer of %s could not be read: %s", said.model, type(error).__name__)
        choice = Choice(model=route.reference, why="unknown")
    routing.first = routing.first or choice
    return choice


def _place(route: Route, choice: Choice) -> int:
    return next(i for i, step in enumerate(route.steps) if step.model == choice.model)


def _untouched(request: ChatRequest) -> bool:
    """Whether the request asks for what a switch of models would break: tools, several answers, sound."""
    if request.n not in (None, 1):
        return True
    return any(getattr(request, name) not in (None, False, [], {}, ["text"]) for name in _UNTOUCHED[1:])


def _conversation(messages: Sequence[Message]) -> str:
    """Identifies a conversation up to the last thing that a model said."""
    last = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=-1)
    return fingerprint(*(part for message in messages[: last + 1] for part in (message.role, message.text or "")))
