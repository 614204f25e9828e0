"""Without a stated risk the gateway only observes: everything is relayed as it is."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import openai
import pytest

from pilotfish.core.log_row import LogRow
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.format import IN_THREAD_BYTES
from pilotfish.store.build import open_log
from pilotfish.store.spool import Spool
from tools.gateway import body, gateway, post
from tools.keyed import ask
from tools.upstream import Reply

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]


def test_the_official_client_gets_the_references_answer_and_a_receipt(home: Path) -> None:
    with gateway(home, [Reply(headers=(("x-request-id", "up-1"),))]) as place:
        raw = place.client.chat.completions.with_raw_response.create(model="auto", messages=MESSAGES)
        completion = raw.parse()
        assert completion.choices[0].message.content == "hello"
        assert completion.model == "big"
        assert raw.headers["x-pilotfish-model"] == "big"
        assert raw.headers["x-pilotfish-reason"] == "observing"
        assert raw.headers["x-pilotfish-request-id"].startswith("pf-")
        assert raw.headers["x-request-id"] == "up-1"
        assert place.server.asked[0].headers["authorization"] == "Bearer client-key"
        assert place.server.asked[0].json["model"] == "big"
        row = place.rows(1)[0]
        assert row.request_id == raw.headers["x-pilotfish-request-id"]
        assert (row.input, row.answer, row.reference_answer) == ("hi", "hello", "hello")
        assert (row.sampling, row.probability, row.mode) == ("observe", 1.0, "observe")
        assert (row.prompt_tokens, row.completion_tokens, row.cost_usd) == (11, 3, None)
        assert row.task_id == raw.headers["x-pilotfish-task"]
        instructions = open_log(home).instructions(row.instructions_id)
        assert instructions is not None
        assert instructions.text == "Be kind."


def test_the_answer_is_the_vendors_own_bytes(home: Path) -> None:
    with gateway(home, [Reply(body=b'{"choices":[{"message":{"content":"x"}}],  "new": 1.10}')]) as place:
        assert post(place.port, body())[2] == b'{"choices":[{"message":{"content":"x"}}],  "new": 1.10}'


def test_a_stream_arrives_piece_by_piece_and_is_logged_whole(home: Path) -> None:
    gate = threading.Event()
    with gateway(home, [Reply(text="abcdefgh", gate=gate)]) as place:
        stream = place.client.chat.completions.create(
            model="big", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        text = ""
        for chunk in stream:
            gate.set()  # held back, nothing would come
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        assert text == "abcdefgh"
        assert stream.response.headers["x-pilotfish-reason"] == "observing"
        row = place.rows(1)[0]
        assert (row.answer, row.reference_answer, row.is_stream) == ("abcdefgh", "abcdefgh", True)
        assert (row.prompt_tokens, row.completion_tokens) == (11, 3)


def test_a_long_stream_holds_nobody_up_while_it_is_read_for_the_log(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"data: {}\n\n" * (IN_THREAD_BYTES // 10 + 1)
    is_reading, others_are_served = threading.Event(), threading.Event()
    decode = type(CHAT).decode_stream

    def slow(self: object, stream: bytes) -> object:
        is_reading.set()
        assert others_are_served.wait(120)
        return decode(CHAT, stream)

    monkeypatch.setattr(type(CHAT), "decode_stream", slow)
    with gateway(home, [Reply(body=data, content_type="text/event-stream")]) as place:
        connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
        connection.request("POST", "/v1/chat/completions", body(stream=True))
        response = connection.getresponse()
        assert response.read(len(data)) == data
        assert is_reading.wait(120)
        assert ask(place.port, path="/healthz").status == 200
        others_are_served.set()
        assert response.read() == b""
        connection.close()
        assert place.rows(1)[0].answer is None


@pytest.mark.parametrize("name", ["", "auto", "pilotfish", "big"])
def test_own_names_mean_the_reference(home: Path, name: str) -> None:
    with gateway(home) as place:
        post(place.port, body(model=name))
        assert place.server.asked[0].json["model"] == "big"


def test_another_model_is_passed_through_untouched_and_belongs_to_no_task(home: Path) -> None:
    with gateway(home) as place:
        data = body(model="gpt-other", vendor=1.5)
        _, headers, _ = post(place.port, data)
        assert place.server.asked[0].body == data
        assert (headers["x-pilotfish-reason"], headers["x-pilotfish-model"]) == ("other-model", "gpt-other")
        assert "x-pilotfish-task" not in headers
        row = place.rows(1)[0]
        assert (row.reason, row.sampling, row.task_id, row.model) == ("other-model", "none", "", "gpt-other")


def test_a_model_name_cannot_write_headers(home: Path) -> None:
    with gateway(home) as place:
        status, headers, _ = post(place.port, body(model="x\r\nx-evil: 1\u00e9"))
        assert status == 200
        assert headers["x-pilotfish-model"] == "x??x-evil: 1?"
        assert "x-evil" not in headers


def test_prices_become_costs(home: Path) -> None:
    with gateway(home, large={"input_usd_per_mtok": 2.0, "output_usd_per_mtok": 10.0}) as place:
        post(place.port, body())
        assert place.rows(1)[0].cost_usd == pytest.approx((11 * 2 + 3 * 10) / 1e6)


def test_the_reference_gets_its_own_key_where_one_is_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIG_KEY", "own")
    with gateway(home, large={"key_env": "BIG_KEY"}) as place:
        post(place.port, body(), authorization="Bearer client")
        assert place.server.asked[0].headers["authorization"] == "Bearer own"


@pytest.mark.parametrize("stream", [False, True])
def test_the_references_error_keeps_status_body_and_retry_after(home: Path, stream: bool) -> None:
    failing = Reply(
        status=429, body=b'{"error":{"message":"slow down","code":"rate"}}', headers=(("Retry-After", "7"),)
    )
    with gateway(home, [failing]) as place:
        status, headers, data = post(place.port, body(stream=stream))
        assert (status, headers["retry-after"]) == (429, "7")
        assert json.loads(data)["error"]["code"] == "rate"
        assert headers["x-pilotfish-model"] == "big"
        with pytest.raises(openai.RateLimitError):
            place.client.chat.completions.create(model="auto", messages=MESSAGES, stream=stream)
        row = place.rows(2)[0]
        assert (row.status, row.answer, row.reference_answer) == (429, None, None)
        assert row.error.startswith("model_status")
        assert len(place.server.asked) == 2


def test_an_html_error_keeps_its_status_in_openais_shape(home: Path) -> None:
    with gateway(home, [Reply(status=503, body=b"<html>", content_type="text/html")]) as place:
        status, headers, data = post(place.port, body())
        assert (status, headers["content-type"]) == (503, "application/json")
        assert json.loads(data)["error"]["code"] == "model_status"


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (Reply(closes=True), 502, "model_unreachable"),
        (Reply(hangs=True), 504, "model_timeout"),
        (Reply(body=b"<html>"), 502, "model_format"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_faults_of_the_reference_have_their_status(
    home: Path, reply: Reply, status: int, code: str, stream: bool
) -> None:
    with gateway(home, [reply], large={"timeout_s": 0.2}) as place:
        got, headers, data = post(place.port, body(stream=stream))
        assert got == status
        assert json.loads(data)["error"] == {
            "message": json.loads(data)["error"]["message"],
            "type": "upstream_error",
            "param": None,
            "code": code,
        }
        assert headers["x-pilotfish-reason"] == "observing"
        assert place.rows(1)[0].status == status
        assert len(place.server.asked) == 1


def test_an_unreachable_reference_is_a_502_without_its_address(home: Path) -> None:
    with gateway(home, large={"url": "http://127.0.0.1:9/v1"}) as place:
        status, _, data = post(place.port, body())
        assert status == 502
        assert b"127.0.0.1" not in data


def test_a_stream_cut_in_the_middle_ends_with_an_error_event(home: Path) -> None:
    with gateway(home, [Reply(text="abcdef", cut_after=3)]) as place:
        status, _, data = post(place.port, body(stream=True))
        assert status == 200
        assert data.count(b'"content": "') == 3
        assert json.loads(data.rstrip().splitlines()[-1][6:])["error"]["code"] == "model_unreachable"
        row = place.rows(1)[0]
        assert (row.answer, row.reference_answer) == ("ab", None)
        assert (row.status, row.error.split(":")[0]) == (502, "model_unreachable")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"messages":"x"}'])
def test_what_is_no_chat_request_is_a_400(home: Path, data: bytes) -> None:
    with gateway(home) as place:
        status, headers, reply = post(place.port, data)
        assert status == 400
        assert json.loads(reply)["error"]["type"] == "invalid_request_error"
        assert headers["x-pilotfish-request-id"].startswith("pf-")
        assert place.server.asked == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_a_413_that_names_it(home: Path, chunked: bool) -> None:
    with gateway(home, server={"max_body_mb": 1.0}) as place:
        data = body("x" * 50_000_000)
        request = urllib.request.Request(
            f"http://127.0.0.1:{place.port}/v1/chat/completions",
            iter([data[:1_500_000], data[1_500_000:]]) if chunked else data,
            {"content-type": "application/json"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=120)
        assert caught.value.code == 413
        assert "limit of 1 MB" in json.load(caught.value)["error"]["message"]
        assert place.server.asked == []
        assert post(place.port, body())[0] == 200


@pytest.mark.parametrize(
    ("reply", "stream"),
    [
        (Reply(hangs=True), False),
        (Reply(hangs=True), True),
        (Reply(text="a" * 200, pace_s=0.02), True),
    ],
)
def test_the_upstream_is_left_at_once_when_the_client_leaves(home: Path, reply: Reply, stream: bool) -> None:
    with gateway(home, [reply]) as place:
        data = body(stream=stream)
        with socket.create_connection(("127.0.0.1", place.port)) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(data)
            )
            client.sendall(data)
            place.server.wait_for_request()
            if not reply.hangs:
                assert client.recv(100)
        place.server.wait_for_hang_up()
        row = place.rows(1)[0]
        assert (row.status, row.error, row.reference_answer) == (499, "the client left", None)


def test_nothing_of_a_text_is_written_where_privacy_says_so(home: Path) -> None:
    with gateway(home, keep_text=False) as place:
        post(place.port, body("my secret"))
        row = place.rows(1)[0]
        assert (row.input, row.answer, row.reference_answer) == (None, None, None)
        assert row.prompt_tokens == 11
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"my secret" not in written
    assert b"hello" not in written


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_ends_only_once_its_row_is_written(home: Path, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    is_writing, may_write = threading.Event(), threading.Event()
    append = Spool.append

    def slow(self: Spool, row: LogRow) -> None:
        is_writing.set()
        may_write.wait(120)
        append(self, row)

    monkeypatch.setattr(Spool, "append", slow)
    with gateway(home) as place, ThreadPoolExecutor(1) as client:
        reply = client.submit(post, place.port, body(stream=stream))
        assert is_writing.wait(120)
        time.sleep(0.05)
        assert not reply.done()
        may_write.set()
        assert reply.result()[0] == 200


def test_a_reply_leaves_although_the_log_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with gateway(home) as place:
        monkeypatch.setattr("os.write", full)
        assert post(place.port, body())[0] == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/pilotfish/status") as response:
            assert json.load(response)["log_gaps"] == 2
        monkeypatch.undo()


def test_tool_calls_pass_and_are_not_taken_for_text(home: Path) -> None:
    reply = b'{"choices":[{"message":{"content":null,"tool_calls":[{"id":"c1"}]},"finish_reason":"tool_calls"}]}'
    with gateway(home, [Reply(body=reply)]) as place:
        tools = [{"type": "function", "function": {"name": "f"}}]
        _, headers, data = post(place.port, body(tools=tools))
        assert data == reply
        assert headers["x-pilotfish-reason"] == "unsupported-option"
        row = place.rows(1)[0]
        assert (row.reference_answer, row.sampling) == (None, "none")


def test_a_request_without_text_belongs_to_no_task(home: Path) -> None:
    with gateway(home) as place:
        image = [{"type": "image_url", "image_url": {"url": "data:"}}]
        status, headers, _ = post(place.port, json.dumps({"messages": [{"role": "user", "content": image}]}).encode())
        assert (status, headers["x-pilotfish-reason"]) == (200, "no-task")
        assert (place.rows(1)[0].task_id, place.rows(1)[0].sampling) == ("", "none")
