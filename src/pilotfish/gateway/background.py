"""Work that goes on after a reply, or in a thread of its own: held until it ends, and never able to hurt what answers.

The one boundary at which whatever goes wrong in such work is caught: it is told to who asked for it, and ends there.
What the work is, is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def boundary(tell: Callable[[Exception], None]) -> Iterator[None]:
    """Whatever goes wrong inside is told, and ends here."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the boundary of a background job
        tell(error)


class Background:
    """The work of one kind that is under way. `failure` is the sentence logged where a piece of it fails."""

    def __init__(self, failure: str, tell: Callable[[Exception], None] | None = None) -> None:
        """`tell` is called with what went wrong."""
        self._failure = failure
        self._tell = tell
        self._pending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._pending)

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begin a piece of work."""
        task = asyncio.ensure_future(self.guarded(work))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def guarded(self, work: Coroutine[None, None, None]) -> None:
        """Do a piece of work here and now."""
        with boundary(self._failed):
            await work

    async def aclose(self) -> None:
        """Cancel what is under way, and wait for its end."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    def _failed(self, error: Exception) -> None:
        _log.error(self._failure, exc_info=error)
        if self._tell is not None:
            self._tell(error)
