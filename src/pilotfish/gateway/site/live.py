"""The figures of the overview as server-sent events: computed once for all who listen, at most every two seconds.

Nothing is computed while nobody listens, and nothing on the path of a request: the sums are read in the pages' own
thread. A stream ends by itself after ten minutes, so that one whose session has ended does not go on; browsers ask
again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pilotfish.core.errors import LimitError, StoreError
from pilotfish.gateway import asgi

EVERY_S = 2.0
BEAT_S = 15.0
LIFE_S = 600.0
MOST_LISTENERS = 32

_log = logging.getLogger(__name__)


class Live:
    """Who listens, and what they were told last."""

    def __init__(self, compute: Callable[[], Awaitable[bytes]]) -> None:
        """`compute` gives the data of one event."""
        self._compute = compute
        self._n = 0
        self._latest = b""
        self._turn = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._is_ended = False

    async def listen(self, headers: asgi.Headers, receive: asgi.Receive, send: asgi.Send) -> None:
        """Tell one listener until it leaves. Raises `LimitError` where there are too many."""
        if self._n >= MOST_LISTENERS:
            raise LimitError(
                f"{MOST_LISTENERS} pages are live already.",
                param="",
                status=429,
                retry_after_s=30,
                hint="The page itself works; reload it to see what is new.",
            )
        self._n += 1
        try:
            if self._work is None:
                self._latest = b""
                self._work = asyncio.ensure_future(self._run())
            with asgi.Departure(receive):
                await self._tell(headers, send)
        finally:
            self._n -= 1
            if self._n == 0 and self._work is not None:
                self._work.cancel()
                self._work = None

    def end(self) -> None:
        """Let all streams end, since the server does."""
        self._is_ended = True
        self._wake()

    async def _tell(self, headers: asgi.Headers, send: asgi.Send) -> None:
        ends_s = asyncio.get_running_loop().time() + LIFE_S
        await send({"type": "http.response.start", "status": 200, "headers": [*asgi.EVENTS, *headers]})
        told = b""
        while not self._is_ended and asyncio.get_running_loop().time() < ends_s:
            turn = self._turn
            if told != self._latest:
                told = self._latest
                await send({"type": "http.response.body", "body": b"data: %b\n\n" % told, "more_body": True})
            try:
                await asyncio.wait_for(turn.wait(), BEAT_S)
            except TimeoutError:
                await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _run(self) -> None:
        while True:
            try:
                latest = await self._compute()
            except StoreError as error:
                _log.warning("Live figures wait: %s", error)
            else:
                if latest != self._latest:
                    self._latest = latest
                    self._wake()
            await asyncio.sleep(EVERY_S)

    def _wake(self) -> None:
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()
