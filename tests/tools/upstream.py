"""A real model server on loopback, of both families, that fails as it is told.

It speaks HTTP/1.1 on plain sockets in a thread of its own, so that broken replies can be sent byte for byte. A
`Reply` per request is taken from a script, the last one for ever; what was asked, and when a client hung up, is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.families import Call, events, whole, with_logprobs


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server does with one request.

    It waits `delay_s`, then hangs for ever (`hangs`), hangs up (`closes`), sends `raw` bytes and hangs up, or
    answers `text` with `status`, and then a `call` of a tool, in the format of the path; `body` replaces it. A stream
    sends its events `pace_s` apart and hangs up after `cut_after` of them, or falls silent (`hangs_after`), or repeats
    the last for ever (`endless`); behind the second the others wait for a `gate`. `resets` hangs up with a reset (RST)
    in place of an orderly end. `keeps` says whether the connection is kept. `logprob` is that of each character, told
    where it is asked for.
    """

    text: str = "hello"
    call: Call | None = None
    logprob: float | None = None
    status: int = 200
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
    delay_s: float = 0.0
    pace_s: float = 0.0
    hangs: bool = False
    closes: bool = False
    raw: bytes = b""
    cut_after: int | None = None
    hangs_after: int | None = None
    endless: bool = False
    gate: threading.Event | None = None
    resets: bool = False
    keeps: bool = True


@dataclass
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


Script = Sequence[Reply] | Callable[[Asked], Reply]


@dataclass
class Upstream:
    """A running server. `url` is its base URL; `hung_up` holds the times at which clients left unfinished replies."""

    script: Script
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    hung_up: list[float] = field(default_factory=list)
    n_connections: int = 0

    def wait_for_hang_up(self, n: int = 1, timeout_s: float = 20.0) -> float:
        """The time of the n-th departure. Fails where it does not come."""
        self._wait(lambda: len(self.hung_up) >= n, timeout_s, "no client hung up")
        return self.hung_up[n - 1]

    def wait_for_request(self, n: int = 1, timeout_s: float = 20.0) -> None:
        """Wait until n requests have come."""
        self._wait(lambda: len(self.asked) >= n, timeout_s, "no request came")

    def _wait(self, is_done: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.perf_counter() + timeout_s
        while not is_done():
            assert time.perf_counter() < deadline, what
            time.sleep(0.002)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        number = self.n_connections
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._exchange(reader, writer, number):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(head[0].split()[1], headers, body, number)
        reply = self.script(asked) if callable(self.script) else self.script[min(len(self.asked), len(self.script) - 1)]
        self.asked.append(asked)
        sending = asyncio.ensure_future(self._reply(reply, asked, writer))
        while not sending.done():
            if reader.at_eof() or reader.exception() is not None:
                self.hung_up.append(time.perf_counter())
                sending.cancel()
                return False
            await asyncio.sleep(0.001)
        if isinstance(sending.exception(), ConnectionError):
            # What is being written notices a departure before what is being read does.
            self.hung_up.append(time.perf_counter())
            return False
        return sending.result() and reply.keeps

    async def _reply(self, reply: Reply, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(reply.delay_s)
        if reply.hangs:
            await asyncio.Event().wait()
        if reply.resets:
            # What is still in the buffer when a socket is closed is lost, and the other side is told by a reset.
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if reply.closes or reply.raw:
            writer.write(reply.raw)
            await writer.drain()
            return False
        if reply.status == 200 and reply.body is None and asked.json.get("stream"):
            return await self._stream(reply, asked, writer)
        body = reply.body
        if body is None:
            body = whole(asked.path.partition("?")[0], reply.text, asked.json.get("model", ""), reply.call)
            body = with_logprobs(body, reply.logprob if asked.json.get("logprobs") else None)
        lines = [f"HTTP/1.1 {reply.status} Any", f"content-type: {reply.content_type or 'application/json'}"]
        lines += [f"{name}: {value}" for name, value in reply.headers] + [f"content-length: {len(body)}", "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()
        return True

    async def _stream(self, reply: Reply, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        kind = reply.content_type or "text/event-stream"
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        found = events(asked.path, reply.text, asked.json, reply.call)
        if asked.json.get("logprobs"):
            found = [
                b"data: %s\n\n" % with_logprobs(event[6:], reply.logprob) if event[:7] == b"data: {" else event
                for event in found
            ]
        if reply.hangs_after is not None or reply.endless:
            found = found[: reply.hangs_after or 2]
        for number, event in enumerate(found[: reply.cut_after]):
            while number == 2 and reply.gate is not None and not reply.gate.is_set():
                await asyncio.sleep(0.002)
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(reply.pace_s)
        while reply.endless:
            writer.write(b"%x\r\n%s\r\n" % (len(found[1]), found[1]) * 100)
            await writer.drain()
            await asyncio.sleep(reply.pace_s)
        if reply.hangs_after is not None:
            await asyncio.Event().wait()
        if reply.cut_after is None:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return reply.cut_after is None


@contextlib.contextmanager
def upstream(script: Script = (Reply(),)) -> Iterator[Upstream]:
    """A server that follows `script` while the block lasts."""
    server = Upstream(script)
    is_ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=256)
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        is_ready.set()
        await stop.wait()
        listener.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    is_ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
