"""Whatever answers an item: an endpoint, a specialist, a function, a recording, or a cascade of two of them.

Each is asked for one item at a time and says what it answered, how long that took and what it used; where a figure does
not exist (no first token of a specialist, no latency of a recording) it is None. An answerer that cannot answer raises
a `ModelError` or `SpecialistError`; how that counts is decided by the run.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec

from pilotfish.core.errors import ModelConnectionError, ModelError, ModelStatusError, SpecialistError
from pilotfish.core.item import Item
from pilotfish.core.messages import ChatRequest, Message, Price, Usage
from pilotfish.models.base import Model
from pilotfish.models.timed import timed_answer
from pilotfish.scoring.answers import render
from pilotfish.scoring.scorers import Score
from pilotfish.specialists.specialist import Specialist

_FATAL_STATUS = (401, 402, 403, 404)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer. `score` is set only where a recording brings its own, `certainty` where it is known."""

    answer: str
    latency_s: float | None = None
    ttft_s: float | None = None
    gaps_s: list[float] = field(default_factory=list)
    usage: Usage | None = None
    cost_usd: float | None = None
    failure: str = ""
    finish_reason: str = ""
    score: Score | None = None
    certainty: float | None = None
    scope: float = 1.0
    is_accepted: bool = False
    is_escalated: bool | None = None


class Answerer(Protocol):
    """Anything that answers an item."""

    async def ask(self, item: Item, repeat: int, sent_s: float) -> Response:
        """The answer; `sent_s` is when the call was meant to be sent, a `time.perf_counter` value."""

    async def aclose(self) -> None:
        """Release connections and memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What every endpoint is asked with, beside the messages."""

    temperature: float = 0.0
    max_tokens: int | None = None
    wants_certainty: bool = False

    def body(self, messages: Iterable[Message], model: str) -> bytes:
        """The request body."""
        rows = [{"role": message.role, "content": message.content} for message in messages]
        body: dict[str, Any] = {"model": model, "messages": rows, "temperature": self.temperature, "stream": True}
        body["stream_options"] = {"include_usage": True}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        if self.wants_certainty:
            body["logprobs"] = True
        return msgspec.json.encode(body)


