"""Runs the work of a model that lives in this process: in one thread, one request after the other, in a bounded queue.

A model in this process is asked from an event loop that must go on meanwhile, and two requests at once would share its
cores and gain nothing. What would wait behind too many others is refused, as a server would (503). What the work is
is not known here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from pilotfish.core.errors import ModelError, PilotfishError

MAX_WAITING = 64

T = TypeVar("T")


class OneAtATime:
    """The thread of one model, called `name` in messages. It starts with the first request."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._n_waiting = 0
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"pilotfish-{name}")

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns. Raises what it raises: a `ModelError` (500) for what its libraries do."""
        found = [piece async for piece in self.pieces(lambda: iter((work(),)))]
        return found[0]

    async def pieces(self, work: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        """What `work` yields, as it comes. Closing this ends the work at its next piece. Raises as `run`."""
        if self._n_waiting >= MAX_WAITING:
            raise ModelError(f"{self._name} has {self._n_waiting} requests waiting.", model=self._name, status=503)
        pipe: _Pipe[T] = _Pipe()
        self._n_waiting += 1
        ended = self._threads.submit(pipe.fill, work)
        try:
            while (piece := await pipe.queue.get()) is not None:
                yield piece
            # The end of the pipe is the last that the thread tells, so this does not wait.
            error = ended.exception()
            if error is not None:
                raise self._told(error) from error
        finally:
            pipe.is_left.set()
            ended.cancel()
            self._n_waiting -= 1

    def _told(self, error: BaseException) -> PilotfishError:
        if isinstance(error, PilotfishError):
            return error
        said = f"{self._name} failed: {type(error).__name__}: {error}"
        return ModelError(said, model=self._name, status=500, may_be_billed=False)

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Pipe(Generic[T]):
    """From the thread to the loop: pieces, then None, however the work ends."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[T | None] = asyncio.Queue()
        self.is_left = threading.Event()
        self._loop = asyncio.get_running_loop()

    def fill(self, work: Callable[[], Iterator[T]]) -> None:
        try:
            for piece in work():
                if self.is_left.is_set():
                    return
                self._tell(piece)
        finally:
            self._tell(None)

    def _tell(self, piece: T | None) -> None:
        # After the loop has closed nobody waits for a piece.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.queue.put_nowait, piece)
