"""Open-ended requests under a route: the smaller model first, its answer kept or the reference asked.

The decision is the route's alone, the same object that was certified. An answer that is read is held back until it has
been decided on; nothing is switched after the first byte. A conversation that a smaller model has begun stays with it.
Whatever fails, is late or is not allowed goes to the reference.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from pilotfish.config.settings import RoutingSettings
from pilotfish.core.errors import PilotfishError, RequestError
from pilotfish.core.ids import fingerprint
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.core.outcome import Outcome
from pilotfish.core.receipt import Reason
from pilotfish.gateway import asgi
from pilotfish.gateway.embedder import Embedder
from pilotfish.gateway.live_route import LiveRoute
from pilotfish.gateway.rows import Turn
from pilotfish.gateway.tried import Asker, Routing, Said, prompt_of
from pilotfish.models.base import Model
from pilotfish.models.wire.chat import CHAT
from pilotfish.routing.cascade import Decision
from pilotfish.routing.route import Choice, Route, Step

MAX_BEGUN = 10_000
"""Conversations remembered with the model that began them; beyond, the oldest go on with the reference."""

_log = logging.getLogger(__name__)
_UNTOUCHED = ("n", "tools", "functions", "audio", "modalities")
_NOT_OURS: frozenset[Reason] = frozenset(("other-model", "private", "encoder"))


class Routed:
    """Decides on the requests of one gateway that no specialist answers."""

    def __init__(
        self,
        *,
        live: LiveRoute,
        settings: RoutingSettings,
        models: Mapping[str, Model],
        embedder: Embedder,
        timeout_s: float,
    ) -> None:
        """`timeout_s` bounds an answer where the settings state no deadline."""
        self.live = live
        self.asker = Asker()
        self.models = {name: models[name] for name in settings.models if name in models}
        self._deadline_s = settings.deadline_s
        self._timeout_s = settings.deadline_s or timeout_s
        self._embedder = embedder
        self._begun: OrderedDict[str, str] = OrderedDict()

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
        route = self.live.route
        if route is None or not self.is_open(turn):
            return None
        prompt = prompt_of(turn.request)
        if prompt is None or not all(turn.visit.may_use(turn.named, step.model) for step in route.steps):
            return None
        assert self.live.certificate is not None
        routing = Routing(
            route=route,
            certificate_id=self.live.certificate.id,
            request=Outcome(request_id=turn.request_id, prompt=prompt, tried={}),
        )
        if turn.request.has_begun:
            routing.stays = self._begun.get(_conversation(turn.request.messages), "")
            if routing.stays in self.models:
                turn.routing = routing
                self._hand_over(turn, routing.stays, "same-model")
            return None
        turn.routing = routing
        turn.coin = self.live.coin
        turn.is_audited = random.random() < self.live.coin
        with asgi.Departure(receive) as departure:
            said = await self._cascade(turn, routing)
        routing.is_left = departure.is_gone
        return None if departure.is_gone else said

    def back(self, turn: Turn, reference: Model) -> None:
        """Let the reference answer after all: a smaller model that was to answer has failed."""
        assert turn.routing is not None
        turn.routing.kept = ""
        turn.decision = Decision(reason="smaller-failed")
        turn.target, turn.model, turn.price = reference, reference.card.name, reference.card.price

    def note(self, turn: Turn, answer: str | None) -> None:
        """Remember that a smaller model has said this, so that the conversation can stay with it."""
        routing = turn.routing
        if routing is None or not routing.kept or answer is None:
            return
        said = [*turn.request.messages, Message(role="assistant", content=answer)]
        self._begun[_conversation(said)] = routing.kept
        while len(self._begun) > MAX_BEGUN:
            self._begun.popitem(last=False)

    async def _cascade(self, turn: Turn, routing: Routing) -> Said | None:
        route = routing.route
        ends_s = time.perf_counter() + self._timeout_s
        embedding = await self._embedding(route, routing.request.prompt)
        choice = route.first(routing.request, embedding, deadline_s=self._deadline_s)
        reason: Reason = "asked-at-once"
        while choice.model != route.reference:
            routing.choice, routing.place = choice, _place(route, choice)
            step = route.steps[routing.place]
            if not step.reads_answer:
                self._hand_over(turn, step.model, "kept")
                return None
            said = await self._ask(turn, step, ends_s)
            if said is None:
                turn.decision = Decision(reason="smaller-failed")
                return None
            choice = _after(routing, said, embedding)
            if choice.why == "kept":
                routing.choice = choice
                self._hand_over(turn, step.model, "kept")
                turn.request.server, turn.request.tries = said.server, said.tries
                return said
            reason = "asked-further"
        routing.choice = choice
        turn.decision = Decision(reason=reason)
        return None

    async def _ask(self, turn: Turn, step: Step, ends_s: float) -> Said | None:
        """The step's answer; None where it fails, where there is no time for it, or the key may not pay for it."""
        left_s = ends_s - time.perf_counter()
        # What the reference will need is kept back for it.
        further_s = step.further.latency_s
        limit_s = left_s / 2 if further_s is None else left_s - further_s
        if limit_s <= 0:
            return None
        visit = turn.visit
        try:
            visit.reserve(step.model, turn.request.raw)
            async with asyncio.timeout(limit_s):
                said = await self.asker.ask(self.models[step.model], turn.request)
        except (RequestError, PilotfishError, TimeoutError):
            visit.end()
            return None
        visit.settle(said.usage, answer=said.tried.text, is_answered=True)
        return said

    def _hand_over(self, turn: Turn, name: str, reason: Reason) -> None:
        """Let a smaller model answer."""
        assert turn.routing is not None
        model = self.models[name]
        turn.routing.kept = name
        turn.target, turn.model, turn.price = model, name, model.card.price
        turn.decision = Decision(reason=reason)

    async def _embedding(self, route: Route, prompt: str) -> Sequence[float] | None:
        return await self._embedder.vector(prompt, route.encoder_sha256) if route.encoder_sha256 else None


def _after(routing: Routing, said: Said, embedding: Sequence[float] | None) -> Choice:
    """What the route makes of an answer. What no signal can read is the reference's, like what it cannot tell."""
    try:
        routing.read(said)
        return routing.route.after(routing.place, routing.request, said.tried, embedding)
    except (ValueError, ArithmeticError, LookupError, RecursionError) as error:
        # An answer is any text: reading it must never cost the client a reply.
        _log.warning("An answer of %s could not be read: %s", said.model, type(error).__name__)
        return Choice(model=routing.route.reference, why="unknown")


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