class Asked:
    """A chat model, asked as a stream so that its first token is seen."""

    def __init__(self, model: Model, sampling: Sampling, price: Price | None = None) -> None:
        self._model = model
        self._sampling = sampling
        self._price = price if price is not None else model.card.price

    async def ask(self, item: Item, repeat: int, sent_s: float) -> Response:
        """The streamed answer."""
        name = self._model.card.name
        # Without a model here, each server of it fills in the name that it is known by there.
        request = ChatRequest(
            messages=item.messages,
            stream=True,
            stream_options={"include_usage": True},
            raw=self._sampling.body(item.messages, name),
        )
        found = await timed_answer(self._model, request, sent_s=sent_s)
        priced = self._price is not None and found.usage is not None
        return Response(
            answer=found.text,
            latency_s=found.latency_s,
            ttft_s=found.ttft_s,
            gaps_s=found.gaps_s,
            usage=found.usage,
            cost_usd=self._price.cost_usd(found.usage) if priced and self._price and found.usage else None,
            finish_reason=found.finish_reason,
            certainty=found.certainty,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._model.aclose()


class Gate(Protocol):
    """The policy that decides live (`routing.policy.Policy`): whether an answer with these scores is served."""

    def accepts_first(self, certainty: float, scope: float) -> bool:
        """Whether the first tier's answer is."""

    def decide(self, certainty: float, scope: float) -> str:
        """ "certified" where the whole mixture's answer is."""


class Distilled:
    """A specialist, asked for the text of the last user message.

    With a `first_gate` its first tier is asked first, and the whole mixture where the gate does not accept that; with
    `only_first` nothing else is asked.
    """

    def __init__(self, specialist: Specialist, first_gate: Gate | None = None, *, only_first: bool = False) -> None:
        self._specialist = specialist
        self._first_gate = first_gate
        self._only_first = only_first

    async def ask(self, item: Item, repeat: int, sent_s: float) -> Response:
        """Its answer as the reference would write it, with its certainty and scope."""
        return await asyncio.to_thread(self._answer, last_text(item), sent_s)

    def _answer(self, text: str, sent_s: float) -> Response:
        specialist = self._specialist
        is_accepted = False
        if self._only_first or self._first_gate is not None:
            found = specialist.predict_first([text])
            scores = float(found.certainty[0]), float(found.scope[0])
            is_accepted = self._first_gate is not None and self._first_gate.accepts_first(*scores)
        if not self._only_first and not is_accepted:
            found = specialist.predict([text])
        return Response(
            answer=render(specialist.card.shape, found.answers[0], text),
            latency_s=time.perf_counter() - sent_s,
            certainty=float(found.certainty[0]),
            scope=float(found.scope[0]),
            is_accepted=is_accepted,
        )

    async def aclose(self) -> None:
        """Nothing to release."""


class Called:
    """A user's own function of the messages: it returns the answer, or the answer and its certainty in 0..1."""

    def __init__(self, function: Callable[[list[dict[str, Any]]], Any]) -> None:
        self._function = function

    async def ask(self, item: Item, repeat: int, sent_s: float) -> Response:
        """What the function returns; a coroutine is awaited."""
        found = self._function([{"role": message.role, "content": message.content} for message in item.messages])
        if inspect.isawaitable(found):
            found = await found
        answer, certainty = found if isinstance(found, tuple) else (found, None)
        return Response(answer=str(answer), latency_s=time.perf_counter() - sent_s, certainty=certainty)

    async def aclose(self) -> None:
        """Nothing to release."""


class Cascade:
    """Asks the first, and where its answer is not accepted, the second. Both are paid for and waited for."""

    def __init__(self, first: Answerer, second: Answerer, gate: Gate) -> None:
        self._first = first
        self._second = second
        self._gate = gate

    async def ask(self, item: Item, repeat: int, sent_s: float) -> Response:
        """The accepted answer. An answer without a certainty is never accepted."""
        try:
            tried = await self._first.ask(item, repeat, sent_s)
        except (ModelError, SpecialistError):
            # As live: a broken first costs its time, never the answer.
            tried = Response(answer="", failure="error", latency_s=time.perf_counter() - sent_s)
        if not tried.failure and (tried.is_accepted or self._is_certified(tried)):
            return replace(tried, is_escalated=False)
        found = await self._second.ask(item, repeat, time.perf_counter())
        waited_s = tried.latency_s or 0.0
        return replace(
            found,
            is_escalated=True,
            latency_s=None if found.latency_s is None else waited_s + found.latency_s,
            ttft_s=None if found.ttft_s is None else waited_s + found.ttft_s,
            usage=_added(tried.usage, found.usage),
            cost_usd=_summed(tried, found),
        )

    def _is_certified(self, tried: Response) -> bool:
        return tried.certainty is not None and self._gate.decide(tried.certainty, tried.scope) == "certified"

    async def aclose(self) -> None:
        """Close both."""
        await self._first.aclose()
        await self._second.aclose()


def is_fatal(error: Exception) -> bool:
    """Whether every further call would fail alike: nobody there, or a key or name that is refused."""
    if isinstance(error, ModelStatusError):
        return error.status in _FATAL_STATUS
    return isinstance(error, ModelConnectionError | SpecialistError)


def last_text(item: Item) -> str:
    """The text of the last user message, empty where it has none."""
    return next((message.text or "" for message in reversed(item.messages) if message.role == "user"), "")


def _added(first: Usage | None, second: Usage | None) -> Usage | None:
    if first is None or second is None:
        return second if first is None else first
    return Usage(
        prompt=first.prompt + second.prompt,
        completion=first.completion + second.completion,
        cached=first.cached + second.cached,
    )


def _summed(first: Response, second: Response) -> float | None:
    """The cost of both; one without tokens (a specialist) cost nothing, one of unknown price makes the sum unknown."""
    if second.cost_usd is None or (first.usage is not None and first.cost_usd is None):
        return None
    return (first.cost_usd or 0.0) + second.cost_usd
