"""Local inference: one thread, one text at a time, a bounded queue.

One thread, because the runtime releases the interpreter lock and more threads gave no more throughput. No
batches, because an int8 encoder scores a text differently beside others (`specialists/encoder.py`): a batch
would only make its first text wait for its last. What would have to wait too long is not answered here at all.
A short text's first tier costs little more than waking the thread, and runs at once, whatever is queued.
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
from pilotfish.gateway.background import boundary
from pilotfish.routing.cascade import Prediction
from pilotfish.scoring import answers

MAX_WAITING = 64
DEADLINE_S = 0.25
"""A full queue of short texts takes 0.15 to 0.2 s on one shared core, and beyond that the reference is soon the quicker
answer. With 0.1 s and 64 clients who ask without a pause, those sent on came back at once and kept the thread from its
work: 50 local answers a second instead of 430 (`benchmarks/gateway/local.py`)."""

NEWEST = 0.1
"""How much the newest answer counts in what one is expected to take."""

INLINE_CHARACTERS = 500
"""Of a text whose first tier runs on the event loop. Waking the thread and being woken by it took 0.01 to 0.15 ms, the
first tier itself 0.3 ms at 60 to 250 characters, 0.6 at 500 and 1 to 1.7 at 2,000, on a busy machine
(`benchmarks/tiers.py`); longer texts would hold up other requests."""

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

    def predict_first(self, texts: Sequence[str]) -> Predictions:
        """Those of its first tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    predictor: Predictor
    shape: AnswerShape
    text: str
    tier: int
    started_s: float


@dataclass(slots=True)
class _Job:
    question: _Question
    future: asyncio.Future[Prediction | None]


class Inference:
    """The inference thread of one gateway. It starts with the first text."""

    def __init__(
        self,
        *,
        max_waiting: int = MAX_WAITING,
        deadline_s: float | None = None,
        inline_characters: int = INLINE_CHARACTERS,
    ) -> None:
        self._max_waiting = max_waiting
        self._deadline_s = DEADLINE_S if deadline_s is None else deadline_s
        self._inline_characters = inline_characters
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._n_waiting = 0
        self._expected_s = 0.0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reported: set[str] = set()

    @property
    def n_waiting(self) -> int:
        """Texts that wait for the thread, or that it is at."""
        return self._n_waiting

    async def predict(self, predictor: Predictor, shape: AnswerShape, text: str) -> Prediction | None:
        """What `predictor` says, None where it cannot say so within the deadline. Raises `SpecialistError`."""
        started_s = time.perf_counter()
        return await self._queued(_Question(predictor=predictor, shape=shape, text=text, tier=2, started_s=started_s))

    async def predict_first(self, predictor: Predictor, shape: AnswerShape, text: str) -> Prediction | None:
        """What its first tier says: a short text never waits, and so is answered while the queue is full.

        None where a longer one would have to wait too long. Raises `SpecialistError`.
        """
        started_s = time.perf_counter()
        question = _Question(predictor=predictor, shape=shape, text=text, tier=1, started_s=started_s)
        if len(text) > self._inline_characters:
            return await self._queued(question)
        outcome = self._answer(question)
        if isinstance(outcome, SpecialistError):
            raise outcome
        return outcome

    async def _queued(self, question: _Question) -> Prediction | None:
        # What would come too late is not begun: the thread would only be kept from what can still be in time.
        if self._n_waiting >= self._max_waiting or self._n_waiting * self._expected_s > self._deadline_s:
            return None
        loop = self._start()
        job = _Job(question, loop.create_future())
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
            outcome = None
            if not job.future.done():
                begun_s = time.perf_counter()
                outcome = self._answer(job.question)
                self._expected_s += NEWEST * (time.perf_counter() - begun_s - self._expected_s)
            # After the loop has closed nobody waits for an outcome.
            if self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(self._deliver, job, outcome)

    def _answer(self, question: _Question) -> Prediction | SpecialistError:
        """Whatever goes wrong is the outcome of this question, never the end of the thread or of the loop."""
        wrong: list[Exception] = []
        with boundary(wrong.append):
            said = _predicted(question)
        if not wrong:
            return said
        name = question.predictor.sha256[:16]
        if name not in self._reported:
            self._reported.add(name)
            _log.error("The specialist %s failed; its requests are deferred.", name, exc_info=wrong[0])
        return SpecialistError(f"The specialist {name} failed: {wrong[0]}")

    def _deliver(self, job: _Job, outcome: Prediction | SpecialistError | None) -> None:
        self._n_waiting -= 1
        _resolve(job.future, outcome)


def _predicted(question: _Question) -> Prediction:
    predictor = question.predictor
    predict = predictor.predict_first if question.tier == 1 else predictor.predict
    found = predict([question.text])
    return Prediction(
        answer=answers.render(question.shape, found.answers[0], question.text),
        values=found.answers[0],
        certainty=float(found.certainty[0]),
        scope=float(found.scope[0]),
        local_s=time.perf_counter() - question.started_s,
        tier=question.tier,
    )


def _resolve(future: asyncio.Future[Prediction | None], outcome: Prediction | SpecialistError | None) -> None:
    if future.done():
        return
    if isinstance(outcome, SpecialistError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
