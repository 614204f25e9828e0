from __future__ import annotations

import asyncio
import inspect
import ssl
import time
from collections.abc import Coroutine
from typing import TypeVar

import httptools
import pytest

from pilotfish.core.errors import (
    ConfigError,
    ModelConnectionError,
    ModelError,
    ModelFormatError,
    ModelTimeoutError,
    RequestError,
)
from pilotfish.models import connection
from pilotfish.models.connection import Endpoint
from pilotfish.models.exchange import DEFAULT_LIMITS, Connection, Limits, translate
from tools.upstream import Reply, upstream

T = TypeVar("T")
_opened: list[Endpoint] = []


def endpoint(url: str, *, timeout_s: float = 5.0, **limits: float) -> Endpoint:
    bounds = Limits(**({"connect_timeout_s": 1.0} | limits))  # type: ignore[arg-type]
    at = Endpoint(url + "/chat/completions", model="m", timeout_s=timeout_s, limits=bounds)
    _opened.append(at)
    return at


def run(work: Coroutine[None, None, T]) -> T:
    """Runs `work`, then closes what it left open and lets the loop turn so that sockets are let go."""

    async def whole() -> T:
        try:
            return await work
        finally:
            while _opened:
                _opened.pop().close()
            await asyncio.sleep(0.01)

    return asyncio.run(whole())


async def post(at: Endpoint, body: bytes = b"{}") -> tuple[int, bytes]:
    exchange = await at.post((), body, is_whole=True)
    try:
        return exchange.status, await exchange.whole()
    finally:
        at.release(exchange)


async def read(exchange: Connection) -> tuple[bytes, ModelError | None]:
    """Everything that comes, and the error that ends it."""
    data = b""
    try:
        while piece := await exchange.piece():
            data += piece
    except ModelError as error:
        return data, error
    return data, None


def test_every_exception_of_httptools_is_translated() -> None:
    kinds = [kind for _, kind in inspect.getmembers(httptools.parser.errors, inspect.isclass)]
    parser_errors = [kind for kind in kinds if issubclass(kind, httptools.HttpParserError)]
    assert len(parser_errors) >= 5
    for kind in parser_errors:
        error = translate(kind("broken"), "m")
        assert type(error) is ModelFormatError
        assert error.model == "m"


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (ConnectionRefusedError(111, "Connection refused"), ModelConnectionError, "Connection refused"),
        (OSError("no reason"), ModelConnectionError, "OSError"),
        (TimeoutError(), ModelTimeoutError, "in time"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version"), ModelConnectionError, "TLS"),
    ],
)
def test_every_failure_to_connect_is_translated(error: OSError, kind: type[ModelError], says: str) -> None:
    translated = translate(error, "m")
    assert type(translated) is kind
    assert says in str(translated)


def test_connections_are_kept_and_used_again() -> None:
    async def work(url: str) -> None:
        at = endpoint(url)
        for _ in range(3):
            assert (await post(at))[0] == 200
        at.close()

    with upstream() as server:
        run(work(server.url))
        assert [asked.connection for asked in server.asked] == [1, 1, 1]


def test_a_kept_connection_that_dies_before_the_first_byte_is_replaced_once() -> None:
    async def work(url: str) -> None:
        at = endpoint(url)
        assert (await post(at))[0] == 200
        assert (await post(at))[0] == 200
        with pytest.raises(ModelConnectionError, match="before it answered"):
            await post(at)

    # The second request dies on the kept connection, comes again on a new one, and is answered; the third dies twice.
    replies = [Reply(), Reply(closes=True), Reply(), Reply(closes=True)]
    with upstream(replies) as server:
        run(work(server.url))
        assert [asked.connection for asked in server.asked] == [1, 1, 2, 2, 3]


def test_a_fresh_connection_that_dies_is_not_tried_again() -> None:
    with upstream([Reply(closes=True)]) as server:
        with pytest.raises(ModelConnectionError):
            run(post(endpoint(server.url)))
        assert len(server.asked) == 1


