"""Both ends of a gateway under load: clients that keep their connections, and a model server with faults to order.

Not a benchmark itself. Both run in the process of the benchmark, whose CPU is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

PATH = "/v1/chat/completions"
FAULTS = ("500", "reset", "cut", "malformed", "slow")


@dataclass(slots=True)
class Reply:
    """One reply; status 0 where the connection broke."""

    status: int
    headers: dict[str, str]
    body: bytes
    took_s: float
    asked: str = ""


def question(text: str, *, model: str = "big", stream: bool = False) -> bytes:
    """A request whose answer repeats `text`."""
    messages = [{"role": "system", "content": "Repeat. " * 100}, {"role": "user", "content": text}]
    return json.dumps({"model": model, "messages": messages, "stream": stream}).encode()


def answers(port: int, body: bytes = question("ready")) -> bool:
    """Whether the server on `port` gives a whole answer."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{PATH}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()
    except OSError:
        return False
    return True


class Client:
    """One connection, opened again where it breaks."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, body: bytes, asked: str = "") -> Reply:
        """Ask, and read the whole reply."""
        begun_s = time.perf_counter()
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
            self._writer.write(head.encode() + body)
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            found = await self._reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return Reply(0, {}, b"", time.perf_counter() - begun_s, asked)
        if headers.get("connection") == "close":
            self.close()
        return Reply(int(lines[0].split()[1]), headers, found, time.perf_counter() - begun_s, asked)

    def close(self) -> None:
        """Let go of the connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def ask_all(port: int, bodies: Sequence[bytes], *, n_clients: int, seconds: float) -> list[Reply]:
    """All replies to clients that ask without a pause, for some seconds."""
    found: list[Reply] = []
    end_s = time.perf_counter() + seconds

    async def one(number: int) -> None:
        client, position = Client(port), number
        while time.perf_counter() < end_s:
            found.append(await client.ask(bodies[position % len(bodies)]))
            position += n_clients
        client.close()

    await asyncio.gather(*(one(number) for number in range(n_clients)))
    return found


@dataclass
class ModelServer:
    """Answers with the text it was asked, signed with the model's name; a share of its answers is a fault."""

    share: float = 0.0
    seed: int = 0
    chunks: int = 100
    gap_s: float = 0.01
    port: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        rng = random.Random(f"{self.seed} {self.calls.total()}")
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                asked = json.loads(await reader.readexactly(length))
                fault = rng.choice(FAULTS) if rng.random() < self.share else ""
                self.calls[fault or "fine"] += 1
                if asked.get("stream"):
                    await self._stream(writer, asked)
                elif not await self._answer(writer, asked, fault):
                    break
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, asked: dict[str, object], fault: str) -> bool:
        messages: list[dict[str, str]] = asked["messages"]  # type: ignore[assignment]
        message = {"role": "assistant", "content": f"{asked['model']}: {messages[-1]['content']}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 180, "completion_tokens": 60, "total_tokens": 240}
        body = json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "slow":
            await asyncio.sleep(0.2)
        if fault == "malformed":
            body = body[:50]
        status = 500 if fault == "500" else 200
        head = b"HTTP/1.1 %d Any\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % (status, len(body)) + (body[:50] if fault == "cut" else body))
        return fault != "cut"

    async def _stream(self, writer: asyncio.StreamWriter, _asked: dict[str, object]) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "big"}
        event["choices"] = [{"index": 0, "delta": {"content": "token "}, "finish_reason": None}]
        data = b"data: " + json.dumps(event).encode() + b"\n\n"
        writer.write(head)
        for _ in range(self.chunks):
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await asyncio.sleep(self.gap_s)
        last = data.replace(b"null", b'"stop"') + b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))


@contextlib.contextmanager
def model_server(own: ModelServer | None = None, **fields: float) -> Iterator[ModelServer]:
    """A model server in a thread, one of another kind where it is given, for as long as the block lasts."""
    server, is_ready = own or ModelServer(**fields), threading.Event()  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=1024)
        server.port = listener.sockets[0].getsockname()[1]
        is_ready.set()
        await stop.wait()
        listener.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    is_ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
