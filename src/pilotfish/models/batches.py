"""Runs the work of a model that lives in this process: in one thread, what waits together in one batch.

A model in this process is asked from an event loop that must go on meanwhile, and reads its weights once for a whole
batch. What comes while one batch runs is taken together, in the order of asking; what would wait behind too many others
is refused, as a server would (503). What the work is is not known here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from pilotfish.core.errors import ModelError, PilotfishError

MAX_WAITING = 64

MAX_BATCH = 8
"""Requests in one batch: each holds memory of its own, for what it has read."""

Asked = TypeVar("Asked")
Piece = TypeVar("Piece")


class Job(Generic[Asked, Piece]):
    """One request in a batch: what is asked, and whom to tell. Made in the event loop, told from the thread."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.is_left = False
        """Whether who asked has gone: nobody hears what would still be told."""
        self.is_over = False
        self.error: BaseException | None = None
        self._told: asyncio.Queue[Piece | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def tell(self, piece: Piece) -> None:
        """One piece of the answer."""
        self._put(piece)

    def end(self, error: BaseException | None = None) -> None:
        """The end, for a reason where there was a fault. What is ended stays so."""
        if not self.is_over:
            self.is_over, self.error = True, error
            self._put(None)

    async def next(self) -> Piece | None:
        """The next piece, None at the end."""
        return await self._told.get()

    def _put(self, piece: Piece | None) -> None:
        # After the loop has closed nobody waits for a piece.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.put_nowait, piece)


class Batches(Generic[Asked, Piece]):
    """The thread of one model, called `name` in messages. It starts with the first request.

    An idle thread waits `gather_s` for what comes along with the first. `work` answers up to `most` jobs, and should
    look whether they are left; those that it does not end itself end with it, by its error where it raises one.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[Job[Asked, Piece]]], None],
        *,
        most: int = MAX_BATCH,
        gather_s: float = 0.0,
    ) -> None:
        self._name = name
        self._work = work
        self._most = most
        self._gather_s = gather_s
        self._n_open = 0
        self._waiting: deque[Job[Asked, Piece]] = deque()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"pilotfish-{name}")

    async def run(self, asked: Asked) -> Piece:
        """The one piece of an answer. Raises what the work raises: a `ModelError` (500) for what its libraries do."""
        found = [piece async for piece in self.pieces(asked)]
        return found[0]

    async def pieces(self, asked: Asked) -> AsyncGenerator[Piece, None]:
        """The pieces of an answer, as they come. Closing this leaves the batch. Raises as `run`."""
        if self._n_open >= MAX_WAITING:
            raise ModelError(f"{self._name} has {self._n_open} requests waiting.", model=self._name, status=503)
        job: Job[Asked, Piece] = Job(asked)
        self._n_open += 1
        self._waiting.append(job)
        self._start()
        try:
            while (piece := await job.next()) is not None:
                yield piece
            if job.error is not None:
                raise self._told(job.error) from job.error
        finally:
            job.is_left = True
            self._n_open -= 1

    def close(self) -> None:
        """End the thread after what it is doing; what waits is told so."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while (job := self._next()) is not None:
            job.end(ModelError(f"{self._name} was closed.", model=self._name, status=503))

    def _start(self) -> None:
        """One batch for each who asks: the later ones find what waits taken already."""
        taken: list[Job[Asked, Piece]] = []

        def end(batch: Future[None]) -> None:
            for job in taken:
                job.end(batch.exception())

        self._threads.submit(self._take, taken).add_done_callback(end)

    def _take(self, taken: list[Job[Asked, Piece]]) -> None:
        if len(self._waiting) == 1 and self._most > 1:
            time.sleep(self._gather_s)
        while len(taken) < self._most and (job := self._next()) is not None:
            if not job.is_left:
                taken.append(job)
        if taken:
            self._work(taken)

    def _next(self) -> Job[Asked, Piece] | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _told(self, error: BaseException) -> PilotfishError:
        if isinstance(error, PilotfishError):
            return error
        said = f"{self._name} failed: {type(error).__name__}: {error}"
        return ModelError(said, model=self._name, status=500, may_be_billed=False)
