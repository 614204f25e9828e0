"""A GGUF file answering in this process, through llama.cpp as xllamacpp brings it.

What is asked goes to llama.cpp as it is, so log-probabilities, a JSON schema (`response_format`) or a grammar are
honoured as its own server does, and its chunks come back as they are made; responses and Anthropic's messages are
translated. It works at several requests at once, as many as find room in the context that they share: of those that
overflow it together it would break off all. The library insists on listening somewhere: here on a socket in a folder
of its own that only this user can open. Needs the `llama` extra.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec

from pilotfish.core.errors import (
    ConfigError,
    MissingExtraError,
    ModelConnectionError,
    ModelError,
    ModelStatusError,
    RequestError,
)
from pilotfish.core.messages import Answer, ChatRequest, Price
from pilotfish.models.base import Dialect, ModelCard
from pilotfish.models.llama_library import cores
from pilotfish.models.translate.relay import Translated, Translations
from pilotfish.models.wire.chat import CHAT, DONE, encode_request
from pilotfish.models.wire.completions import COMPLETIONS
from pilotfish.models.wire.embeddings import EMBEDDINGS
from pilotfish.models.wire.format import Format
from pilotfish.models.wire.formats import format_of

try:
    import xllamacpp
except ImportError as error:
    raise MissingExtraError("llama", error.name or "xllamacpp") from error

N_CONTEXT = 8192
"""Tokens of all requests at once, answers included; what a model states as its own length may need more memory than
there is."""

N_PARALLEL = 4
"""Requests that one batch of llama.cpp's works at."""

MAX_NEW_TOKENS = 1024
"""Of an answer to a request that states no limit: a model that never ends would fill the whole context."""

MAX_WAITING = 64

_TEMPLATE_TOKENS = 256
"""What a chat template may add to a request's own text."""

_LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")


