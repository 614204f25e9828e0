"""Client connections within bounds: uvicorn's HTTP protocol, with a limit on what a client may keep waiting.

uvicorn waits for ever for the rest of a head or a body, keeps a head of any size, and takes connections until the
process has no file descriptor left for the model. Once a second each connection is looked at: a head must be there
within `HEAD_S`, a body come at `MIN_BYTES_PER_S` after `BODY_S`, a reply be read within `STALL_S`. What is asked is not
known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pilotfish.gateway.asgi import CONNECTION

HEAD_S = 10.0
BODY_S = 10.0
MIN_BYTES_PER_S = 10_000
STALL_S = 60.0
"""How long a client may read nothing of a reply that waits for it."""

MAX_HEAD_BYTES = 64 << 10
"""Of request line and headers, and of anything else that is no body: chunk extensions, trailers."""

MOST_FILES = 1 << 16
RESERVED_FILES = 1024
"""File descriptors kept from clients: for connections to the model, and the log."""


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
        self._extensions = {CONNECTION: self}
        self.is_lost = False
        self.on_lost: Callable[[], None] | None = None
        self._n_unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many."""
        super().connection_made(transport)
        self._since_s = self.loop.time()
        if len(self.connections) > max_connections():
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for it."""
        self.is_lost = True
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Parse, and end what goes on without a body."""
        self._n_idle_bytes += len(data)
        super().data_received(data)
        if self._n_idle_bytes > MAX_HEAD_BYTES:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]
        self._is_head = True
        if self._since_s is None:
            self._since_s = self.loop.time()

    def on_headers_complete(self) -> None:
        """A body begins."""
        self._n_idle_bytes = self._n_body_bytes = 0
        self._is_head = False
        self._since_s = self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        self._n_idle_bytes = 0
        self._n_body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The client has said what it wants, and may wait for the reply."""
        self._n_idle_bytes = 0
        self._since_s = None
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        # The parser stops where another protocol would begin. What comes after it must not be taken for a request.
        self.cycle.keep_alive = False

    def sweep(self, now_s: float) -> None:
        """End the connection where its client takes too long."""
        if self.transport.is_closing():
            return
        is_replying = self.cycle is not None and not self.cycle.response_complete
        if self._since_s is not None and not self.flow.read_paused and not (self._is_head and is_replying):
            allowed_s = HEAD_S if self._is_head else BODY_S + self._n_body_bytes / MIN_BYTES_PER_S
            if now_s - self._since_s > allowed_s:
                self._refuse(408)
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
