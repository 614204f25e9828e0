"""HTTP/1.1 to one host over kept-alive connections: only what a model endpoint needs.

Our own, because a departing client must end the work upstream at once, and pyreqwest 0.15.1 (the fastest ready
client) lets a cancelled request run on to its end. It posts a body, gives back status, headers and body, and knows
nothing of chats. Foreign exceptions end here.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

import httptools

from pilotfish.core.errors import (
    ConfigError,
    ModelConnectionError,
    ModelError,
    ModelFormatError,
    ModelTimeoutError,
    RequestError,
)

IDLE_S = 60.0
"""Shorter than the keep-alive of the large vendors (75 s and more), so that a dead connection is seldom picked."""

MAX_IDLE = 256
MAX_HEAD_BYTES = 64 << 10
MAX_BUFFER_BYTES = 256 << 10
"""Reading pauses when a slow client has left this much of a stream unread."""

MAX_BODY_BYTES = 128 << 20
"""Of an answer that is read whole: far above any chat completion, below what would hurt."""


class Connection(asyncio.Protocol):
    """One connection. It carries one exchange at a time; what goes wrong is kept until it is read."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._parser = httptools.HttpResponseParser(self)
        self.idle_since_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._n_buffered = 0
        self._n_head_bytes = 0
        self._is_paused = self._is_whole = False
        self._has_head = self._is_complete = self._is_kept = self._is_until_end = False
        self._error: ModelError | None = None
        self.has_bytes = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    @property
    def is_reusable(self) -> bool:
        """Whether another exchange may follow: this one is over, and both sides keep the connection."""
        return self._is_complete and self._is_kept and not self._is_closed

    def send(self, data: bytes, timeout_s: float, *, is_whole: bool) -> None:
        """Begin an exchange. `is_whole` says that its body will be read in one piece."""
        assert self._transport is not None
        self._reset()
        self._is_whole = is_whole
        self._timer = self._loop.call_later(timeout_s, self._expire)
        self._transport.write(data)

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self._has_head:
            await self._more()

    async def whole(self) -> bytes:
        """Wait for the end, and give the body."""
        while not self._is_complete:
            await self._more()
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    async def piece(self) -> bytes:
        """What has come of the body since the last call, empty at its end. What came before an error is given first."""
        while not self._pieces:
            if self._is_complete:
                return b""
            await self._more()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._n_buffered = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def end(self) -> bool:
        """End the exchange; True where the connection can carry another, else it is cut at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.is_reusable:
            self.idle_since_s = time.monotonic()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Cut the connection, which is how HTTP/1.1 cancels a request."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.abort()

    async def _more(self) -> None:
        self._raise_error()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if not self._pieces:
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: ModelError) -> None:
        if self._error is None and not self._is_complete:
            self._error = error
        self.abort()
        self._wake()

    def _expire(self) -> None:
        self._fail(ModelTimeoutError(f"{self._model} did not answer in time.", model=self._model))

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are none by inheritance.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; bytes that belong to no exchange close the connection."""
        if self._is_complete:
            self.abort()
            return
        self.has_bytes = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(translate(error, self._model))

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: of the body where it was to last until then, else of the exchange."""
        self._is_closed = True
        if self._has_head and self._is_until_end and exc is None:
            self._is_complete = True
            self._wake()
            return
        what = "broke off its answer" if self._has_head else "closed the connection before it answered"
        self._fail(ModelConnectionError(f"{self._model} {what}.", model=self._model))

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header, its name in lower case."""
        self._n_head_bytes += len(name) + len(value)
        if self._n_head_bytes > MAX_HEAD_BYTES:
            self._fail(ModelFormatError(f"{self._model} sent more than {MAX_HEAD_BYTES} bytes of headers."))
            return
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Note the status; 1xx answers only announce the real one."""
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
            return
        self.status = status
        self._has_head = True
        names = {name for name, _ in self.headers}
        self._is_until_end = names.isdisjoint((b"content-length", b"transfer-encoding"))
        if not self._is_whole:
            self._wake()

    def on_body(self, data: bytes) -> None:
        """Buffer a piece, within bounds."""
        self._pieces.append(data)
        self._n_buffered += len(data)
        if self._is_whole:
            if self._n_buffered > MAX_BODY_BYTES:
                self._fail(ModelFormatError(f"{self._model} answered more than {MAX_BODY_BYTES} bytes."))
            return
        if self._n_buffered > MAX_BUFFER_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """Note the end; only here does httptools tell whether the connection is kept."""
        if not self._has_head or self._error is not None:
            return
        self._is_kept = self._parser.should_keep_alive()
        self._is_complete = True
        self._wake()


class Endpoint:
    """One base URL to post below, with its idle connections."""

    def __init__(self, url: str, *, model: str, timeout_s: float, connect_timeout_s: float) -> None:
        """`timeout_s` bounds a whole exchange. Raises `ConfigError` where `url` names no host."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(f"The URL {url!r} cannot be used: {error}.") from error
        if not host:
            raise ConfigError(f"The URL {url!r} names no host.")
        self._model = model
        self._host = host
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = port or (443 if self._tls else 80)
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[Connection] = []
        self._url = parts
        self._heads: dict[str, bytes] = {}

    async def post(
        self, headers: Sequence[tuple[str, str]], body: bytes, *, is_whole: bool, path: str = ""
    ) -> Connection:
        """An exchange whose head has come (with `is_whole` its body too). The caller must `release` it.

        `path` is what follows the base URL's own, before its query.

        Cancelling cuts the connection. A kept-alive connection that dies before the first byte is replaced once:
        the server had closed it before it saw the request.
        """
        lines = "".join(f"{name}: {_value(name, value)}\r\n" for name, value in headers)
        head = self._heads.get(path) or self._head(path)
        data = b"".join((head, _header_bytes(f"{lines}content-length: {len(body)}\r\n\r\n"), body))
        started_s = time.monotonic()
        connection = self._take()
        if connection is not None:
            try:
                return await self._exchange(connection, data, self._timeout_s, is_whole=is_whole)
            except ModelConnectionError:
                if connection.has_bytes:
                    raise
        connection = await self._connect()
        left_s = self._timeout_s - (time.monotonic() - started_s)
        return await self._exchange(connection, data, left_s, is_whole=is_whole)

    def _head(self, path: str) -> bytes:
        """The lines that all requests to a path share, kept: there are but a few paths."""
        url = self._url
        target = (url.path.rstrip("/") + path or "/") + (f"?{url.query}" if url.query else "")
        # Without compression, since a stream must be relayed as it comes.
        self._heads[path] = head = _header_bytes(
            f"POST {target} HTTP/1.1\r\nhost: {url.netloc.rpartition('@')[2]}\r\nuser-agent: pilotfish\r\n"
            "content-type: application/json\r\naccept-encoding: identity\r\n"
        )
        return head

    def release(self, connection: Connection) -> None:
        """Give an exchange back, finished or not."""
        if connection.end() and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)

    def close(self) -> None:
        """Cut the idle connections."""
        while self._idle:
            self._idle.pop().abort()

    async def _exchange(self, connection: Connection, data: bytes, timeout_s: float, *, is_whole: bool) -> Connection:
        connection.send(data, timeout_s, is_whole=is_whole)
        try:
            await (connection.whole() if is_whole else connection.head())
        except BaseException:
            connection.end()
            raise
        return connection

    def _take(self) -> Connection | None:
        oldest_s = time.monotonic() - IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and connection.idle_since_s > oldest_s:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(self._connect_timeout_s, self._timeout_s)):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._model),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except OSError as error:
            raise translate(error, self._model) from error
        return connection


def translate(error: OSError | httptools.HttpParserError, model: str) -> ModelError:
    """The error of our own tree. The message names the model, never its address."""
    if isinstance(error, httptools.HttpParserError):
        return ModelFormatError(f"{model} answered what is no HTTP: {error}.", model=model)
    if isinstance(error, TimeoutError):
        return ModelTimeoutError(f"{model} could not be reached in time.", model=model)
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or "the handshake failed"
        return ModelConnectionError(f"{model} could not be reached: TLS: {reason}.", model=model)
    # What asyncio writes there itself holds the address.
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or type(error).__name__
    return ModelConnectionError(f"{model} could not be reached: {reason}.", model=model)


def _value(name: str, value: str) -> str:
    if not value.isprintable():
        raise RequestError(f"The request header {name!r} holds characters that cannot be passed on.")
    return value


def _header_bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise RequestError("A request header holds characters that cannot be passed on.") from error
