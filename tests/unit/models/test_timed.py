from __future__ import annotations

import asyncio
import json
import math
import time

import pytest

from pilotfish.core.errors import ModelFormatError
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.models.http import HttpModel
from pilotfish.models.scripted import ScriptedModel, Step
from pilotfish.models.timed import TimedAnswer, timed_answer
from tools.upstream import Reply, upstream


def ask() -> ChatRequest:
    return ChatRequest(
        messages=[Message(role="user", content="hi")], stream=True, stream_options={"include_usage": True}
    )


def answered(reply: Reply, sent_ago_s: float = 0.0) -> TimedAnswer:
    async def run() -> TimedAnswer:
        model = HttpModel(url=server.url, name="m")
        found = await timed_answer(model, ask(), sent_s=time.perf_counter() - sent_ago_s)
        await model.aclose()
        return found

    with upstream([reply]) as server:
        return asyncio.run(run())


def test_the_first_token_is_the_first_chunk_with_content():
    found = answered(Reply(text="abc", delay_s=0.03, pace_s=0.02))
    assert found.text == "abc"
    assert found.usage.completion == 3
    # The role chunk comes a pace earlier and does not count.
    assert 0.05 <= found.ttft_s < found.latency_s
    assert len(found.gaps_s) == 2
    assert all(0.015 < gap < 0.08 for gap in found.gaps_s)


def test_time_counts_from_when_the_call_was_meant_to_be_sent():
    assert answered(Reply(text="a"), sent_ago_s=1.0).ttft_s > 1.0


def test_a_cut_stream_is_no_answer():
    with pytest.raises(ModelFormatError, match="gave no whole answer"):
        answered(Reply(text="abc", raw=b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\n"))


def test_certainty_is_the_geometric_mean_of_the_tokens():
    def event(content, *logprobs, reason=None):
        entries = {"content": [{"token": "t", "logprob": value} for value in logprobs]} if logprobs else None
        choice = {"index": 0, "delta": {"content": content}, "logprobs": entries, "finish_reason": reason}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    body = event("a", math.log(0.5)) + event("b", math.log(0.5), math.log(0.125)) + event("", reason="stop")
    raw = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body + b"data: [DONE]\n\n"
    )
    found = answered(Reply(raw=raw))
    assert found.text == "ab"
    assert found.certainty == pytest.approx((0.5 * 0.5 * 0.125) ** (1 / 3))
    assert asyncio.run(timed_answer(ScriptedModel(["x"]), ask())).certainty is None


def test_an_empty_answer_has_no_first_token():
    found = asyncio.run(timed_answer(ScriptedModel([Step("")]), ask()))
    assert (found.text, found.ttft_s, found.gaps_s) == ("", None, [])
