"""One model on one or several servers: whom to ask, whom to ask next, and when to stop.

A request is asked again only where the server before surely did no work for it; what may be billed is never bought
twice. Another server is asked at once; only where none is left is there a short wait. One deadline covers all tries.
After the first byte of a stream there is no other try. Every fault and its treatment: `docs/faults.md`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pilotfish.core.errors import ModelDownError, ModelError, ModelFormatError, ModelStatusError
from pilotfish.core.messages import Answer, ChatRequest
from pilotfish.models.base import ModelCard
from pilotfish.models.breaker import Breaker

PAUSES_S = (0.1, 0.4)
"""Waits before another round of all servers, where a `retry-after` names no longer one."""

_ROUNDS_S = (*PAUSES_S, float("inf"))
MAY_BE_BILLED = "It may have been billed, so it was not asked again."

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Server(Protocol):
    """A model on one server, asked within a time."""

    @property
    def host(self) -> str:
        """Host and port, for people."""

    async def answer(self, request: ChatRequest, *, timeout_s: float | None = None) -> Answer:
        """The whole answer. Raises a `ModelError`."""

    def stream(self, request: ChatRequest, *, timeout_s: float | None = None) -> AsyncGenerator[bytes, None]:
        """The answer's event bytes. Raises a `ModelError`."""

    async def aclose(self) -> None:
        """Release connections."""


@dataclass(frozen=True, slots=True)
class _Place:
    server: Server
    breaker: Breaker = field(default_factory=Breaker)


class FailoverModel:
    """A model whose servers stand in for one another."""

    def __init__(
        self, servers: Sequence[Server], *, card: ModelCard, timeout_s: float, retry_wait_s: float = 0.0
    ) -> None:
        """`servers` in the order in which they are asked; `timeout_s` bounds all tries, `retry_wait_s` all waits."""
        self._places = tuple(_Place(server) for server in servers)
        self._card = card
        self._timeout_s = timeout_s
        self._retry_wait_s = retry_wait_s

    @property
    def card(self) -> ModelCard:
        """Name and stated price."""
        return self._card

    @property
    def state(self) -> list[dict[str, Any]]:
        """Each server with its breaker, for the status page."""
        return [
            {
                "host": place.server.host,
                "is_open": place.breaker.is_open,
                "failures_in_a_row": place.breaker.n_failures,
            }
            for place in self._places
        ]

    async def answer(self, request: ChatRequest) -> Answer:
        """The first whole answer of a server. Raises the `ModelError` that says most where there is none."""
        _, answer = await self._ask(_answer, request)
        return answer

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The event bytes of the first server that begins to answer. Raises as `answer`, and where it breaks off."""
        place, (first, pieces) = await self._ask(self._begin, request)
        try:
            yield first
            async for piece in pieces:
                yield piece
        except ModelError as error:
            self._note(place, error)
            raise _said(error) from None
        finally:
            await pieces.aclose()

    async def aclose(self) -> None:
        """Close the connections to all servers."""
        for place in self._places:
            await place.server.aclose()

    async def _ask(
        self, ask: Callable[[Server, ChatRequest, float], Awaitable[T]], request: ChatRequest
    ) -> tuple[_Place, T]:
        deadline_s = time.monotonic() + self._timeout_s
        failure: ModelError | None = None
        waited_s = 0.0
        for pause_s in _ROUNDS_S:
            is_brief = False
            for place in self._places:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not place.breaker.admits():
                    continue
                request.server, request.tries = place.server.host, request.tries + 1
                try:
                    found = await ask(place.server, request, left_s)
                except ModelError as error:
                    self._note(place, error)
                    if not _is_for_another(error):
                        raise _said(error) from None
                    failure, is_brief = _telling(failure, error), is_brief or error.is_brief
                else:
                    self._succeeded(place)
                    return place, found
            if failure is None:
                break
            wait_s = max(pause_s, _retry_after_s(failure))
            waited_s += wait_s
            if not is_brief or waited_s > self._retry_wait_s or time.monotonic() + wait_s >= deadline_s:
                raise failure
            await asyncio.sleep(wait_s)
        raise self._down()

    async def _begin(
        self, server: Server, request: ChatRequest, left_s: float
    ) -> tuple[bytes, AsyncGenerator[bytes, None]]:
        """A stream whose first piece has come: until then nothing has been relayed."""
        pieces = server.stream(request, timeout_s=left_s)
        first = await anext(pieces, b"")
        if not first:
            raise ModelFormatError(f"{self._card.name} answered an empty stream.", model=self._card.name)
        return first, pieces

    def _note(self, place: _Place, error: ModelError) -> None:
        """Tell the breaker: an error of the request's own (4xx), or a rate limit, says nothing of the server."""
        if isinstance(error, ModelStatusError) and error.status < 500:
            self._succeeded(place)
            return
        was_open = place.breaker.is_open
        place.breaker.failed()
        if place.breaker.is_open and not was_open:
            name, host = self._card.name, place.server.host
            fields = {"event": "breaker-opened", "model": name, "server": host, "code": error.code}
            _log.warning("%s: %s is left alone for a moment. %s", name, host, error.message, extra={"fields": fields})

    def _succeeded(self, place: _Place) -> None:
        if place.breaker.is_open:
            name, host = self._card.name, place.server.host
            fields = {"event": "breaker-closed", "model": name, "server": host}
            _log.info("%s: %s answers again.", name, host, extra={"fields": fields})
        place.breaker.succeeded()

    def _down(self) -> ModelError:
        name, wait_s = self._card.name, min(place.breaker.wait_s for place in self._places)
        message = f"{name} failed several times in a row and is left alone for a moment."
        return ModelDownError(message, model=name, retry_after_s=wait_s)


def _answer(server: Server, request: ChatRequest, left_s: float) -> Awaitable[Answer]:
    return server.answer(request, timeout_s=left_s)


def _is_for_another(error: ModelError) -> bool:
    return error.is_elsewhere if isinstance(error, ModelStatusError) else not error.may_be_billed


def _retry_after_s(error: ModelError) -> float:
    return error.retry_after_s or 0.0 if isinstance(error, ModelStatusError) else 0.0


def _telling(one: ModelError | None, other: ModelError) -> ModelError:
    """The error that tells the client more: one with a `retry-after`, then one with the model's own words."""
    if one is None or not isinstance(one, ModelStatusError):
        return other
    is_better = isinstance(other, ModelStatusError) and _retry_after_s(other) >= _retry_after_s(one)
    return other if is_better else one


def _said(error: ModelError) -> ModelError:
    """The error, which says in the log that the answer may have to be paid for all the same."""
    if error.may_be_billed:
        error.hint = f"{error.hint} {MAY_BE_BILLED}".strip()
    return error
