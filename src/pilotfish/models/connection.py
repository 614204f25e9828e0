"""HTTP/1.1 to one host over kept-alive connections: only what a model endpoint needs.

Our own, because a departing client must end the work upstream at once, and pyreqwest 0.15.1 (the fastest ready
client) lets a cancelled request run on to its end. It posts a body, gives back status, headers and body, and knows
nothing of chats. What travels on one connection is the business of `exchange.py`, proxies that of `proxy.py`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from urllib.parse import urlsplit

from pilotfish.core.errors import ConfigError, ModelConnectionError, RequestError
from pilotfish.models.exchange import Connection, Limits, translate
from pilotfish.models.proxy import open_tunnel, proxy_of, refused

IDLE_S = 60.0
"""Shorter than the keep-alive of the large vendors (75 s and more), so that a dead connection is seldom picked."""

MAX_IDLE = 256


class Endpoint:
    """One base URL to post below, with its idle connections."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        timeout_s: float,
        limits: Limits,
    ) -> None:
        """`timeout_s` bounds a whole exchange. Where the environment names a proxy for `url`, all goes through that.

        Raises `ConfigError` where `url` names no host, or a proxy is of no use.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(f"The URL {url!r} cannot be used: {error}.") from error
        if not host:
            raise ConfigError(f"The URL {url!r} names no host.")
        self._model = model
        self._proxy = proxy_of(url, os.environ)
        self._host = host
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = port or (443 if self._tls else 80)
        self._timeout_s = timeout_s
        self._connect_timeout_s = limits.connect_timeout_s
        self._open = partial(Connection, model, limits)
        self._idle: list[Connection] = []
        self._is_closed = False
        self._url = parts
        self._heads: dict[str, bytes] = {}

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return f"{self._host}:{self._port}"

    async def post(
        self,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        is_whole: bool,
        path: str = "",
        timeout_s: float | None = None,
    ) -> Connection:
        """An exchange whose head has come (with `is_whole` its body too). The caller must `release` it.

        `path` is what follows the base URL's own, before its query. Cancelling cuts the connection. A kept-alive
        connection that ends at once, before the first byte, is replaced once: the server had closed it before it saw
        the request. `timeout_s` takes the place of the endpoint's own.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        head = self._heads.get(path) or self._head(path)
        data = b"%b%bcontent-length: %d\r\n\r\n%b" % (head, _lines(tuple(headers)), len(body), body)
        started_s = time.monotonic()
        connection = self._take()
        if connection is not None:
            try:
                return await self._exchange(connection, data, timeout_s, is_whole=is_whole)
            except ModelConnectionError as error:
                if error.may_be_billed:
                    raise
        connection = await self._connect(timeout_s)
        left_s = timeout_s - (time.monotonic() - started_s)
        return await self._exchange(connection, data, left_s, is_whole=is_whole)

    def _head(self, path: str) -> bytes:
        """The lines that all requests to a path share, kept: there are but a few paths."""
        url = self._url
        target = (url.path.rstrip("/") + path or "/") + (f"?{url.query}" if url.query else "")
        credentials = ""
        if self._proxy is not None and self._tls is None:
            # A proxy is told the whole URL, and its password: here it reads what it passes on.
            target, credentials = f"http://{url.netloc.rpartition('@')[2]}{target}", self._proxy.credentials
        # Without compression, since a stream must be relayed as it comes.
        self._heads[path] = head = _header_bytes(
            f"POST {target} HTTP/1.1\r\nhost: {url.netloc.rpartition('@')[2]}\r\nuser-agent: pilotfish\r\n"
            f"content-type: application/json\r\naccept-encoding: identity\r\n{credentials}"
        )
        return head

    def release(self, connection: Connection) -> None:
        """Give an exchange back, finished or not."""
        if not connection.end():
            return
        if self._is_closed or len(self._idle) >= MAX_IDLE:
            connection.abort()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Cut the idle connections, and keep none from now on."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().abort()

    async def _exchange(self, connection: Connection, data: bytes, timeout_s: float, *, is_whole: bool) -> Connection:
        connection.send(data, timeout_s, is_whole=is_whole)
        has_come = False
        try:
            await (connection.whole() if is_whole else connection.head())
            has_come = True
        finally:
            if not has_come:
                # Who is cancelled in the moment in which all has come leaves a connection that can be used again.
                self.release(connection)
        if self._proxy is not None and connection.status == 407:
            self.release(connection)
            raise refused(self._model, "407")
        return connection

    def _take(self) -> Connection | None:
        oldest_s = time.monotonic() - IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and connection.idle_since_s > oldest_s:
                return connection
            connection.abort()
        return None

    async def _connect(self, timeout_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        connection = self._open()
        is_open = False
        try:
            async with asyncio.timeout(min(self._connect_timeout_s, timeout_s)):
                if self._proxy is not None and self._tls is not None:
                    await open_tunnel(
                        self._proxy, self._host, self._port, tls=self._tls, connection=connection, model=self._model
                    )
                else:
                    await loop.create_connection(
                        lambda: connection,
                        self._host if self._proxy is None else self._proxy.host,
                        self._port if self._proxy is None else self._proxy.port,
                        ssl=self._tls,
                        server_hostname=self._host if self._tls else None,
                    )
            is_open = True
        except OSError as error:
            raise translate(error, self._model) from error
        finally:
            if not is_open:
                # Where a handshake has just ended, the loop only asks the server to close.
                connection.abort()
        return connection


@lru_cache(maxsize=256)
def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    """Header lines; one client mostly sends the same again."""
    return _header_bytes("".join(f"{name}: {_value(name, value)}\r\n" for name, value in headers))


def _value(name: str, value: str) -> str:
    if not value.isprintable():
        raise RequestError(f"The request header {name!r} holds characters that cannot be passed on.")
    return value


def _header_bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise RequestError("A request header holds characters that cannot be passed on.") from error