def test_an_old_idle_connection_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 0.0)

    async def work(url: str) -> None:
        at = endpoint(url)
        await post(at)
        await post(at)

    with upstream() as server:
        run(work(server.url))
        assert [asked.connection for asked in server.asked] == [1, 2]


def test_a_connection_the_server_does_not_keep_is_not_used_again() -> None:
    async def work(url: str) -> None:
        at = endpoint(url)
        await post(at)
        await post(at)

    with upstream([Reply(headers=(("connection", "close"),), keeps=False)]) as server:
        run(work(server.url))
        assert [asked.connection for asked in server.asked] == [1, 2]


def test_cancelling_hangs_up_at_once() -> None:
    async def work(url: str) -> None:
        task = asyncio.ensure_future(post(endpoint(url)))
        await asyncio.to_thread(server.wait_for_request)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with upstream([Reply(hangs=True)]) as server:
        run(work(server.url))
        server.wait_for_hang_up()


def test_a_call_cancelled_as_its_answer_comes_leaves_a_connection_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    received = Connection.data_received

    async def work(url: str) -> None:
        at = endpoint(url)
        task = asyncio.ensure_future(post(at))

        def received_and_cancelled(self: Connection, data: bytes) -> None:
            received(self, data)
            task.cancel()

        with monkeypatch.context() as patch:
            patch.setattr(Connection, "data_received", received_and_cancelled)
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await post(at))[0] == 200

    with upstream() as server:
        run(work(server.url))
        assert [asked.connection for asked in server.asked] == [1, 1]


@pytest.mark.parametrize("is_full", [True, False], ids=["too many", "closed"])
def test_a_connection_that_is_not_kept_is_cut(monkeypatch: pytest.MonkeyPatch, is_full: bool) -> None:
    async def work(url: str) -> None:
        at = endpoint(url)
        exchange = await at.post((), b"{}", is_whole=True)
        if is_full:
            monkeypatch.setattr(connection, "MAX_IDLE", 0)
        else:
            at.close()
        at.release(exchange)
        assert not exchange.is_reusable

    with upstream() as server:
        run(work(server.url))


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_hanging_server_is_timed_out_and_hung_up_on(is_whole: bool) -> None:
    async def work(url: str) -> None:
        started_s = time.perf_counter()
        with pytest.raises(ModelTimeoutError, match="did not answer in time"):
            await endpoint(url, timeout_s=0.1).post((), b"{}", is_whole=is_whole)
        assert time.perf_counter() - started_s > 0.08

    with upstream([Reply(hangs=True)]) as server:
        run(work(server.url))
        server.wait_for_hang_up()


def test_the_deadline_covers_a_stream_to_its_end() -> None:
    async def work(url: str) -> bytes:
        at = endpoint(url, timeout_s=0.15)
        exchange = await at.post((), b'{"stream":true,"model":"x"}', is_whole=False)
        data, error = await read(exchange)
        at.release(exchange)
        assert isinstance(error, ModelTimeoutError)
        return data

    with upstream([Reply(text="abcdefgh" * 10, pace_s=0.02)]) as server:
        assert b'"content": "a"' in run(work(server.url))
        server.wait_for_hang_up()


def test_what_came_before_a_cut_is_given_before_the_error() -> None:
    async def work(url: str) -> None:
        exchange = await endpoint(url).post((), b'{"stream":true,"model":"x"}', is_whole=False)
        data, error = await read(exchange)
        assert isinstance(error, ModelConnectionError)
        assert data.count(b"data: ") == 3

    with upstream([Reply(text="abcdef", cut_after=3)]) as server:
        run(work(server.url))


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", ModelFormatError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", ModelConnectionError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", ModelFormatError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", ModelFormatError),
        (b"HTTP/1.1 200", ModelConnectionError),
    ],
)
def test_broken_replies_are_errors_of_their_own_kind(raw: bytes, kind: type[ModelError]) -> None:
    with upstream([Reply(raw=raw)]) as server, pytest.raises(kind):
        run(post(endpoint(server.url)))


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nuntil \r\n7\r\nthe end\r\n0\r\n\r\n",
    ],
)
def test_unusual_replies_are_read(raw: bytes) -> None:
    with upstream([Reply(raw=raw)]) as server:
        assert run(post(endpoint(server.url))) == (200, b"until the end")


