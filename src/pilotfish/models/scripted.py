"""A model that does what a script says: the test double, public so that users test as we do.

    model = ScriptedModel(["first answer", Step(error=ModelTimeoutError("slow")), Step("late", delay_s=0.2)])
    model = ScriptedModel(lambda request: request.messages[-1].text.upper())

It answers, waits, fails with any `ModelError`, hangs until cancelled, or cuts a stream, and keeps what
it was asked. It opens no socket; for faults on the wire use a real server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from pilotfish.core.errors import ModelConnectionError, ModelError
from pilotfish.core.messages import Answer, ChatRequest, Price, Usage
from pilotfish.models.base import ModelCard
from pilotfish.models.wire.formats import format_of


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with one request.

    `delay_s` passes before anything else. Then `error` is raised, or the call hangs until it is
    cancelled, or `text` is answered. `cut_after` ends a stream after that many events with a
    `ModelConnectionError`; a whole answer is then never given.
    """

    text: str = ""
    delay_s: float = 0.0
    error: ModelError | None = None
    hangs: bool = False
    cut_after: int | None = None
    usage: Usage | None = None


Script = Sequence[str | Step] | Callable[[ChatRequest], str | Step]


class ScriptedModel:
    """Follows `script`: one step a request, the last one for ever, or a function of the request.

    `requests` is what it was asked, in order; `n_cancelled` how many calls were cancelled on the way.
    """

    def __init__(self, script: Script, *, name: str = "scripted", price: Price | None = None) -> None:
        if not callable(script) and not script:
            raise ValueError("A script needs at least one step.")
        self._script = script
        self._card = ModelCard(name=name, price=price)
        self.requests: list[ChatRequest] = []
        self.n_cancelled = 0

    @property
    def card(self) -> ModelCard:
        """The name given."""
        return self._card

    async def answer(self, request: ChatRequest) -> Answer:
        """The step's text. Raises the step's error."""
        started_s = time.perf_counter()
        step = await self._begin(request)
        if step.cut_after is not None:
            raise self._cut()
        latency_s = time.perf_counter() - started_s
        return format_of(request).answer_of(
            step.text, request, model=self._card.name, usage=step.usage, latency_s=latency_s
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The step's text as server-sent events. Raises the step's error before the first."""
        step = await self._begin(request)
        events = format_of(request).encode_stream(step.text, request, model=self._card.name, usage=step.usage)
        try:
            for event in events[: step.cut_after]:
                yield event
        except GeneratorExit:
            self.n_cancelled += 1
            raise
        if step.cut_after is not None:
            raise self._cut()

    async def aclose(self) -> None:
        """Nothing to release."""

    async def _begin(self, request: ChatRequest) -> Step:
        step = self._next(request)
        self.requests.append(request)
        try:
            await asyncio.sleep(step.delay_s)
            if step.hangs:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.n_cancelled += 1
            raise
        if step.error is not None:
            raise step.error
        return step

    def _next(self, request: ChatRequest) -> Step:
        if callable(self._script):
            step = self._script(request)
        else:
            step = self._script[min(len(self.requests), len(self._script) - 1)]
        return Step(step) if isinstance(step, str) else step

    def _cut(self) -> ModelError:
        return ModelConnectionError(f"{self._card.name} broke the connection.", model=self._card.name)
