"""The bench: one request, heard from every chosen model and every specialist, and what would be done with it.

It goes the way of any request (privacy first, then recognition, gates and route, by the same objects), but nobody gets
an answer, so nothing of it is traffic: no row in the log, no audit, nothing learnt, no certificate touched. What the
calls cost is written down, and counted among what the models have cost. No text is kept.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Collection
from dataclasses import dataclass

from pilotfish.core.by_hand import BenchCall
from pilotfish.core.errors import LimitError, PilotfishError, RequestError
from pilotfish.core.receipt import Reason
from pilotfish.gateway import error_bodies
from pilotfish.gateway.live_tasks import LiveTask
from pilotfish.gateway.rows import Turn
from pilotfish.gateway.running import Running
from pilotfish.gateway.tried import Said
from pilotfish.models.base import Model
from pilotfish.models.wire.format import encode
from pilotfish.routing.cascade import Prediction, decide, local_name

MOST_AT_ONCE = 2
"""Clicks under way at a time: each asks every chosen model."""

MOST_SPECIALISTS = 50
"""Of the most that are run, the one of the request's own task first; each takes milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What one model said, as a client would have got it, or why it did not. `call` is None where none was made."""

    model: Model
    call: BenchCall | None = None
    said: Said | None = None
    text: str | None = None
    error: str = ""

    @property
    def mean_logprob(self) -> float | None:
        """The mean log-probability of its tokens, None where its server tells none."""
        logprobs = self.said.tried.logprobs if self.said is not None else ()
        return math.fsum(logprobs) / len(logprobs) if logprobs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What one specialist said, and what the gates of its certificate make of it.

    `live` is its task with that certificate (None: it has none, and no gates). `is_own` says that the request is of
    this very task.
    """

    live: LiveTask
    is_own: bool
    prediction: Prediction | None = None
    reason: Reason | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of one click. `turn` holds the decision; `missing` is a model that the route would have to ask first.

    `answers` is who would have answered, empty where the request would be refused, or where that hangs on `missing`.
    """

    turn: Turn
    heard: list[Heard]
    ran: list[Ran]
    answers: str
    missing: str = ""

    @property
    def usd(self) -> tuple[float, int]:
        """What the calls cost, and of how many that is not known."""
        costs = [heard.call.cost_usd for heard in self.heard if heard.call is not None]
        known = [cost for cost in costs if cost is not None]
        return math.fsum(known), len(costs) - len(known)