def test_a_body_beyond_the_bound_is_refused() -> None:
    with upstream([Reply(body=b"x" * 5000)]) as server, pytest.raises(ModelFormatError, match="more than 1000 bytes"):
        run(post(endpoint(server.url, max_answer_bytes=1000)))


def test_reading_pauses_while_nobody_reads() -> None:
    async def work(url: str) -> int:
        at = endpoint(url)
        exchange = await at.post((), b"{}", is_whole=False)
        await asyncio.sleep(0.2)
        waiting = exchange._n_buffered
        total = 0
        while piece := await exchange.piece():
            total += len(piece)
        assert total == 20_000_000
        at.release(exchange)
        return waiting

    with upstream([Reply(body=b"x" * 20_000_000)]) as server:
        assert run(work(server.url)) < 2_000_000


def test_refused_and_unresolved_addresses_are_connection_errors() -> None:
    with pytest.raises(ModelConnectionError, match="could not be reached"):
        run(post(endpoint("http://127.0.0.1:9/v1")))
    with pytest.raises(ModelConnectionError, match="could not be reached"):
        run(post(endpoint("http://name.invalid/v1")))


def test_plain_http_where_tls_is_expected_is_a_connection_error() -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ModelConnectionError, match="TLS"):
            await post(endpoint(f"https://127.0.0.1:{port}/v1"))
        server.close()

    run(work())


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://host:99999/v1"])
def test_an_unusable_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        Endpoint(url, model="m", timeout_s=1.0, limits=DEFAULT_LIMITS)


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "ключ", "a\x00"])
def test_a_header_value_cannot_carry_another_header(value: str) -> None:
    async def work() -> None:
        await endpoint("http://127.0.0.1:9").post((("authorization", value),), b"", is_whole=True)

    with pytest.raises(RequestError, match="cannot be passed on"):
        run(work())


def test_silence_before_the_first_byte_and_a_client_that_reads_slowly_are_no_silence_of_the_server() -> None:
    async def work(url: str) -> bytes:
        at = endpoint(url, stream_idle_s=0.1)
        exchange = await at.post((), b'{"stream":true,"model":"m"}', is_whole=False)
        data = await exchange.piece()
        await asyncio.sleep(0.3)
        while piece := await exchange.piece():
            data += piece
        at.release(exchange)
        return data

    with upstream([Reply(text="abcdef", delay_s=0.3, pace_s=0.02)]) as server:
        assert run(work(server.url)).endswith(b"data: [DONE]\n\n")


def test_a_stream_that_falls_silent_gives_what_came_and_then_the_error() -> None:
    async def work(url: str) -> tuple[bytes, ModelError | None]:
        at = endpoint(url, stream_idle_s=0.1)
        exchange = await at.post((), b'{"stream":true,"model":"m"}', is_whole=False)
        return await read(exchange)

    with upstream([Reply(text="abcdef", hangs_after=3)]) as server:
        data, error = run(work(server.url))
        assert data.count(b"data: ") == 3
        assert isinstance(error, ModelTimeoutError)
        assert "fell silent for 0.1 s" in error.message


@pytest.mark.parametrize(
    ("reply", "may_be_billed"),
    [(Reply(resets=True), False), (Reply(closes=True), True), (Reply(resets=True, delay_s=0.6), True)],
)
def test_an_error_says_whether_the_server_may_have_worked(reply: Reply, may_be_billed: bool) -> None:
    with upstream([reply]) as server, pytest.raises(ModelConnectionError) as caught:
        run(post(endpoint(server.url)))
    assert caught.value.may_be_billed is may_be_billed
