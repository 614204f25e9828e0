"""One client connection: what a reply looks like on the wire, and what becomes of the connection after it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
import uvicorn
from uvicorn.server import ServerState

from pilotfish.gateway import asgi, connections, serve
from tools.gateway import Place, body, gateway
from tools.raw import HEAD, closed_after, exchange, status

LIVE = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n"
CLOSE = b"connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "SWEEP_EVERY_S", 0.1)
        with gateway(tmp_path_factory.mktemp("connections") / "home") as opened:
            yield opened


def test_requests_sent_at_once_are_answered_in_their_order(place: Place) -> None:
    replies = exchange(place.port, LIVE + b"\r\n" + LIVE.replace(b"live", b"none") + b"\r\n" + LIVE + CLOSE)
    assert [status(b"HTTP/1.1 " + part) for part in replies.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200]
    assert replies.count(b"connection: close") == 1


def test_a_reply_to_head_has_a_length_and_no_body(place: Place) -> None:
    head, _, rest = exchange(place.port, LIVE.replace(b"GET", b"HEAD") + CLOSE).partition(b"\r\n\r\n")
    assert b"content-length: " in head
    assert rest == b""


def test_the_target_may_be_a_whole_url(place: Place) -> None:
    assert status(exchange(place.port, LIVE.replace(b"/health", b"http://localhost/health") + CLOSE)) == 200
    assert status(exchange(place.port, LIVE.replace(b"/health/live", b"/%68ealth/live?a=b#c") + CLOSE)) == 200


def test_a_client_that_waits_to_be_told_sends_its_body(place: Place) -> None:
    data = body()
    with socket.create_connection(("127.0.0.1", place.port), timeout=120) as client:
        client.sendall(HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(data))
        assert client.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(data)
        assert status(client.recv(4096)) == 200


def test_a_connection_on_which_nothing_more_is_asked_is_closed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE_S", 0.1)
    with socket.create_connection(("127.0.0.1", place.port)) as client:
        client.sendall(LIVE + b"\r\n")
        assert closed_after(client, 4) > 0.1


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\0"])
def test_a_header_that_could_be_read_as_two_is_never_written(value: bytes) -> None:
    async def app(scope: asgi.Message, _receive: asgi.Receive, send: asgi.Send) -> None:
        replying = asgi.Replying(send, scope["extensions"][asgi.EXCHANGE])
        with pytest.raises(RuntimeError, match="header"):
            await asgi.respond(replying, 200, [(b"x", value)], b"")
        # So that an error can still be told.
        assert not replying.has_begun
        await asgi.respond(replying, 500, [asgi.JSON], b"{}")

    async def run() -> bytes:
        config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type]
        loop, (theirs, ours) = asyncio.get_running_loop(), socket.socketpair()
        await loop.connect_accepted_socket(lambda: connections.BoundedProtocol(config, ServerState(), {}), ours)
        theirs.setblocking(False)
        with theirs:
            await loop.sock_sendall(theirs, LIVE + CLOSE)
            return await loop.sock_recv(theirs, 4096)

    assert status(asyncio.run(run())) == 500
