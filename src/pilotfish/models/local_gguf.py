"""A GGUF file answering in this process, through llama.cpp as xllamacpp brings it: the only file that imports it.

What is asked goes to llama.cpp as it is, so log-probabilities, a JSON schema (`response_format`) or a grammar are
honoured as its own server does, and its chunks come back as they are made. The library insists on listening somewhere:
here on a socket in a folder of its own that only this user can open. Needs the `llama` extra.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec

from pilotfish.core.errors import ConfigError, MissingExtraError, ModelConnectionError, ModelStatusError
from pilotfish.core.messages import Answer, ChatRequest
from pilotfish.models.base import ModelCard
from pilotfish.models.wire.chat import CHAT, DONE, encode_request

try:
    import xllamacpp
except ImportError as error:
    raise MissingExtraError("llama", error.name or "xllamacpp") from error

N_CONTEXT = 8192
"""Tokens of prompt and answer together; what a model states as its own length may need more memory than there is."""

MAX_NEW_TOKENS = 1024
"""Of an answer to a request that states no limit: a model that never ends would fill the whole context."""


class LocalGguf:
    """A model file in this process. One call runs at a time: a second one waits."""

    def __init__(self, path: Path, *, name: str = "", n_threads: int | None = None) -> None:
        """`n_threads` is as many as there are cores for this process. Raises `ConfigError` for a file of no use."""
        self._card = ModelCard(name=name or path.stem, is_local=True)
        self._folder = Path(tempfile.mkdtemp(prefix="pilotfish-"))
        try:
            self._server: Any = xllamacpp.Server(self._parameters(path, n_threads or _cores()))
        except RuntimeError as error:
            shutil.rmtree(self._folder)
            raise ConfigError(
                f"llama.cpp cannot load {path.name}: {error}",
                hint="Expected a GGUF file of a model that generates text, and memory enough for it.",
            ) from error

    @property
    def card(self) -> ModelCard:
        """The name given, else that of the file."""
        return self._card

    async def answer(self, request: ChatRequest) -> Answer:
        """The whole answer."""
        started_s = time.perf_counter()
        pieces = [piece async for piece in self._pieces(request, is_stream=False)]
        return CHAT.decode_answer(b"".join(pieces), model=self._card.name, latency_s=time.perf_counter() - started_s)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events, one a token."""
        pieces = self._pieces(request, is_stream=True)
        try:
            async for piece in pieces:
                yield b"data: " + piece + b"\n\n"
        finally:
            await pieces.aclose()
        yield DONE

    async def aclose(self) -> None:
        """Let go of the weights."""
        self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _parameters(self, path: Path, n_threads: int) -> Any:  # noqa: ANN401 - the library's
        found = xllamacpp.CommonParams()
        found.model.path, found.model_alias = str(path), {self._card.name}
        found.hostnames = [str(self._folder / "llama.sock")]
        found.n_ctx, found.n_parallel, found.n_predict = N_CONTEXT, 1, MAX_NEW_TOKENS
        found.cpuparams.n_threads = found.cpuparams_batch.n_threads = n_threads
        found.use_jinja, found.warmup, found.verbosity = True, False, -1
        return found

    async def _pieces(self, request: ChatRequest, *, is_stream: bool) -> AsyncGenerator[bytes, None]:
        """The JSON objects that llama.cpp says. Raises `ModelStatusError` for its errors."""
        body: dict[str, Any] = msgspec.json.decode(request.raw or encode_request(request))
        asked = msgspec.json.encode({**body, "stream": is_stream}).decode()
        said: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        loop, is_left = asyncio.get_running_loop(), threading.Event()
        thread = threading.Thread(target=self._ask, args=(asked, said, loop, is_left), daemon=True)
        thread.start()
        try:
            while (piece := await said.get()) is not None:
                yield self._checked(piece)
        finally:
            is_left.set()
            await asyncio.to_thread(thread.join)

    def _ask(
        self,
        body: str,
        said: asyncio.Queue[str | Exception | None],
        loop: asyncio.AbstractEventLoop,
        is_left: threading.Event,
    ) -> None:
        def hear(piece: str) -> bool:
            loop.call_soon_threadsafe(said.put_nowait, piece)
            return is_left.is_set()

        try:
            self._server.handle_chat_completions(body, hear)
        except (RuntimeError, ValueError) as error:
            loop.call_soon_threadsafe(said.put_nowait, error)
        loop.call_soon_threadsafe(said.put_nowait, None)

    def _checked(self, piece: str | Exception) -> bytes:
        name = self._card.name
        if isinstance(piece, ValueError):
            body = msgspec.json.encode({"error": {"message": str(piece), "type": "invalid_request_error"}})
            raise ModelStatusError(model=name, status=400, body=body)
        if isinstance(piece, Exception):
            raise ModelConnectionError(f"llama.cpp broke off: {piece}", model=name) from piece
        if piece.startswith('{"error"'):
            status = msgspec.json.decode(piece)["error"].get("code", 500)
            raise ModelStatusError(model=name, status=status, body=piece.encode())
        return piece.encode()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
