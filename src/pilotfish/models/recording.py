"""A model that answers from recorded traffic, for demonstrations and for replaying a log.

It is given exchanges, not a file: reading traffic is the store's business. A request is found by a
fingerprint of its messages, so sampling options do not matter. What was not recorded is a clear error,
never a guess. `delay_s` pretends the latency of the model that was recorded; it is no measurement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Protocol

import msgspec

from pilotfish.core.errors import NotRecordedError
from pilotfish.core.ids import fingerprint
from pilotfish.core.messages import Answer, ChatRequest, Price, Usage
from pilotfish.models.base import ModelCard
from pilotfish.models.wire.formats import format_of


class Exchange(Protocol):
    """One recorded request with its answer, as `store.traffic` reads it."""

    @property
    def request(self) -> ChatRequest:
        """What was asked."""

    @property
    def answer(self) -> str:
        """What was answered."""

    @property
    def usage(self) -> Usage | None:
        """The tokens it took, where they were recorded."""


class RecordedModel:
    """Answers each recorded request as it was answered then.

    A request recorded several times gets its answers in the recorded order, the last one from then on.
    """

    def __init__(
        self,
        exchanges: Iterable[Exchange],
        *,
        name: str = "recording",
        delay_s: float = 0.0,
        price: Price | None = None,
    ) -> None:
        self._card = ModelCard(name=name, price=price)
        self._delay_s = delay_s
        self._answers: dict[str, list[tuple[str, Usage | None]]] = {}
        for exchange in exchanges:
            self._answers.setdefault(_key(exchange.request), []).append((exchange.answer, exchange.usage))

    @property
    def card(self) -> ModelCard:
        """The name given."""
        return self._card

    async def answer(self, request: ChatRequest) -> Answer:
        """The recorded answer after the pretended delay. Raises `NotRecordedError`."""
        started_s = time.perf_counter()
        text, usage = await self._find(request)
        latency_s = time.perf_counter() - started_s
        return format_of(request).answer_of(text, request, model=self._card.name, usage=usage, latency_s=latency_s)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The recorded answer as server-sent events. Raises `NotRecordedError` before the first."""
        text, usage = await self._find(request)
        for event in format_of(request).encode_stream(text, request, model=self._card.name, usage=usage):
            yield event

    async def aclose(self) -> None:
        """Nothing to release."""

    async def _find(self, request: ChatRequest) -> tuple[str, Usage | None]:
        answers = self._answers.get(_key(request))
        if not answers:
            raise NotRecordedError(
                f"The recording {self._card.name!r} holds no answer to this request.",
                model=self._card.name,
                hint="A recording answers only the messages it was made from.",
            )
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        return answers.pop(0) if len(answers) > 1 else answers[0]


def _key(request: ChatRequest) -> str:
    rows = [[message.role, message.content, message.tool_calls] for message in request.messages]
    return fingerprint(msgspec.json.encode(rows, order="sorted").decode())
