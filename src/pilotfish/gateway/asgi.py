"""The few ASGI moves the gateway needs: read a body within bounds, reply, notice that the client has gone.

No framework: one callable with a table of paths is a page, and a framework costs 20 to 130 µs a request.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from pilotfish.core.errors import RequestError, TooLargeError
from pilotfish.core.key import PREFIX
from pilotfish.core.messages import Family
from pilotfish.gateway.visit import OPEN, Visit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
EVENTS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]

EXCHANGE = "pilotfish.exchange"
"""The ASGI extension under which our own server names the `Exchange` of a request."""

DISCARD_BYTES = 256 << 20
WATCH_AFTER_S = 0.005

# What a model server may need of the client's own headers: its key, account, and tracing.
_FORWARDED = frozenset(
    (
        b"authorization",
        b"api-key",
        b"x-api-key",
        b"anthropic-version",
        b"anthropic-beta",
        b"openai-organization",
        b"openai-project",
        b"openai-beta",
        b"idempotency-key",
        b"traceparent",
        b"tracestate",
    )
)
# Where clients put a key. One that begins like ours is never passed on, whoever made it.
_CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key"))
_OWN_KEYS = PREFIX.encode()


# Never changed. To freeze what every request makes costs 0.1 µs a field.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class ClientHeaders:
    """What is read of a client's headers. `content_length` is -1 where it is not announced.

    `credential` is the key that came, `visit` what the door made of it.
    """

    host: str
    origin: str
    content_length: int
    forwarded: tuple[tuple[str, str], ...]
    credential: bytes = b""
    visit: Visit = OPEN

    def let_in(self, visit: Visit) -> ClientHeaders:
        """The same after the door. A key that was for us does not travel on."""
        if visit is OPEN:
            return self
        kept = tuple(header for header in self.forwarded if header[0].encode() not in _CREDENTIALS)
        return dataclasses.replace(self, forwarded=kept, visit=visit)

    @property
    def family(self) -> Family:
        """Whose client this is, where the path does not tell: Anthropic's all name a version."""
        return "anthropic" if any(name == "anthropic-version" for name, _ in self.forwarded) else "openai"


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> ClientHeaders:
    """One pass over the headers, whose names ASGI gives in lower case.

    Raises `RequestError` (415) where the body is compressed: unpacking it could take any amount of memory.
    """
    host = origin = credential = b""
    length = -1
    forwarded = []
    for name, value in raw:
        if name in _CREDENTIALS:
            found = value[7:].strip() if value[:7].lower() == b"bearer " else value.strip()
            credential = credential or found
            if found.startswith(_OWN_KEYS):
                continue
        if name == b"host":
            if host:
                raise RequestError("The request has two Host headers.")
            host = value
        elif name == b"origin":
            origin = value
        elif name == b"content-length":
            length = int(value) if value.isdigit() else -1
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise RequestError("Compressed request bodies are not read.", status=415, hint="Send it uncompressed.")
        elif name in _FORWARDED:
            forwarded.append((name.decode(), value.decode("latin-1")))
    return ClientHeaders(
        host=host.decode("latin-1"),
        origin=origin.decode("latin-1"),
        content_length=length,
        forwarded=tuple(forwarded),
        credential=credential,
    )


def content_type(raw: Iterable[tuple[bytes, bytes]]) -> str:
    """What a body says it is, empty where it says nothing."""
    return next((value.decode("latin-1") for name, value in raw if name == b"content-type"), "")


async def read_body(receive: Receive, content_length: int, limit_bytes: int) -> bytes | None:
    """The body, None where the client has gone. Raises `TooLargeError` where it is larger than the limit.

    Of a body that is too large nothing is kept, but it is read on for `DISCARD_BYTES`: a client that is
    still sending would meet a closed connection instead of the reply.
    """
    most_bytes = limit_bytes + DISCARD_BYTES
    if content_length > most_bytes:
        raise _too_large(limit_bytes)
    pieces: list[bytes] = []
    n_bytes = 0
    has_more = True
    while has_more and n_bytes <= most_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        n_bytes += len(piece)
        if n_bytes <= limit_bytes:
            pieces.append(piece)
        else:
            pieces.clear()
        has_more = message.get("more_body", False)
    if n_bytes > limit_bytes:
        raise _too_large(limit_bytes)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(limit_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"The request body is larger than the limit of {limit_bytes / 1e6:g} MB.",
        hint="Raise [server] max_body_mb if this is intended.",
    )


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole reply: at once where the server can, else in the two messages of ASGI."""
    if isinstance(send, Held):
        send.whole = (status, headers, body)
        return
    if isinstance(send, Replying) and send.exchange is not None:
        await send.exchange.reply(status, headers, body)
        send.has_begun = True
        return
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


class Held:
    """A `send` that keeps back a whole reply, or the last message of a stream, until it is released."""

    __slots__ = ("_last", "_send", "whole")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last: Message | None = None
        self.whole: tuple[int, Headers, bytes] | None = None

    async def __call__(self, message: Message) -> None:
        """Pass a message on, or keep it where it is the last."""
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._last = message
        else:
            await self._send(message)

    async def release(self) -> None:
        """Let the reply end."""
        if self.whole is not None:
            await respond(self._send, *self.whole)
        elif self._last is not None:
            await self._send(self._last)


class Connection(Protocol):
    """A client's connection, as the server knows it. `on_lost` is called once, when it is gone."""

    is_lost: bool
    on_lost: Callable[[], None] | None


class Exchange(Protocol):
    """A request and its reply, as our own server knows them."""

    connection: Connection

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole reply, its length included."""


class Replying:
    """A `send` that knows whether a reply has begun, and the exchange it belongs to where the server tells."""

    __slots__ = ("_send", "exchange", "has_begun")

    def __init__(self, send: Send, exchange: Exchange | None) -> None:
        self._send = send
        self.exchange = exchange
        self.has_begun = False

    def __call__(self, message: Message) -> Awaitable[None]:
        """Send one message."""
        self.has_begun = True
        return self._send(message)


class Watched:
    """A `receive` that knows the connection it reads from."""

    __slots__ = ("_receive", "connection")

    def __init__(self, receive: Receive, connection: Connection) -> None:
        self._receive = receive
        self.connection = connection

    def __call__(self) -> Awaitable[Message]:
        """The next message."""
        return self._receive()


class Departure:
    """Cancels what runs inside as soon as the client has gone; `is_gone` tells so afterwards.

    Our own server's connections tell it themselves (`Watched`). Any other tells of a departure only to who is waiting
    in `receive`, hence a task. It starts after `WATCH_AFTER_S`, since it costs as much as all else that is decided
    about a request.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._connection = receive.connection if isinstance(receive, Watched) else None
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Future[None] | None = None
        self.is_gone = False

    def __enter__(self) -> Departure:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if self._connection is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._start)
        elif self._connection.is_lost:
            self._timer = asyncio.get_running_loop().call_later(0, self._left)
        else:
            self._connection.on_lost = self._left
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._connection is not None:
            self._connection.on_lost = None
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self.is_gone and kind is asyncio.CancelledError:
            self._task.uncancel()
            return True
        return False

    def _start(self) -> None:
        self._watch = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        self.is_gone = True
        self._task.cancel()
