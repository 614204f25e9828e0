from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from pilotfish.core.errors import SpecialistError
from pilotfish.core.task import AnswerShape, Field
from pilotfish.gateway.local import INLINE_CHARACTERS, Inference

SHAPE = AnswerShape(kind="label", fields=(Field(name="", values=("refund",)),), style=(("refund", "Refund"),))


@dataclass
class Said:
    answers: list[tuple[str, ...]]
    certainty: list[float]
    scope: list[float]


class Slow:
    """A specialist that takes `delay_s` a text."""

    sha256 = "a" * 64

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.texts: list[str] = []
        self.threads: set[str] = set()

    def predict(self, texts: Sequence[str]) -> Said:
        time.sleep(self.delay_s)
        self.texts += texts
        self.threads.add(threading.current_thread().name)
        if texts[0] == "broken":
            raise ValueError("broken")
        return Said([("refund",)] * len(texts), [0.75] * len(texts), [0.5] * len(texts))

    def predict_first(self, texts: Sequence[str]) -> Said:
        self.threads.add(threading.current_thread().name)
        if texts[0] == "broken":
            raise ValueError("broken")
        return Said([("refund",)], [0.9], [0.8])


def test_a_prediction_is_written_as_the_reference_writes_it() -> None:
    async def run() -> None:
        inference, specialist = Inference(), Slow()
        said = await inference.predict(specialist, SHAPE, "hi")
        inference.close()
        assert said is not None
        assert (said.answer, said.values, said.certainty, said.scope) == ("Refund", ("refund",), 0.75, 0.5)
        assert specialist.threads == {"pilotfish-inference"}

    asyncio.run(run())


def test_many_at_once_are_answered_in_order_by_one_thread() -> None:
    async def run() -> None:
        inference, specialist = Inference(), Slow()
        said = await asyncio.gather(*(inference.predict(specialist, SHAPE, str(number)) for number in range(50)))
        inference.close()
        assert None not in said
        assert specialist.texts == [str(number) for number in range(50)]

    asyncio.run(run())


def test_what_does_not_fit_the_queue_is_not_waited_for() -> None:
    async def run() -> None:
        inference = Inference(max_waiting=3, deadline_s=5)
        said = await asyncio.gather(*(inference.predict(Slow(0.01), SHAPE, "x") for _ in range(5)))
        assert [one is None for one in said] == [False, False, False, True, True]
        assert await inference.predict(Slow(), SHAPE, "x") is not None
        inference.close()

    asyncio.run(run())


def test_what_would_be_late_is_not_begun() -> None:
    async def run() -> None:
        inference, specialist = Inference(deadline_s=0.2), Slow(0.04)
        for _ in range(15):
            assert await inference.predict(specialist, SHAPE, "x") is not None
        waiting = [asyncio.ensure_future(inference.predict(specialist, SHAPE, "x")) for _ in range(30)]
        done, rest = await asyncio.wait(waiting, timeout=0.02)
        assert len(done) >= 20, "these were not kept waiting"
        assert {task.result() for task in done} == {None}
        assert any([await task for task in rest])
        inference.close()

    asyncio.run(run())


def test_what_is_late_is_given_up_and_never_computed() -> None:
    async def run() -> None:
        inference, specialist = Inference(deadline_s=0.05), Slow(0.1)
        said = await asyncio.gather(*(inference.predict(specialist, SHAPE, str(number)) for number in range(5)))
        assert said == [None] * 5
        inference.close()
        assert specialist.texts == ["0"]

    asyncio.run(run())


def test_a_failure_is_that_texts_alone() -> None:
    async def run() -> None:
        inference, specialist = Inference(), Slow()
        with pytest.raises(SpecialistError, match="broken"):
            await inference.predict(specialist, SHAPE, "broken")
        assert await inference.predict(specialist, SHAPE, "fine") is not None
        inference.close()

    asyncio.run(run())


def test_a_short_texts_first_tier_runs_at_once_while_the_queue_is_full() -> None:
    async def run() -> None:
        inference, specialist = Inference(max_waiting=1, deadline_s=5), Slow()
        waiting = asyncio.ensure_future(inference.predict(Slow(0.1), SHAPE, "slow"))
        await asyncio.sleep(0.01)
        assert await inference.predict(specialist, SHAPE, "x") is None
        said = await inference.predict_first(specialist, SHAPE, "x" * INLINE_CHARACTERS)
        assert said is not None
        assert (said.answer, said.certainty, said.scope, said.tier) == ("Refund", 0.9, 0.8, 1)
        assert specialist.threads == {threading.main_thread().name}
        assert not waiting.done()
        assert await inference.predict_first(specialist, SHAPE, "x" * (INLINE_CHARACTERS + 1)) is None
        full = await waiting
        assert full is not None
        assert full.tier == 2
        inference.close()

    asyncio.run(run())


def test_a_long_texts_first_tier_leaves_the_loop_alone() -> None:
    async def run() -> None:
        inference, specialist = Inference(), Slow()
        assert await inference.predict_first(specialist, SHAPE, "x" * (INLINE_CHARACTERS + 1)) is not None
        inference.close()
        assert specialist.threads == {"pilotfish-inference"}

    asyncio.run(run())


def test_a_failing_first_tier_is_that_texts_alone() -> None:
    async def run() -> None:
        inference = Inference()
        with pytest.raises(SpecialistError, match="broken"):
            await inference.predict_first(Slow(), SHAPE, "broken")
        assert await inference.predict_first(Slow(), SHAPE, "fine") is not None

    asyncio.run(run())
