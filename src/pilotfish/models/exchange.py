"""One HTTP/1.1 connection to a model server, and the exchange it carries: bytes in, status, headers and body out.

What goes wrong becomes an error of ours that says whether the server can have worked on the request. Headers, body
and silence are bounded here. Who opens connections and keeps them is known to `connection.py`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

import httptools

from pilotfish.core.errors import ModelConnectionError, ModelError, ModelFormatError, ModelTimeoutError

MAX_HEAD_BYTES = 64 << 10
MAX_BUFFER_BYTES = 256 << 10
"""Reading pauses when a slow client has left this much of a stream unread."""

_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
QUICK_S = 0.5
"""A connection that ends this soon, without a byte, was ended by a server that had not begun to work: one round trip
around the world, and no model's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server may take. `stream_idle_s` is the silence in a stream whose first byte has come; 0 sets no bound.

    `max_answer_bytes` bounds one answer, its stream included: far above any chat completion, below what would hurt.
    """

    connect_timeout_s: float = 10.0
    stream_idle_s: float = 0.0
    max_answer_bytes: int = 128_000_000


DEFAULT_LIMITS = Limits()


class Connection(asyncio.Protocol):
    """One connection. It carries one exchange at a time; what goes wrong is kept until it is read."""

    def __init__(self, model: str, limits: Limits) -> None:
        self._model = model
        self._stream_idle_s = limits.stream_idle_s
        self._max_answer_bytes = limits.max_answer_bytes
        self._n_exchanges = 0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        # It outlives an exchange, and then looks again: to set and cancel one for each would cost 2 µs.
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = self._is_under_way = False
        self._parser = httptools.HttpResponseParser(self)
        self.idle_since_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._n_buffered = self._n_body_bytes = 0
        self._n_head_bytes = self._n_raw_bytes = 0
        self._is_paused = self._is_whole = self._watches_silence = False
        self._has_head = self._is_complete = self._is_kept = self._is_until_end = self._is_framed = False
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
        self._is_under_way = True
        self._n_exchanges += 1
        self._sent_s = self._heard_s = self._loop.time()
        self._deadline_s = self._sent_s + timeout_s
        self._look_at(self._deadline_s)
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
            # The silence of a client that takes its time is none of the server's.
            self._heard_s = self._loop.time()
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
        self._is_under_way = False
        if self.is_reusable:
            self.idle_since_s = time.monotonic()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Cut the connection, which is how HTTP/1.1 cancels a request."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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

    def _look_at(self, when_s: float) -> None:
        """See to it that `_expire` runs at `when_s` at the latest."""
        if self._timer is not None:
            if self._timer.when() <= when_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if not self._is_under_way:
            return
        # A timer may come a millisecond early.
        now_s = self._loop.time() + 0.001
        if now_s >= self._deadline_s:
            self._fail(ModelTimeoutError(f"{self._model} did not answer in time.", model=self._model))
            return
        if not self._watches_silence:
            self._look_at(self._deadline_s)
            return
        if self._waiter is None:
            self._heard_s = now_s
        if now_s < self._heard_s + self._stream_idle_s:
            self._watch_silence()
            return
        what = f"fell silent for {self._stream_idle_s:g} s in the middle of its answer"
        self._fail(ModelTimeoutError(f"{self._model} {what}.", model=self._model))

    def _watch_silence(self) -> None:
        self._watches_silence = True
        self._look_at(min(self._heard_s + self._stream_idle_s, self._deadline_s))

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
        if not self._has_head:
            # The parser keeps a line that does not end, however long it becomes.
            self._n_raw_bytes += len(data)
            if self._n_raw_bytes > MAX_HEAD_BYTES:
                self._fail(self._too_much_head())

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: of the body where it was to last until then, else of the exchange."""
        self._is_closed = True
        if self._has_head and self._is_until_end and exc is None:
            self._is_complete = True
            self._wake()
            return
        what = "broke off its answer" if self._has_head else "closed the connection before it answered"
        is_unread = not self.has_bytes and self._ended_before_work(exc)
        error = ModelConnectionError(
            f"{self._model} {what}.", model=self._model, may_be_billed=not is_unread, is_brief=is_unread
        )
        self._fail(error)

    def _ended_before_work(self, exc: Exception | None) -> bool:
        """Whether the server cannot have worked on the request: reset, or closed while it was still on its way."""
        is_quick = self._n_exchanges > 0 and self._loop.time() - self._sent_s < QUICK_S
        return is_quick and (exc is not None or self._n_exchanges > 1)

    def _too_much_head(self) -> ModelError:
        return ModelFormatError(f"{self._model} sent more than {MAX_HEAD_BYTES} bytes of headers.", model=self._model)

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header, its name in lower case."""
        self._n_head_bytes += len(name) + len(value)
        if self._n_head_bytes > MAX_HEAD_BYTES:
            self._fail(self._too_much_head())
            return
        name = name.lower()
        if name in _FRAMING:
            self._is_framed = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the status; 1xx answers only announce the real one."""
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
            self._is_framed = False
            return
        self.status = status
        self._has_head = True
        self._is_until_end = not self._is_framed
        if not self._is_whole:
            self._wake()

    def on_body(self, data: bytes) -> None:
        """Buffer a piece, within bounds."""
        if self._stream_idle_s and not self._watches_silence and not self._is_whole and self._is_under_way:
            self._heard_s = self._loop.time()
            self._watch_silence()
        self._n_body_bytes += len(data)
        if self._n_body_bytes > self._max_answer_bytes:
            what = f"answered more than {self._max_answer_bytes} bytes"
            self._fail(ModelFormatError(f"{self._model} {what}.", model=self._model))
            return
        self._pieces.append(data)
        self._n_buffered += len(data)
        if self._is_whole:
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


def translate(error: OSError | httptools.HttpParserError, model: str) -> ModelError:
    """The error of our own tree; what stands in an `OSError` kept a request from being sent.

    The message names the model, never its address.
    """
    if isinstance(error, httptools.HttpParserError):
        return ModelFormatError(f"{model} answered what is no HTTP: {error}.", model=model)
    if isinstance(error, TimeoutError):
        return ModelTimeoutError(f"{model} could not be reached in time.", model=model, may_be_billed=False)
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or "the handshake failed"
        return ModelConnectionError(f"{model} could not be reached: TLS: {reason}.", model=model, may_be_billed=False)
    # What asyncio writes there itself holds the address.
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or type(error).__name__
    is_brief = isinstance(error, ConnectionError)
    message = f"{model} could not be reached: {reason}."
    return ModelConnectionError(message, model=model, may_be_billed=False, is_brief=is_brief)
