"""Client connections within bounds: uvicorn's HTTP protocol, with a limit on what a client may keep waiting.

A request and its reply have a leaner cycle here than uvicorn's, which costs half as much again: a whole reply is
written at once, its head checked in one go, and an idle connection needs no timer of its own.

uvicorn waits for ever for the rest of a head or a body, keeps a head of any size, and takes connections until the
process has no file descriptor left for the model. Once a second each connection is looked at: a head must be there
within `HEAD_S`, a body come at `MIN_BYTES_PER_S` after `BODY_S`, a reply be read within `STALL_S`. What is asked is not
known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from typing import Any
from urllib.parse import unquote, urlsplit

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pilotfish.gateway.asgi import EXCHANGE, Headers, Message

HEAD_S = 10.0
BODY_S = 10.0
MIN_BYTES_PER_S = 10_000
STALL_S = 60.0
"""How long a client may read nothing of a reply that waits for it."""

MAX_HEAD_BYTES = 64 << 10
"""Of request line and headers, and of anything else that is no body: chunk extensions, trailers."""

KEEP_ALIVE_S = 5.0
"""How long a connection is kept on which nothing is asked; looked at once a second, as all else here."""

MOST_FILES = 1 << 16
RESERVED_FILES = 1024
"""File descriptors kept from clients: for connections to the model, and the log."""


_UNSAFE = bytes({*range(32), 127} - {9})
"""Bytes that could end a header, or that no header may hold."""

_NO_BODY = (204, 304)


class Cycle:
    """One request and its reply, as an ASGI application sees them: in place of uvicorn's `RequestResponseCycle`."""

    __slots__ = (
        "_has_body",
        "_is_chunked",
        "_is_end_told",
        "_is_head",
        "_waiter",
        "awaits_continue",
        "connection",
        "has_ended",
        "keep_alive",
        "n_unread",
        "pieces",
        "response_complete",
        "response_started",
        "task",
    )

    task: asyncio.Task[None]

    def __init__(self, connection: BoundedProtocol, *, is_head: bool, keep_alive: bool) -> None:
        self.connection = connection
        self._is_head = is_head
        self.keep_alive = keep_alive
        self.awaits_continue = connection.expect_100_continue
        self.pieces: list[bytes] = []
        self.n_unread = 0
        self.has_ended = self._is_end_told = False
        self.response_started = self.response_complete = False
        self._is_chunked = self._has_body = False
        self._waiter: asyncio.Future[None] | None = None

    async def run(self, scope: Message) -> None:
        """Let the application answer. A reply that it leaves unfinished ends with the connection."""
        connection = self.connection
        try:
            await connection.app(scope, self.receive, self.send)
        finally:
            connection.tasks.discard(self.task)
            if not self.response_complete:
                connection.transport.close()

    def wake(self) -> None:
        """Tell who waits in `receive` that there is something new."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Message:
        """The next ASGI message: what has come of the body, or that the client has gone or been answered."""
        connection = self.connection
        if self.awaits_continue and not connection.transport.is_closing():
            self.awaits_continue = False
            connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not connection.is_lost and not self.response_complete:
            if self.pieces or (self.has_ended and not self._is_end_told):
                body = b"".join(self.pieces)
                self.pieces.clear()
                self.n_unread = 0
                self._is_end_told = self.has_ended
                return {"type": "http.request", "body": body, "more_body": not self.has_ended}
            connection.flow.resume_reading()
            self._waiter = connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Write an ASGI message; nothing where the client has gone."""
        connection = self.connection
        if connection.flow.write_paused:
            await connection.flow.drain()
        if connection.is_lost:
            return
        if message["type"] == "http.response.start":
            connection.transport.write(self._head(message["status"], message["headers"]))
            return
        body, has_more = message.get("body", b""), message.get("more_body", False)
        if self._is_chunked:
            # An empty chunk would end the body.
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            connection.transport.write(framed if has_more else framed + b"0\r\n\r\n")
        elif self._has_body:
            connection.transport.write(body)
        if not has_more:
            self._end()

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole reply at once; nothing where the client has gone."""
        connection = self.connection
        if connection.flow.write_paused:
            await connection.flow.drain()
        if connection.is_lost:
            return
        head = self._head(status, [*headers, (b"content-length", b"%d" % len(body))])
        connection.transport.writelines((head, body) if self._has_body else (head,))
        self._end()

    def _head(self, status: int, headers: Headers) -> bytes:
        """The head of a reply; where no header tells its length, it is sent in chunks.

        Raises `RuntimeError` where a header could be read as more than one.
        """
        if self.response_started:
            raise RuntimeError("The reply has begun already.")
        values = b"".join(chain.from_iterable(headers))
        if len(values.translate(None, _UNSAFE)) != len(values):
            raise RuntimeError("A header holds characters that none may hold.")
        self.response_started = True
        self.awaits_continue = False
        self._has_body = not self._is_head and status not in _NO_BODY
        self._is_chunked = self._has_body
        parts = [STATUS_LINE[status]]
        for name, value in (*self.connection.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                self._is_chunked = False
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"transfer-encoding: chunked\r\n\r\n" if self._is_chunked else b"\r\n")
        return b"".join(parts)

    def _end(self) -> None:
        self.response_complete = True
        self.wake()
        if not self.keep_alive:
            self.connection.transport.close()
        self.connection.on_response_complete()


class BoundedProtocol(HttpToolsProtocol):
    """One client connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **named)
        # Since when a head or a body is awaited, None while nothing is.
        self._since_s: float | None = None
        self._is_head = True
        self._n_body_bytes = 0
        self._n_idle_bytes = 0
        self._stalled_s = 0.0
        self._replied_s = 0.0
        self._base: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "root_path": "",
        }
        self.cycle: Cycle = None  # type: ignore[assignment]
        self.pipeline: deque[tuple[Cycle, Message]] = deque()  # type: ignore[assignment]
        self.is_lost = False
        self.on_lost: Callable[[], None] | None = None
        self._n_unread_bytes = 0
        # The head of a request to speak another protocol, which is served as if it had not asked for that.
        self._is_upgrade = False
        self._upgrade_at: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many."""
        super().connection_made(transport)
        self._base |= {"server": self.server, "client": self.client, "scheme": self.scheme}
        self._since_s = self.loop.time()
        if len(self.connections) > max_connections():
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for it."""
        self.is_lost = True
        self.connections.discard(self)
        if self.cycle is not None:
            self.cycle.wake()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Parse, and end what goes on without a body."""
        self._n_idle_bytes += len(data)
        super().data_received(data)
        if self._upgrade_at is not None:
            at, self._upgrade_at = self._upgrade_at, None
            self._stay(data[at:])
        if self._n_idle_bytes > MAX_HEAD_BYTES:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """A head begins."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._is_head = True
        if self._since_s is None:
            self._since_s = self.loop.time()

    def on_headers_complete(self) -> None:
        """A body begins."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._is_upgrade = True
            return
        self._n_idle_bytes = self._n_body_bytes = 0
        self._is_head = False
        self._since_s = self.loop.time()
        self._begin()
        if self._is_upgrade:
            # Whatever stands between may take the rest for the other protocol.
            self._is_upgrade = self.cycle.keep_alive = False

    def _begin(self) -> None:
        """Let the application answer what has a head, or later where it still answers what came before."""
        path, raw_path, query = _target(self.url)
        method = self.parser.get_method().decode("ascii")
        scope = self._base | {
            "method": method,
            "headers": self.headers,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
        }
        version = self.parser.get_http_version()
        if version != "1.1":
            scope["http_version"] = version
        before = self.cycle
        is_kept = version != "1.0" and self.parser.should_keep_alive()
        self.cycle = Cycle(self, is_head=method == "HEAD", keep_alive=is_kept)
        scope["extensions"] = {EXCHANGE: self.cycle}
        if before is None or before.response_complete:
            self._start(self.cycle, scope)
        else:
            self.flow.pause_reading()
            self.pipeline.append((self.cycle, scope))

    def _start(self, cycle: Cycle, scope: Message) -> None:
        cycle.task = self.loop.create_task(cycle.run(scope))
        self.tasks.add(cycle.task)

    def on_response_complete(self) -> None:
        """Go on with what the client has asked meanwhile."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._replied_s = self.loop.time()
        if self.pipeline:
            self._start(*self.pipeline.popleft())

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        self._n_idle_bytes = 0
        self._n_body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.pieces.append(body)
        cycle.n_unread += len(body)
        if cycle.n_unread > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.wake()

    def on_message_complete(self) -> None:
        """The client has said what it wants, and may wait for the reply."""
        if self._is_upgrade:
            return
        self._n_idle_bytes = 0
        self._since_s = None
        self.cycle.has_ended = True
        self.cycle.wake()

    def _unsupported_upgrade_warning(self) -> None:
        # The parser stops where another protocol would begin: behind the head, whatever length of a body it states.
        error = sys.exception()
        if self._is_upgrade and error is not None:
            self._upgrade_at = error.args[0]

    def _stay(self, rest: bytes) -> None:
        """Go on with HTTP/1.1, as RFC 9110 (7.8) lets a server do: the same head without the wish, then `rest`."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        kept = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade")
        self.parser = type(self.parser)(self)
        super().data_received(b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, kept, rest))

    def sweep(self, now_s: float) -> None:
        """End the connection where its client takes too long."""
        if self.transport.is_closing():
            return
        is_replying = self.cycle is not None and not self.cycle.response_complete
        if self._since_s is not None and not self.flow.read_paused and not (self._is_head and is_replying):
            allowed_s = HEAD_S if self._is_head else BODY_S + self._n_body_bytes / MIN_BYTES_PER_S
            if now_s - self._since_s > allowed_s:
                self._refuse(408)
        elif self._since_s is None and not is_replying and now_s - self._replied_s > KEEP_ALIVE_S:
            self.transport.close()
        n_unread = self.transport.get_write_buffer_size()
        if not n_unread or n_unread != self._n_unread_bytes:
            self._n_unread_bytes, self._stalled_s = n_unread, now_s
        elif now_s - self._stalled_s > STALL_S:
            self.transport.abort()

    def _refuse(self, status: int) -> None:
        if self.transport.is_closing():
            return
        if self._is_head or not self.cycle.response_started:
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


@lru_cache(maxsize=64)
def _target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, raw path and query of a request's target; clients ask for a few again and again."""
    text = url.decode("ascii")
    parts = urlsplit("//host" + text if text.startswith("/") else text)
    if not parts.netloc or not parts.path:
        # What is raised while a head is parsed is answered with 400.
        raise ValueError("The target is no path, and no URL.")
    raw, query = parts.path, parts.query
    return unquote(raw), raw.encode(), query.encode()


def max_connections() -> int:
    """How many clients may be connected at once, by the file descriptors that this process may have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(limit // 2, limit - RESERVED_FILES)


def allow_many() -> None:
    """Raise this process's limit of open files to `MOST_FILES`, or as far as it may without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        # Some systems call their limit infinite and have one.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
