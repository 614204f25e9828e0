from __future__ import annotations

import asyncio
import json
import time

import pytest

from pilotfish.core.errors import NotRecordedError
from pilotfish.core.messages import ChatRequest, Message, Usage
from pilotfish.models.recording import RecordedModel
from pilotfish.store.traffic_formats import Exchange


def exchange(text: str, answer: str, usage: Usage | None = None) -> Exchange:
    return Exchange(request=ask(text), answer=answer, usage=usage)


def ask(text: str, **fields: object) -> ChatRequest:
    messages = [Message(role="system", content="Label."), Message(role="user", content=text)]
    return ChatRequest(messages=messages, **fields)  # type: ignore[arg-type]


def test_sampling_options_do_not_matter_and_messages_do() -> None:
    model = RecordedModel([exchange("a", "A"), exchange("b", "B")], name="gpt")
    assert asyncio.run(model.answer(ask("b", model="other", n=1))).text == "B"
    with pytest.raises(NotRecordedError) as caught:
        asyncio.run(model.answer(ask("c")))
    assert caught.value.status == 404


def test_a_repeated_request_gets_its_answers_in_turn_and_then_the_last() -> None:
    model = RecordedModel([exchange("a", "1"), exchange("a", "2")])
    assert [asyncio.run(model.answer(ask("a"))).text for _ in range(3)] == ["1", "2", "2"]


def test_usage_is_told_only_where_it_was_recorded() -> None:
    model = RecordedModel([exchange("a", "A", Usage(prompt=5, completion=1)), exchange("b", "B")])
    assert asyncio.run(model.answer(ask("a"))).usage == Usage(prompt=5, completion=1)
    unknown = asyncio.run(model.answer(ask("b")))
    assert unknown.usage is None
    assert "usage" not in json.loads(unknown.body)


def test_the_delay_is_kept() -> None:
    model = RecordedModel([exchange("a", "A")], delay_s=0.05)
    started_s = time.perf_counter()
    answer = asyncio.run(model.answer(ask("a")))
    assert time.perf_counter() - started_s >= 0.05
    assert answer.latency_s >= 0.05
