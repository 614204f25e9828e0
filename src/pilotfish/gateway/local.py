"""Local inference: one thread, one text at a time, a bounded queue.

One thread, because the runtime releases the interpreter lock and more threads gave no more throughput. No
batches, because an int8 encoder scores a text differently beside others (`specialists/encoder.py`): a batch
would only make its first text wait for its last. What would have to wait too long is not answered here at all.
The numerical libraries are touched only inside the specialists passed in.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pilotfish.core.errors import SpecialistError
from pilotfish.core.task import AnswerShape
from pilotfish.routing.cascade import Prediction
from pilotfish.scoring import answers

MAX_WAITING = 64
DEADLINE_S = 0.1
"""A full queue of short texts takes about this long on one core; the reference is then the quicker answer."""

_log = logging.getLogger(__name__)


class Predictions(Protocol):
    """Answers and scores for a batch of texts, one each."""

    @property
    def answers(self) -> Sequence[tuple[str, ...]]:
        """Canonical values."""

    @property
    def certainty(self) -> Any:  # noqa: ANN401 - an array, whose library is not known here
        """How sure the specialist is."""

    @property
    def scope(self) -> Any:  # noqa: ANN401
        """How much like its task the text is."""


class Predictor(Protocol):
    """A loaded specialist."""

    @property
    def sha256(self) -> str:
        """The hash of its folder."""

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Its answers."""


@dataclass(slots=True)
class _Job:
    predictor: Predictor
    shape: AnswerShape
    text: str
    started_s: float
    future: asyncio.Future[Prediction | None]


class Inference:
    """The inference thread of one gateway. It starts with the first text."""

    def __init__(self, *, max_waiting: int = MAX_WAITING, deadline_s: float = DEADLINE_S) -> None:
        self._max_waiting = max_waiting
        self._deadline_s = deadline_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._n_waiting = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reported: set[str] = set()

    async def predict(self, predictor: Predictor, shape: AnswerShape, text: str) -> Prediction | None:
        """What `predictor` says, None where it cannot say so within the deadline. Raises `SpecialistError`."""
        if self._n_waiting >= self._max_waiting:
            return None
        loop = self._start()
        job = _Job(predictor, shape, text, time.perf_counter(), loop.create_future())
        timer = loop.call_later(self._deadline_s, _resolve, job.future, None)
        self._n_waiting += 1
        self._jobs.put(job)
        try:
            return await job.future
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the thread after what it is doing."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="pilotfish-inference", daemon=True)
            self._thread.start()
        return self._loop

    def _run(self) -> None:
        assert self._loop is not None
        while (job := self._jobs.get()) is not None:
            outcome = None if job.future.done() else self._answer(job)
            # After the loop has closed nobody waits for an outcome.
            if self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(self._deliver, job, outcome)

    def _answer(self, job: _Job) -> Prediction | SpecialistError:
        """Whatever goes wrong is the outcome of this job, never the end of the thread."""
        try:
            found = job.predictor.predict([job.text])
            return Prediction(
                answer=answers.render(job.shape, found.answers[0]),
                values=found.answers[0],
                certainty=float(found.certainty[0]),
                scope=float(found.scope[0]),
                local_s=time.perf_counter() - job.started_s,
            )
        except Exception as error:  # noqa: BLE001 - the boundary of a background job
            name = job.predictor.sha256[:16]
            if name not in self._reported:
                self._reported.add(name)
                _log.error("The specialist %s failed; its requests are deferred.", name, exc_info=error)
            return SpecialistError(f"The specialist {name} failed: {error}")

    def _deliver(self, job: _Job, outcome: Prediction | SpecialistError | None) -> None:
        self._n_waiting -= 1
        _resolve(job.future, outcome)


def _resolve(future: asyncio.Future[Prediction | None], outcome: Prediction | SpecialistError | None) -> None:
    if future.done():
        return
    if isinstance(outcome, SpecialistError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
