"""A route that decides on the first tokens: a stream begins early or never, and is one model's from its first byte."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from pilotfish.store.build import open_log
from tools.command_line import CommandLine
from tools.gateway import Place
from tools.keyed import make_key
from tools.routed import BIG, HI, SMALL_USD, SURE, ask, content, routed
from tools.routes import adopt, route
from tools.upstream import Asked, Reply

PREFIX = 4
JUDGED: dict[str, object] = {"audit_rate": 1.0, "judge": "judge"}


@contextlib.contextmanager
def begun(place: Place, **fields: object) -> Iterator[HTTPResponse]:
    """A streamed reply of which nothing was read yet; the client leaves at the end of the block."""
    connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
    body = json.dumps({"model": "auto", "messages": HI, "stream": True, **fields})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    with contextlib.closing(connection):
        yield connection.getresponse()


def test_the_first_tokens_release_the_stream_before_it_has_ended(home: Path, capsys: Any) -> None:
    certificate = adopt(home, route(prefix=PREFIX))
    # The server falls silent after its first event and five tokens: whoever waited for the end would wait for ever.
    with routed(home, [Reply(text="from small", logprob=-0.1, hangs_after=6)]) as (place, server):
        with begun(place) as response:
            assert response.headers["x-pilotfish-certificate"] == certificate.id
            assert f"decided on the first {PREFIX} tokens" in response.headers["x-pilotfish-route"]
            read = b""
            while content(read[: read.rfind(b"\n\n") + 1] or b"data:") != "from ":
                read += response.read1(4096)
            assert b"logprob" not in read
        server.wait_for_hang_up()
        row = place.rows(1)[0]
        assert (row.status, row.answer, place.server.asked) == (499, "from ", [])
    out = CommandLine(capsys)("explain", row.request_id, "--home", home).out
    assert f"decided on the first {PREFIX} tokens" in out
    assert "ended before its answer was whole" in out


def test_a_kept_stream_is_whole_and_its_cost_is_known(home: Path) -> None:
    adopt(home, route(prefix=PREFIX))
    with routed(home, [SURE]) as (place, _):
        _, headers, data = ask(place, stream=True)
        assert (headers["x-pilotfish-model"], content(data), data.count(b"[DONE]")) == ("small", "from small", 1)
        assert b"logprob" not in data.replace(b"x-pilotfish", b"")
        assert b"usage" not in data
        row = place.rows(1)[0]
        assert (row.reason, row.answer, row.reference_answer) == ("kept", "from small", None)
        assert (row.cost_usd, row.tried_usd) == (pytest.approx(SMALL_USD), 0.0)
        connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
        connection.request("GET", f"/requests/{row.request_id}")
        assert f"decided on the first {PREFIX} tokens" in connection.getresponse().read().decode()
        connection.close()
        asked = json.loads(row.route)["asked"][0]
        assert (asked["is_whole"], asked["cost_usd"]) == (True, pytest.approx(SMALL_USD))


def test_what_was_masked_is_put_back_into_a_stream_that_was_begun(home: Path) -> None:
    adopt(home, route(prefix=PREFIX))
    rows = [{"role": "user", "content": "Write to jane@example.com"}]

    def echo(asked: Asked) -> Reply:
        return Reply(text=asked.json["messages"][0]["content"], logprob=-0.1)

    with routed(home, echo, privacy={"mode": "mask"}) as (place, server):
        _, headers, data = ask(place, rows, stream=True)
        assert (headers["x-pilotfish-reason"], content(data)) == ("kept", "Write to jane@example.com")
        assert b"jane" not in server.asked[0].body


def test_doubtful_first_tokens_cancel_the_small_model_and_the_reference_answers_alone(home: Path) -> None:
    adopt(home, route(prefix=PREFIX))
    key = make_key(home, "paid", tokens_per_day=10_000)
    with routed(home, [Reply(text="from small", logprob=-2.0, hangs_after=6)]) as (place, server):
        _, headers, data = ask(place, key=key, stream=True)
        assert (headers["x-pilotfish-reason"], content(data)) == ("asked-further", "from big")
        server.wait_for_hang_up()
        row = place.rows(1)[0]
        # What a call costs that nobody let end is not known.
        assert (row.reference_answer, row.tried_usd) == ("from big", None)


def test_a_whole_reply_is_decided_by_the_same_tokens(home: Path) -> None:
    adopt(home, route(prefix=PREFIX))

    def script(asked: Asked) -> Reply:
        body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "from small"}}]}
        tokens = [{"token": one, "logprob": -0.1 if i < PREFIX else -9.0} for i, one in enumerate("from small")]
        body["choices"][0]["logprobs"] = {"content": tokens}
        return Reply(body=json.dumps(body).encode())

    with routed(home, script) as (place, _):
        _, headers, data = ask(place)
        assert (headers["x-pilotfish-reason"], content(data)) == ("kept", "from small")
        assert "least logprob=0.1" in headers["x-pilotfish-route"]


def test_an_answer_shorter_than_the_prefix_is_decided_at_its_end(home: Path) -> None:
    adopt(home, route(prefix=400))
    with routed(home, [SURE]) as (place, _):
        assert content(ask(place, stream=True)[2]) == "from small"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(text="from small"), "asked-further"),
        (Reply(text="from small", logprob=-0.1, cut_after=3), "smaller-failed"),
        (Reply(text="from small", logprob=-0.1, hangs_after=3), "smaller-failed"),
        (Reply(status=500, body=b"{}"), "smaller-failed"),
    ],
    ids=["no logprobs", "cut", "hangs", "500"],
)
def test_a_beginning_that_tells_nothing_is_the_references(home: Path, reply: Reply, reason: str) -> None:
    adopt(home, route(prefix=PREFIX, further_s=0.2))
    with routed(home, [reply], routing={"deadline_s": 1.2}) as (place, _):
        _, headers, data = ask(place, stream=True)
        assert (headers["x-pilotfish-reason"], content(data)) == (reason, "from big")
        assert data.count(b"[DONE]") == 1


def test_a_stream_that_breaks_after_its_first_byte_stays_the_small_models(home: Path) -> None:
    adopt(home, route(prefix=PREFIX))
    with routed(home, [Reply(text="from small", logprob=-0.1, cut_after=8)]) as (place, _):
        _, headers, data = ask(place, stream=True)
        said, error, _ = data.partition(b'data: {"error"')
        assert (headers["x-pilotfish-model"], content(said), bool(error)) == ("small", "from sm", True)
        assert place.server.asked == []


def test_audits_of_both_decisions_leave_whole_answers_to_learn_from(home: Path) -> None:
    adopt(home, route(prefix=PREFIX))

    def script(asked: Asked) -> Reply:
        if asked.json["model"] == "judge":
            return Reply(text="Verdict: tie")
        return Reply(text="from small", logprob=-0.1 if len(asked.json["messages"][0]["content"]) > 2 else -2.0)

    with routed(home, script, [BIG], routing=JUDGED) as (place, _):
        kept = ask(place, [{"role": "user", "content": "hello"}], stream=True)[1]
        further = ask(place, stream=True)[1]
        assert (kept["x-pilotfish-reason"], further["x-pilotfish-reason"]) == ("kept", "asked-further")
        deadline = time.monotonic() + 120
        while len(rows := [row for row in open_log(place.home).tried() if row.status == 200]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    for row in rows:
        said = json.loads(row.tried or "")
        assert (said["text"], len(said["logprobs"])) == ("from small", len("from small"))