class LocalGguf:
    """A model file in this process."""

    def __init__(
        self,
        path: Path,
        *,
        name: str = "",
        task: str = "generate",
        max_tokens: int | None = None,
        price: Price | None = None,
        n_threads: int | None = None,
    ) -> None:
        """`n_threads` is as many as there are cores for this process. Raises `ConfigError` for a file of no use."""
        if task not in ("generate", "embed"):
            raise ConfigError(f"llama.cpp has no task {task!r} for {path.name}.", hint="Set task to generate or embed.")
        self._card = ModelCard(name=name or path.stem, price=price, is_local=True)
        self._is_embedder = task == "embed"
        self._max_tokens = max_tokens or MAX_NEW_TOKENS
        self._translations = Translations(Dialect(has_responses=False))
        self._room, self._n_asked = _Room(N_CONTEXT), 0
        self._folder = Path(tempfile.mkdtemp(prefix="pilotfish-"))
        try:
            self._server = self._opened(path, n_threads or cores())
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
        """The whole answer. Raises `RequestError` for what it does not do, `ModelStatusError` for llama.cpp's own."""
        started_s = time.perf_counter()
        form, body, translated = self._sent(request)
        try:
            said = b"".join([piece async for piece in self._pieces(form, body, is_stream=False)])
        except ModelStatusError as error:
            raise (error if translated is None else translated.failure(error)) from None
        answer = form.decode_answer(said, model=self._card.name, latency_s=time.perf_counter() - started_s)
        return answer if translated is None else translated.answer(answer)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events, one a token."""
        form, body, translated = self._sent(request)
        pieces = self._pieces(form, body, is_stream=True)
        try:
            async for piece in pieces:
                event = b"data: " + piece + b"\n\n"
                if translated is None:
                    yield event
                elif said := translated.feed(event):
                    yield said
        except ModelStatusError as error:
            raise (error if translated is None else translated.failure(error)) from None
        finally:
            await pieces.aclose()
        yield DONE if translated is None else translated.end()

    async def aclose(self) -> None:
        """Let go of the weights."""
        self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _opened(self, path: Path, n_threads: int) -> Any:  # noqa: ANN401 - the library's
        found = self._parameters(path, n_threads)
        server = xllamacpp.Server(found)
        if self._is_embedder and '"error"' in server.handle_embeddings('{"input": "a"}'):
            # The file names no way to make one vector of a text's: it was trained to generate.
            found.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            found.hostnames = [str(self._folder / "embed.sock")]
            server = xllamacpp.Server(found)
        return server

    def _parameters(self, path: Path, n_threads: int) -> Any:  # noqa: ANN401 - the library's
        found = xllamacpp.CommonParams()
        found.model.path, found.model_alias = str(path), {self._card.name}
        found.hostnames = [str(self._folder / "llama.sock")]
        found.n_ctx, found.n_parallel, found.kv_unified = N_CONTEXT, N_PARALLEL, True
        found.n_predict = self._max_tokens
        found.cpuparams.n_threads = found.cpuparams_batch.n_threads = n_threads
        found.use_jinja, found.warmup, found.verbosity = True, False, -1
        if self._is_embedder:
            found.embedding, found.n_batch, found.n_ubatch = True, N_CONTEXT, N_CONTEXT  # a text is read at once
        return found

    def _sent(self, request: ChatRequest) -> tuple[Format, dict[str, Any], Translated | None]:
        """The format in which llama.cpp is asked, the body, and the way back where there is one."""
        form, name, translated = format_of(request), self._card.name, None
        if self._is_embedder != (form is EMBEDDINGS):
            if self._is_embedder:
                raise RequestError(f"{name} embeds texts and answers none.", hint="POST /v1/embeddings.")
            raise RequestError(f"{name} generates text and embeds none.", hint='Name the file again, task = "embed".')
        body = request.raw or encode_request(request)
        if form not in self._translations.spoken:
            translated = Translated(self._translations.of(form), request, name)
            form, body = translated.server, translated.body
        return form, {**msgspec.json.decode(body), "model": name}, translated

    async def _pieces(self, form: Format, body: dict[str, Any], *, is_stream: bool) -> AsyncGenerator[bytes, None]:
        """The JSON objects that llama.cpp says. Raises `ModelStatusError` for its errors."""
        if self._n_asked >= MAX_WAITING:
            raise ModelError(
                f"{self._card.name} has {self._n_asked} requests waiting.", model=self._card.name, status=503
            )
        said: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        loop, is_left = asyncio.get_running_loop(), threading.Event()
        asked = msgspec.json.encode({**body, "stream": is_stream} if form is not EMBEDDINGS else body).decode()

        def hear(piece: str | Exception | None) -> bool:
            loop.call_soon_threadsafe(said.put_nowait, piece)
            return is_left.is_set()

        work = (self._call(form), asked, self._tokens(body, len(asked)), hear, is_left)
        thread = threading.Thread(target=self._ask, args=work, daemon=True)
        thread.start()
        self._n_asked += 1
        try:
            while (piece := await said.get()) is not None:
                yield self._checked(piece)
        finally:
            is_left.set()
            self._room.look()
            self._n_asked -= 1
            await asyncio.to_thread(thread.join)

    def _call(self, form: Format) -> Callable[[str, Callable[[str], bool]], object]:
        if form is EMBEDDINGS:
            return lambda asked, hear: hear(self._server.handle_embeddings(asked))
        calls: dict[Format, Callable[[str, Callable[[str], bool]], object]] = {
            CHAT: self._server.handle_chat_completions,
            COMPLETIONS: self._server.handle_completions,
        }
        return calls[form]

    def _tokens(self, body: dict[str, Any], n_bytes: int) -> int:
        """The most that a request can hold of the context: a token is a byte at least. Several answers take it all."""
        limits = [body[name] for name in _LIMITS if isinstance(body.get(name), int)]
        n_most = n_bytes + _TEMPLATE_TOKENS + max(limits, default=self._max_tokens)
        is_one = body.get("n") in (None, 1) and not isinstance(body.get("prompt"), list) and min(limits, default=1) > 0
        return min(n_most, N_CONTEXT) if is_one else N_CONTEXT

    def _ask(
        self,
        call: Callable[[str, Callable[[str], bool]], object],
        body: str,
        n_tokens: int,
        hear: Callable[[str | Exception | None], bool],
        is_left: threading.Event,
    ) -> None:
        if self._room.enter(n_tokens, is_left):
            try:
                call(body, hear)
            except (RuntimeError, ValueError) as error:
                hear(error)
            finally:
                self._room.leave(n_tokens)
        hear(None)

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


class _Room:
    """The context that all requests share, given to threads in the order of asking."""

    def __init__(self, n_tokens: int) -> None:
        self._n_free = n_tokens
        self._waiting: deque[threading.Event] = deque()
        self._changed = threading.Condition()

    def enter(self, n_tokens: int, is_left: threading.Event) -> bool:
        """Wait until there is room for so many; False where who asked has left before."""
        with self._changed:
            self._waiting.append(is_left)
            self._changed.wait_for(
                lambda: is_left.is_set() or (self._waiting[0] is is_left and self._n_free >= n_tokens)
            )
            self._waiting.remove(is_left)
            has_room = not is_left.is_set()
            self._n_free -= n_tokens * has_room
            self._changed.notify_all()
            return has_room

    def leave(self, n_tokens: int) -> None:
        with self._changed:
            self._n_free += n_tokens
            self._changed.notify_all()

    def look(self) -> None:
        """Somebody has left."""
        with self._changed:
            self._changed.notify_all()
