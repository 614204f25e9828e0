"""Every fault of a model server, a row each of `docs/faults.md`: what the client gets, what is asked, what is logged.

Each is met twice: by a model on one server, and by one that has a second server in good health.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import pytest

from pilotfish.config.settings import EndpointSettings
from pilotfish.models.failover import MAY_BE_BILLED
from tools.gateway import body, gateway
from tools.pages import ROOT, prose
from tools.upstream import Reply, Upstream, upstream

WHOLE, STREAM = False, True


@contextlib.contextmanager
def refused() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@contextlib.contextmanager
def unresolved() -> Iterator[str]:
    yield "http://name.invalid/v1"


@contextlib.contextmanager
def without_tls() -> Iterator[str]:
    class Plain(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.request.recv(10_000)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Plain) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        yield f"https://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        serving.join()


@contextlib.contextmanager
def slow_to_accept() -> Iterator[str]:
    """A listener whose queue is full: the kernel lets further clients wait."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A row. `goes_on` says that another server is asked; `calls` how often the only one is. `event` is the code
    of the error event where the answer had begun, and `status` then that of the row.
    """

    name: str
    status: int
    code: str
    reply: Reply = Reply()
    place: Callable[[], AbstractContextManager[str]] | None = None
    goes_on: bool = False
    calls: int = 1
    streams: tuple[bool, ...] = (WHOLE, STREAM)
    has_begun: bool = False
    is_billed: bool = False
    large: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


BUSY = b'{"error":{"message":"busy","code":"busy"}}'
FAULTS = [
    Fault(name="refused", place=refused, status=502, code="model_unreachable", goes_on=True),
    Fault(name="DNS failure", place=unresolved, status=502, code="model_unreachable", goes_on=True),
    Fault(name="TLS failure", place=without_tls, status=502, code="model_unreachable", goes_on=True),
    Fault(
        name="slow accept",
        place=slow_to_accept,
        status=504,
        code="model_timeout",
        goes_on=True,
        large={"connect_timeout_s": 0.2},
    ),
    Fault(name="reset", reply=Reply(resets=True), status=502, code="model_unreachable", goes_on=True, calls=3),
    Fault(
        name="reset late", reply=Reply(resets=True, delay_s=0.6), status=502, code="model_unreachable", is_billed=True
    ),
    Fault(name="closed without a byte", reply=Reply(closes=True), status=502, code="model_unreachable", is_billed=True),
    Fault(
        name="hang before the first byte",
        reply=Reply(hangs=True),
        status=504,
        code="model_timeout",
        is_billed=True,
        large={"timeout_s": 0.3},
    ),
    Fault(
        name="hang mid-stream",
        reply=Reply(text="abcdef", hangs_after=3),
        status=504,
        code="model_timeout",
        streams=(STREAM,),
        has_begun=True,
        is_billed=True,
        large={"stream_idle_s": 0.2},
    ),
    Fault(
        name="cut mid-stream",
        reply=Reply(text="abcdef", cut_after=3),
        status=502,
        code="model_unreachable",
        streams=(STREAM,),
        has_begun=True,
        is_billed=True,
    ),
    Fault(
        name="cut mid-answer",
        reply=Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"),
        status=502,
        code="model_unreachable",
        streams=(WHOLE,),
        is_billed=True,
    ),
    Fault(
        name="429 with `retry-after`",
        reply=Reply(status=429, body=BUSY, headers=(("Retry-After", "7"),)),
        status=429,
        code="busy",
        goes_on=True,
        headers={"retry-after": "7"},
    ),
    Fault(name="429 without", reply=Reply(status=429, body=BUSY), status=429, code="busy", goes_on=True, calls=3),
    Fault(name="500", reply=Reply(status=500, body=BUSY), status=500, code="busy", goes_on=True),
    Fault(name="502", reply=Reply(status=502, body=BUSY), status=502, code="busy", goes_on=True),
    Fault(name="503", reply=Reply(status=503, body=BUSY), status=503, code="busy", goes_on=True, calls=3),
    Fault(name="504", reply=Reply(status=504, body=BUSY), status=504, code="busy", is_billed=True),
    Fault(name="400", reply=Reply(status=400, body=BUSY), status=400, code="busy"),
    Fault(
        name="HTML error body",
        reply=Reply(status=502, body=b"<html>", content_type="text/html"),
        status=502,
        code="model_status",
        goes_on=True,
        headers={"content-type": "application/json"},
    ),
    Fault(name="malformed JSON", reply=Reply(body=b'{"choices":'), status=502, code="model_format", is_billed=True),
    Fault(
        name="empty 200",
        reply=Reply(body=b"", content_type="text/event-stream"),
        status=502,
        code="model_format",
        is_billed=True,
    ),
    Fault(
        name="wrong content type",
        reply=Reply(body=b"<html>", content_type="text/html"),
        status=502,
        code="model_format",
        is_billed=True,
    ),
    Fault(
        name="an endless stream",
        reply=Reply(endless=True),
        status=502,
        code="model_format",
        streams=(STREAM,),
        has_begun=True,
        is_billed=True,
        large={"max_answer_mb": 0.5},
    ),
    Fault(
        name="a stream without end in time",
        reply=Reply(endless=True, pace_s=0.01),
        status=504,
        code="model_timeout",
        streams=(STREAM,),
        has_begun=True,
        is_billed=True,
        large={"timeout_s": 0.4},
    ),
    Fault(
        name="a huge header",
        reply=Reply(raw=b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000),
        status=502,
        code="model_format",
        is_billed=True,
    ),
]
CASES = [
    pytest.param(fault, stream, id=f"{fault.name}, {'stream' if stream else 'whole'}")
    for fault in FAULTS
    for stream in fault.streams
]


def post(port: int, stream: bool) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/chat/completions", body(stream=stream), {"content-type": "application/json"})
    response = connection.getresponse()
    reply = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return reply


def code_of(data: bytes, *, has_begun: bool) -> str:
    if has_begun:
        assert b'"content": "' in data
        assert b"[DONE]" not in data
        data = data.rstrip().splitlines()[-1].removeprefix(b"data: ")
    found: str = json.loads(data)["error"]["code"]
    return found


@pytest.mark.parametrize(("fault", "stream"), CASES)
def test_a_model_on_one_server(home: Path, fault: Fault, stream: bool) -> None:
    with (
        fault.place() if fault.place else contextlib.nullcontext("") as url,
        gateway(home, [fault.reply], large={**({"url": url} if url else {}), **fault.large}) as place,
    ):
        started_s = time.perf_counter()
        status, headers, data = post(place.port, stream)
        assert time.perf_counter() - started_s < 10.0  # not the 600 s that a model may take
        assert status == (200 if fault.has_begun else fault.status)
        assert code_of(data, has_begun=fault.has_begun) == fault.code
        assert fault.headers.items() <= headers.items()
        assert headers["x-pilotfish-reason"] == "observing"
        assert len(place.server.asked) == (0 if fault.place else fault.calls)
        row = place.rows(1)[0]
        assert (row.status, row.reference_answer) == (fault.status, None)
        assert (MAY_BE_BILLED in row.error) == fault.is_billed


@pytest.mark.parametrize(("fault", "stream"), CASES)
def test_a_model_on_two_servers(home: Path, fault: Fault, stream: bool) -> None:
    with (
        upstream([Reply(text="second")]) as second,
        fault.place() if fault.place else contextlib.nullcontext("") as url,
    ):
        large = {**({"url": url} if url else {}), **fault.large, "endpoints": (EndpointSettings(url=second.url),)}
        with gateway(home, [fault.reply], large=large) as place:
            status, _, data = post(place.port, stream)
            assert len(place.server.asked) == (0 if fault.place else 1)
            row = place.rows(1)[0]
            if fault.goes_on:
                assert (status, row.status, row.answer, row.reference_answer) == (200, 200, "second", "second")
                assert row.error == ""
                assert len(second.asked) == 1
            else:
                assert code_of(data, has_begun=fault.has_begun) == fault.code
                assert row.status == fault.status
                assert second.asked == []


def test_the_document_has_exactly_these_rows() -> None:
    table = prose(ROOT / "docs" / "faults.md").partition("| upstream does |")[2].partition("\n\n")[0].splitlines()[2:]
    leaving = {"client leaves before it has asked", "client leaves before the first byte", "client leaves mid-stream"}
    assert {line.split("|")[1].strip() for line in table} == {fault.name for fault in FAULTS} | leaving


def leave(port: int, data: bytes, server: Upstream, *, n_asked: int, waits_for_bytes: bool) -> float:
    """Seconds from a client's departure to the upstream's hearing of it."""
    n_before = len(server.hung_up)
    with socket.create_connection(("127.0.0.1", port)) as client:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(data)
        client.sendall(head + data)
        server.wait_for_request(n_asked)
        if waits_for_bytes:
            assert client.recv(100)
        time.sleep(0.02)
        left_s = time.perf_counter()
    return server.wait_for_hang_up(n_before + 1) - left_s


@pytest.mark.parametrize("has_failed_over", [False, True], ids=["first server", "after a fail-over"])
@pytest.mark.parametrize(
    ("reply", "stream"),
    [
        pytest.param(Reply(hangs=True), WHOLE, id="whole"),
        pytest.param(Reply(hangs=True), STREAM, id="stream, before the first byte"),
        pytest.param(Reply(text="a" * 500, pace_s=0.01), STREAM, id="stream, under way"),
    ],
)
def test_the_upstream_is_left_at_once(home: Path, reply: Reply, stream: bool, has_failed_over: bool) -> None:
    """The quickest of some, since this machine has other things to do."""
    with upstream([reply]) as second:
        large = {"endpoints": (EndpointSettings(url=second.url),), "timeout_s": 10.0}
        script = [Reply(status=500)] if has_failed_over else [reply]
        with gateway(home, script, large=large) as place:
            server = second if has_failed_over else place.server
            took_s = []
            for n_asked in range(1, 21):
                took_s.append(
                    leave(place.port, body(stream=stream), server, n_asked=n_asked, waits_for_bytes=not reply.hangs)
                )
                if took_s[-1] < 0.05:
                    break
            assert min(took_s) < 0.05
            row = place.rows(len(took_s))[0]
            assert (row.status, row.error, row.reference_answer) == (499, "the client left", None)


@pytest.mark.usefixtures("rounds_s")
def test_a_client_that_leaves_during_a_wait_ends_it(home: Path) -> None:
    with gateway(home, [Reply(status=503, body=BUSY)], large={"retry_wait_s": 5.0}) as place:
        data = body()
        with socket.create_connection(("127.0.0.1", place.port)) as client:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(data)
            client.sendall(head + data)
            place.server.wait_for_request(2)
        assert place.rows(1)[0].status == 499
        assert len(place.server.asked) == 2


def test_a_client_that_leaves_before_it_has_asked_costs_nothing(home: Path) -> None:
    with gateway(home) as place:
        with socket.create_connection(("127.0.0.1", place.port)) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        post(place.port, WHOLE)
        assert len(place.server.asked) == 1
        assert len(place.rows(1)) == 1
