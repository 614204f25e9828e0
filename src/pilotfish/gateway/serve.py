"""Serves the gateway with uvicorn on httptools and uvloop; how long clients may take is `connections.py`'s.

It prints nothing: who started it is told the real port once requests are answered. Signals end it gracefully; a
gateway that runs in a thread is ended by its handle.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import uvicorn

from pilotfish.config.settings import Settings
from pilotfish.core.errors import ConfigError
from pilotfish.core.version import __version__
from pilotfish.gateway.app import open_gateway
from pilotfish.gateway.connections import BoundedProtocol, allow_many
from pilotfish.gateway.workers import Workers
from pilotfish.models.base import Model

GRACE_S = 5
"""How long requests under way may take once the gateway is told to end."""

SWEEP_EVERY_S = 1.0
LOOK_AGAIN_S = 0.005
"""How often a gateway that ends looks whether the requests under way have ended."""

BACKLOG = 2048
_log = logging.getLogger(__name__)

Ready = Callable[[int], None]


def serve(settings: Settings, *, on_ready: Ready, reference: Model | None = None) -> None:
    """Serve until a signal says to end. `on_ready` is called with the port once requests are answered.

    `reference` stands in for the large model of the settings. Raises `ConfigError` where the address cannot
    be listened on, and what `open_gateway` raises.
    """
    allow_many()
    if settings.server.workers > 1:
        _serve_with_workers(settings, on_ready, reference)
        return
    with contextlib.suppress(KeyboardInterrupt):
        _run(_Server(on_ready), settings, reference)


def _serve_with_workers(settings: Settings, on_ready: Ready, reference: Model | None) -> None:
    """Hold the port, so that nobody takes it between two lives of a worker; who only holds it gets no connections."""
    host, port = settings.server.host, settings.server.port
    with _listen(host, port) as alone:
        port = alone.getsockname()[1]
    with _listen(host, port, is_shared=True):
        server = dataclasses.replace(settings.server, port=port)
        settings = dataclasses.replace(settings, server=server)

        def work(number: int, tell_ready: Callable[[], None], lifeline: int) -> None:
            one = _Server(lambda _port: tell_ready(), is_first=number == 0, lifeline=lifeline)
            _run(one, settings, reference)

        Workers(settings.server.workers, work).run(lambda: on_ready(port))


@contextlib.contextmanager
def serving(settings: Settings, *, reference: Model | None = None) -> Iterator[int]:
    """A gateway in a thread of this process, for as long as the block lasts; gives its port.

    Raises what `serve` raises.
    """
    is_ready = threading.Event()
    ports: list[int] = []

    def on_ready(port: int) -> None:
        ports.append(port)
        is_ready.set()

    server = _Server(on_ready)
    with ThreadPoolExecutor(1, thread_name_prefix="pilotfish-gateway") as thread:
        served = thread.submit(_run, server, settings, reference)
        served.add_done_callback(lambda _served: is_ready.set())
        try:
            is_ready.wait()
            if ports:
                yield ports[0]
        finally:
            server.stop()
        served.result()


class _Server:
    def __init__(self, on_ready: Ready, *, is_first: bool = True, lifeline: int | None = None) -> None:
        """Of several workers only the first imports and learns; each ends when its `lifeline` can be read."""
        self._on_ready = on_ready
        self._is_first = is_first
        self._lifeline = lifeline
        self._server: _Uvicorn | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """End soon, from any thread."""
        self._is_stopped = True
        if self._server is not None:
            self._server.end_soon()

    async def run(self, settings: Settings, reference: Model | None) -> None:
        listener = _listen(settings.server.host, settings.server.port, is_shared=self._lifeline is not None)
        if self._lifeline is not None:
            asyncio.get_running_loop().add_reader(self._lifeline, self.stop)
        with listener:
            async with open_gateway(settings, reference=reference, is_first=self._is_first) as gateway:
                config = uvicorn.Config(
                    gateway,
                    http=BoundedProtocol,
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    backlog=BACKLOG,
                )
                port = listener.getsockname()[1]
                self._server = _Uvicorn(config, on_started=lambda: self._start(port), on_ending=gateway.end)
                if self._is_stopped:
                    self._server.end_soon()
                await self._server.serve(sockets=[listener])
        _log.info("The gateway has ended.", extra={"fields": {"event": "stop", "port": port}})

    def _start(self, port: int) -> None:
        _log.info("The gateway answers.", extra={"fields": {"event": "start", "port": port, "version": __version__}})
        self._on_ready(port)


class _Uvicorn(uvicorn.Server):
    """uvicorn's server without its beat: it looks every tenth of a second whether it should end, and waits another."""

    def __init__(
        self, config: uvicorn.Config, *, on_started: Callable[[], None], on_ending: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._on_ending = on_ending
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()

    def end_soon(self) -> None:
        """End gracefully, from any thread or signal handler."""
        self.should_exit = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._ending.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End gracefully, at a second signal without waiting for the requests under way.

        uvicorn's own raises the signal again once it has served, which would end the process before log and
        specialists are closed.
        """
        self.force_exit = self.should_exit
        self.end_soon()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell when requests are answered."""
        await super().startup(sockets)
        self._on_started()

    async def main_loop(self) -> None:
        """Set the date and look at the connections once a second until told to end."""
        while not self._ending.is_set():
            await self.on_tick(0)
            now_s = self._loop.time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.sweep(now_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_EVERY_S):
                    await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell what would never end, take no more connections, let requests under way end within their grace."""
        self._on_ending()
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        until_s = self._loop.time() + GRACE_S
        while (state.connections or state.tasks) and not self.force_exit and self._loop.time() < until_s:
            await asyncio.sleep(LOOK_AGAIN_S)
        for task in list(state.tasks):
            task.cancel()
        # Whose client does not read what waits for it: its transport never closes by itself.
        for connection in list(state.connections):
            connection.transport.abort()


def _run(server: _Server, settings: Settings, reference: Model | None) -> None:
    loop_factory = uvicorn.Config("", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(server.run(settings, reference))


def _listen(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"The gateway cannot listen on {host}:{port}: {error.strerror}.",
            hint="Choose another with --port (0 picks a free one).",
        ) from error
    return listener