class Bench:
    """Asks for one gateway."""

    def __init__(self, running: Running) -> None:
        self._chat = running.chat
        self._routed = running.answerers.routed
        self._models = running.answerers.names.models
        self._tasks = running.tasks
        self._counts = running.records.counts
        self._kept = running.by_hand
        # Of each call with all its tries, as it is under a route.
        self._timeout_s = running.settings.large.timeout_s
        self._n_running = 0

    async def ask(self, system: str, text: str, names: Collection[str]) -> Run:
        """One call of each model named, and what the specialists and the policy make of it.

        Raises `RequestError` where the request would be refused, `LimitError` (429) where others are at it. A model or
        specialist that fails is part of what is told.
        """
        unknown = sorted(set(names) - self._models.keys())
        if unknown:
            raise RequestError(f"The model {unknown[0]!r} is not configured.", param="model", hint="Reload the page.")
        if self._n_running >= MOST_AT_ONCE:
            raise LimitError(
                "The bench is being used by others right now.",
                param="bench",
                status=429,
                retry_after_s=round(self._timeout_s),
                hint="Try again when they have got their answers; nothing was asked.",
            )
        self._n_running += 1
        try:
            return await self._run(system, text, [model for name, model in self._models.items() if name in names])
        finally:
            self._n_running -= 1

    async def _run(self, system: str, text: str, models: list[Model]) -> Run:
        said = [("system", system)] if system else []
        messages = [{"role": role, "content": content} for role, content in (*said, ("user", text))]
        turn = await self._chat.consider(encode({"model": "auto", "messages": messages}))
        heard = await self._hear(turn, models)
        ran = [await self._try(turn, live) for live in self._specialists(turn)]
        missing = ""
        if self._routed.live.route is not None and not turn.decision.is_local:
            missing = await self._routed.rehearse(turn, {item.model.card.name: item.said for item in heard})
        return Run(turn=turn, heard=heard, ran=ran, answers="" if missing else _answers(turn), missing=missing)

    async def _hear(self, turn: Turn, models: list[Model]) -> list[Heard]:
        """Every model at once. What is asked is written down before, whatever becomes of it."""
        begun = [_begun(turn, model) for model in models]
        calls = [item.call for item in begun if item.call is not None]
        if calls:
            await asyncio.to_thread(self._kept.put_calls, calls)
        heard = await asyncio.gather(*(self._hear_one(turn, item) for item in begun))
        calls = [item.call for item in heard if item.call is not None]
        if calls:
            await asyncio.to_thread(self._kept.put_calls, calls)
        return heard

    async def _hear_one(self, turn: Turn, begun: Heard) -> Heard:
        if begun.call is None:
            return begun
        started_s = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                said = await self._routed.asker.ask(begun.model, turn.request)
                said = await self._routed.looks.fill(turn, begun.model, said, reads=self._routed.reads(begun.model))
        except TimeoutError:
            status, code, message = 504, "model_timeout", f"No answer came within {self._timeout_s:g} s."
        except PilotfishError as error:
            status, code, message = error_bodies.status_of(error), error.code, error_bodies.fault_of(error).message
        else:
            self._counts.note_given_up(said)
            return _answered(turn, begun, begun.call, said)
        call = dataclasses.replace(begun.call, status=status, error=code, latency_s=time.perf_counter() - started_s)
        return dataclasses.replace(begun, call=call, error=f"{code}: {_restored(turn, message)}")

    def _specialists(self, turn: Turn) -> list[LiveTask]:
        """The tasks that have one, the request's own first."""
        found = [live for live in self._tasks.all() if live.record.specialist_sha256]
        return sorted(found, key=lambda live: live.record.task_id != turn.task_id)[:MOST_SPECIALISTS]

    async def _try(self, turn: Turn, live: LiveTask) -> Ran:
        is_own = turn.live is not None and turn.live.record.task_id == live.record.task_id
        if live.record.shape.is_retrieved and (live.mode != "serve" or not live.is_for(None)):
            return Ran(live=live, is_own=is_own, error="It gives past answers again, to those alone who got them.")
        awake = await self._tasks.awake(live)
        assert awake.predict is not None
        text = turn.recognised.text if is_own and turn.recognised is not None else turn.request.messages[-1].text
        decision = turn.decision
        if not is_own or decision.prediction is None:
            decision = await decide(turn.request, text, awake.predict, awake.policy, awake.predict_first)
            decision = self._tasks.checked(awake, decision)
        said = decision.prediction
        if said is not None:
            said = dataclasses.replace(said, answer=_restored(turn, said.answer))
        reason = decision.reason if awake.certificate is not None or said is None else None
        return Ran(live=awake, is_own=is_own, prediction=said, reason=reason)


def _begun(turn: Turn, model: Model) -> Heard:
    """A call that is about to be made, or why it must not be."""
    if turn.privacy.is_local_only and not model.card.is_local:
        refusal = turn.privacy.refusal()
        return Heard(model=model, error=f"{refusal.code}: {refusal.message}")
    return Heard(model=model, call=BenchCall(run_id=turn.request_id, model=model.card.name, time_s=turn.time_s))


def _answered(turn: Turn, begun: Heard, call: BenchCall, said: Said) -> Heard:
    tried = said.tried
    call = dataclasses.replace(
        call,
        status=200,
        prompt_tokens=tried.input_tokens,
        completion_tokens=tried.output_tokens,
        cost_usd=said.cost_usd,
        latency_s=tried.latency_s or 0.0,
    )
    text = None if tried.text is None else _restored(turn, tried.text)
    return dataclasses.replace(begun, call=call, said=said, text=text)


def _restored(turn: Turn, text: str) -> str:
    """A text with what was masked put back."""
    return text if turn.privacy.restorer is None else turn.privacy.restorer.nested(text)


def _answers(turn: Turn) -> str:
    """Who would answer; nobody where the request must stay here and no model here is configured."""
    if turn.decision.is_local and turn.live is not None:
        return local_name(turn.live.record.name)
    return turn.model if turn.may_leave else ""
