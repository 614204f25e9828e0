"""Every model behaves alike: the HTTP endpoint, the recording and the double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from pilotfish.core.errors import ModelError
from pilotfish.core.messages import ChatRequest, Message, Usage
from pilotfish.models.base import Model
from pilotfish.models.http import HttpModel
from pilotfish.models.recording import RecordedModel
from pilotfish.models.scripted import ScriptedModel, Step
from pilotfish.models.wire.chat import CHAT, DONE
from pilotfish.store.traffic_formats import Exchange
from tools.upstream import Reply, upstream

Opened = Callable[[], AbstractAsyncContextManager[Model]]
USAGE = Usage(prompt=11, completion=3)


def request(text: str = "hi", **fields: object) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content=text)], **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def http() -> AsyncIterator[Model]:
    with upstream(lambda asked: Reply(status=500) if b"fail" in asked.body else Reply()) as server:
        model = HttpModel(url=server.url, name="big", timeout_s=20.0)
        yield model
        await model.aclose()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def recording() -> AsyncIterator[Model]:
    yield RecordedModel([Exchange(request=request(), answer="hello", usage=USAGE)], name="big")


@asynccontextmanager
async def scripted() -> AsyncIterator[Model]:
    yield double()


def double() -> ScriptedModel:
    failing = Step(error=ModelError("down", model="big"))
    return ScriptedModel(lambda asked: failing if asked.messages[0].text == "fail" else Step("hello", usage=USAGE))


models = pytest.mark.parametrize("opened", [http, recording, scripted])


def with_model(opened: Opened, work: Callable[[Model], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened() as model:
            await work(model)

    asyncio.run(run())


@models
def test_an_answer_carries_its_text_and_a_chat_completion(opened: Opened) -> None:
    async def work(model: Model) -> None:
        answer = await model.answer(request())
        assert answer.text == "hello"
        assert CHAT.decode_answer(answer.body, model="x").text == "hello"
        assert answer.finish_reason == "stop"

    with_model(opened, work)


@models
def test_a_stream_says_the_same(opened: Opened) -> None:
    async def work(model: Model) -> None:
        data = b"".join([piece async for piece in model.stream(request(stream=True))])
        assert CHAT.decode_stream(data).text == "hello"
        assert data.endswith(DONE)

    with_model(opened, work)


@models
def test_usage_ends_a_stream_only_where_asked_for(opened: Opened) -> None:
    async def work(model: Model) -> None:
        asked = request(stream=True, stream_options={"include_usage": True})
        with_usage = CHAT.decode_stream(b"".join([piece async for piece in model.stream(asked)]))
        assert with_usage.usage is not None
        without = CHAT.decode_stream(b"".join([piece async for piece in model.stream(request(stream=True))]))
        assert without.usage is None

    with_model(opened, work)


@models
def test_failure_is_a_model_error_before_the_first_piece(opened: Opened) -> None:
    async def work(model: Model) -> None:
        with pytest.raises(ModelError):
            await model.answer(request("fail"))
        pieces = model.stream(request("fail", stream=True))
        with pytest.raises(ModelError):
            await anext(pieces)

    with_model(opened, work)


@models
def test_a_stream_can_be_left_early(opened: Opened) -> None:
    async def work(model: Model) -> None:
        pieces = model.stream(request(stream=True))
        assert (await anext(pieces)).startswith(b"data: ")
        await pieces.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)

    with_model(opened, work)


@models
def test_a_card_names_the_model(opened: Opened) -> None:
    async def work(model: Model) -> None:
        assert model.card.name

    with_model(opened, work)
