"""Who answers while the large model is down, and who never does: only whom the user allowed, never mid-conversation."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from pilotfish.config.settings import ModelSettings
from pilotfish.core.example import UNBIASED
from pilotfish.models.breaker import N_FAILURES
from pilotfish.models.wire.chat import CHAT
from pilotfish.store.build import open_registry
from pilotfish.tasks.fingerprint import instructions_id
from tools.gateway import Place, gateway
from tools.served_home import TASK_ID, Learnt, adopt, messages
from tools.upstream import Reply, Upstream, upstream

DOWN = Reply(status=500, body=b'{"error":{"message":"down"}}')
HI = [{"role": "user", "content": "hi"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
Rows = list[dict[str, object]]


@contextlib.contextmanager
def standing_in(
    home: Path, reply: Reply, degraded: str = "small", **settings: object
) -> Iterator[tuple[Place, Upstream]]:
    with upstream([Reply(text="from small")]) as server:
        models = {"small": ModelSettings(url=server.url, input_usd_per_mtok=1, output_usd_per_mtok=2)}
        large = {"degraded": degraded, "retry_wait_s": 0.0, "timeout_s": 0.4}
        with gateway(home, [reply], large=large, models=models, **settings) as place:  # type: ignore[arg-type]
            yield place, server


Got = tuple[int, dict[str, str], bytes]


def ask(place: Place, rows: object = HI, *, stream: bool = False, **fields: object) -> Got:
    connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
    data = json.dumps({"model": "auto", "messages": rows, "stream": stream, **fields})
    connection.request("POST", "/v1/chat/completions", data, {"content-type": "application/json"})
    response = connection.getresponse()
    reply = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return reply


@pytest.mark.parametrize("reply", [DOWN, Reply(closes=True), Reply(hangs=True)], ids=["500", "closed", "hang"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_configured_model_answers_and_everything_says_so(home: Path, reply: Reply, stream: bool) -> None:
    with standing_in(home, reply) as (place, server):
        status, headers, data = ask(place, stream=stream)
        assert status == 200
        assert (b"from small" in data) is not stream
        assert (headers["x-pilotfish-reason"], headers["x-pilotfish-model"]) == ("degraded", "small")
        assert "x-pilotfish-certificate" not in headers
        assert (len(place.server.asked), server.asked[0].json["model"]) == (1, "small")
        row = place.rows(1)[0]
        assert (row.reason, row.model, row.status, row.sampling) == ("degraded", "small", 200, "none")
        assert row.sampling not in UNBIASED
        assert (row.answer, row.reference_answer, row.certificate_id) == ("from small", None, "")
        assert row.error.startswith("model_")
        if not stream:
            assert row.cost_usd == pytest.approx((11 * 1 + 3 * 2) / 1e6)


def test_it_answers_at_once_while_the_large_model_is_left_alone(home: Path) -> None:
    with standing_in(home, DOWN) as (place, server):
        for _ in range(N_FAILURES):
            ask(place)
        assert ask(place)[1]["x-pilotfish-reason"] == "degraded"
        assert (len(place.server.asked), len(server.asked)) == (N_FAILURES, N_FAILURES + 1)


def test_a_model_that_is_left_alone_and_has_no_stand_in_is_a_503_with_a_time(home: Path) -> None:
    with standing_in(home, DOWN, degraded="") as (place, server):
        assert [ask(place)[0] for _ in range(N_FAILURES)] == [500] * N_FAILURES
        status, headers, data = ask(place)
        assert (status, headers["retry-after"], json.loads(data)["error"]["code"]) == (503, "1", "model_down")
        assert (len(place.server.asked), server.asked) == (N_FAILURES, [])
        assert place.rows(N_FAILURES + 1)[-1].status == 503


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=429, body=b"{}"),
        Reply(status=400, body=b"{}"),
        Reply(body=b"<html>"),
        Reply(text="abcdef", cut_after=3),
    ],
    ids=["rate limit", "client's mistake", "bad answer", "cut after the first byte"],
)
def test_it_does_not_answer_where_the_large_model_is_not_down(home: Path, reply: Reply) -> None:
    with standing_in(home, reply) as (place, server):
        ask(place, stream=reply.cut_after is not None)
        assert server.asked == []
        assert place.rows(1)[0].reason == "observing"


@pytest.mark.parametrize(
    "rows",
    [
        [*HI, {"role": "assistant", "content": "hello"}, *HI],
        [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "42"}],
        [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}, *HI],
    ],
    ids=["conversation", "tool result", "tool call"],
)
def test_a_conversation_stays_with_the_model_that_began_it(home: Path, rows: Rows) -> None:
    with standing_in(home, DOWN) as (place, server):
        status, headers, _ = ask(place, rows)
        assert status == 500
        assert headers["x-pilotfish-reason"] in ("observing", "tool-loop")
        assert server.asked == []


def test_a_model_that_was_named_has_no_stand_in(home: Path) -> None:
    with upstream([DOWN]) as server:
        models = {"small": ModelSettings(url=server.url), "other": ModelSettings(url=server.url)}
        with gateway(home, large={"degraded": "small"}, models=models) as place:
            assert ask(place, model="other")[0] == 500
            assert len(server.asked) == 1


def test_where_both_are_down_the_client_hears_of_the_one_it_was_given(home: Path) -> None:
    with upstream([Reply(status=503, body=b'{"error":{"code":"both"}}')]) as server:
        models = {"small": ModelSettings(url=server.url, retry_wait_s=0.0)}
        with gateway(home, [DOWN], large={"degraded": "small"}, models=models) as place:
            status, headers, data = ask(place)
            assert (status, headers["x-pilotfish-model"], json.loads(data)["error"]["code"]) == (503, "small", "both")
            assert place.rows(1)[0].status == 503


@pytest.mark.parametrize("stream", [False, True])
def test_a_certified_specialist_may_answer_what_it_was_unsure_of(
    served_home: Path, learnt: Learnt, stream: bool
) -> None:
    adopt(learnt, served_home, min_certainty=1.1)
    settings = {"quality": {"max_risk": 0.05, "audit_rate": 1.0}, "learning": {"encoder": learnt.encoder}}
    with standing_in(served_home, DOWN, "specialist", **settings) as (place, server):
        status, headers, data = ask(place, messages("my car 1 is red"), stream=stream)
        assert (status, server.asked) == (200, [])
        assert b'"red"' in data
        assert (headers["x-pilotfish-reason"], headers["x-pilotfish-model"]) == ("degraded", "pilotfish/colours")
        assert "x-pilotfish-certificate" not in headers
        row = place.rows(1)[0]
        assert (row.reason, row.sampling, row.answer, row.reference_answer) == ("degraded", "none", "red", None)
        assert (row.certificate_id, row.cost_usd) == ("", 0.0)
        registry = open_registry(served_home)
        record = registry.task(TASK_ID)
        registry.close()
        assert record is not None
        assert record.audit_state is None


@pytest.mark.parametrize(
    ("changes", "quality"),
    [({"min_scope": 1.1}, {"max_risk": 0.05}), ({"min_certainty": 1.1}, {})],
    ids=["out of scope", "nothing promised"],
)
def test_no_other_specialist_may(
    served_home: Path, learnt: Learnt, changes: dict[str, float], quality: dict[str, object]
) -> None:
    adopt(learnt, served_home, **changes)
    settings = {"quality": {"audit_rate": 0.0, **quality}, "learning": {"encoder": learnt.encoder}}
    with standing_in(served_home, DOWN, "specialist", **settings) as (place, _):
        assert ask(place, messages("my car 1 is red"))[0] == 500


QUESTION = messages("my car 1 is red")
TOOL_LOOP: Rows = [
    *QUESTION,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "42"},
]
EXAMPLES: Rows = [*messages("my cup is green"), {"role": "assistant", "content": "green"}, QUESTION[1]]


@pytest.mark.parametrize(
    ("rows", "reason"), [(TOOL_LOOP, "tool-loop"), (EXAMPLES, "certified")], ids=["tool loop", "examples"]
)
def test_a_specialist_takes_over_only_what_was_learnt_with_a_models_turns_and_no_tool_loop(
    served_home: Path, learnt: Learnt, rows: Rows, reason: str
) -> None:
    """The task has exactly these instructions, a model's turns included."""
    request = CHAT.decode_request(json.dumps({"messages": rows}).encode())
    task_id = instructions_id(request)
    registry = open_registry(served_home)
    registry.put_task(dataclasses.replace(learnt.record, task_id=task_id, mode="observe", certificate_id=""))
    assert registry.adopt(dataclasses.replace(learnt.certificate, task_id=task_id))
    registry.close()
    settings = {"quality": {"max_risk": 0.05, "audit_rate": 0.0}, "learning": {"encoder": learnt.encoder}}
    with gateway(served_home, **settings) as place:  # type: ignore[arg-type]
        _, headers, _ = ask(place, rows)
        assert (headers["x-pilotfish-reason"], headers["x-pilotfish-task"]) == (reason, "colours")
        is_loop = reason == "tool-loop"
        assert len(place.server.asked) == is_loop
        row = place.rows(1)[0]
        assert (row.sampling, row.local_answer) == (("none", None) if is_loop else ("local", "red"))


def test_a_conversation_that_goes_on_after_a_local_answer_is_not_answered_locally(
    served_home: Path, learnt: Learnt
) -> None:
    adopt(learnt, served_home)
    settings = {"quality": {"max_risk": 0.05, "audit_rate": 0.0}, "learning": {"encoder": learnt.encoder}}
    with gateway(served_home, **settings) as place:  # type: ignore[arg-type]
        assert ask(place, QUESTION)[1]["x-pilotfish-reason"] == "certified"
        rows = [*QUESTION, {"role": "assistant", "content": "red"}, {"role": "user", "content": "my cup 2 is blue"}]
        _, headers, _ = ask(place, rows)
        assert (headers["x-pilotfish-reason"], headers["x-pilotfish-model"]) == ("observing", "big")
