from __future__ import annotations

import asyncio

import pytest

from pilotfish.core.errors import ModelConnectionError, ModelTimeoutError
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.models.scripted import ScriptedModel, Step


def ask(text: str = "hi") -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content=text)])


def test_steps_are_taken_in_order_and_the_last_for_ever() -> None:
    model = ScriptedModel(["one", Step(error=ModelTimeoutError("slow")), Step("two")])
    assert asyncio.run(model.answer(ask())).text == "one"
    with pytest.raises(ModelTimeoutError):
        asyncio.run(model.answer(ask()))
    assert [asyncio.run(model.answer(ask())).text for _ in range(2)] == ["two", "two"]
    assert len(model.requests) == 4


def test_a_function_answers_the_request() -> None:
    model = ScriptedModel(lambda request: (request.messages[-1].text or "").upper())
    assert asyncio.run(model.answer(ask("abc"))).text == "ABC"


def test_a_hanging_step_can_only_be_cancelled() -> None:
    async def run() -> None:
        model = ScriptedModel([Step(hangs=True)])
        task = asyncio.ensure_future(model.answer(ask()))
        await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert model.n_cancelled == 1

    asyncio.run(run())


def test_a_cut_stream_gives_its_first_events() -> None:
    async def run() -> None:
        pieces = ScriptedModel([Step("hello", cut_after=2)]).stream(ask())
        assert b"hello" in await anext(pieces) + await anext(pieces)
        with pytest.raises(ModelConnectionError):
            await anext(pieces)

    asyncio.run(run())


def test_leaving_a_stream_counts_as_cancelled() -> None:
    async def run() -> None:
        model = ScriptedModel(["hello"])
        pieces = model.stream(ask())
        await anext(pieces)
        await pieces.aclose()
        assert model.n_cancelled == 1

    asyncio.run(run())


def test_an_empty_script_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        ScriptedModel([])
