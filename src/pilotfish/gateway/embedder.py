"""Embeddings by the encoder that all specialists share, for requests that ask for it by its name, and for routes.

One thread of its own: a list of a thousand texts must not make the specialists wait, and the encoder may be called
from several threads. What would queue for too long is refused. The encoder is loaded with the first request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from pilotfish.core.errors import ModelError, SpecialistError, UnknownModelError, UserError
from pilotfish.models.wire.embeddings import TextsToEmbed, encode_embeddings, texts_to_embed

MAX_WAITING = 64


class TextEncoder(Protocol):
    """A loaded encoder."""

    @property
    def dimension(self) -> int:
        """Of its vectors."""

    @property
    def sha256(self) -> str:
        """Its identity."""

    def encode(self, texts: Sequence[str]) -> Any:  # noqa: ANN401 - an array, whose library is not known here
        """Its float32 vectors, a row each."""

    def count_tokens(self, text: str) -> int:
        """How many tokens of `text` it reads."""


class Embedder:
    """The shared encoder behind `/v1/embeddings`. `name` is the one to ask for it by, told where `is_listed`."""

    def __init__(
        self,
        name: str,
        load: Callable[[], TextEncoder],
        *,
        load_own: Callable[[str], TextEncoder | None] = lambda sha256: None,
        is_listed: bool = True,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`load_own` opens a route's own encoder by its hash; None where there is none."""
        self.name = name
        self.is_listed = is_listed
        self._load = load
        self._load_own = load_own
        self._own: TextEncoder | None = None
        self._max_waiting = max_waiting
        self._n_waiting = 0
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pilotfish-embeddings")

    async def embed(self, raw: bytes) -> tuple[bytes, int]:
        """The reply to an embeddings request, and how many tokens were read.

        Raises `RequestError` where the request cannot be honoured, `UnknownModelError` where the encoder is not
        installed here, `ModelError` (503) where too many wait, and what running the encoder raises.
        """
        if self._n_waiting >= self._max_waiting:
            raise ModelError(f"{self.name} has {self._n_waiting} requests waiting.", model=self.name, status=503)
        self._n_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._embed, raw)
        finally:
            self._n_waiting -= 1

    async def vector(self, text: str, sha256: str) -> list[float] | None:
        """The embedding of one text by the encoder of this hash, a route's own or the shared one; None where there is
        none, none can be loaded, or too many wait."""
        if self._n_waiting >= self._max_waiting:
            return None
        self._n_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._vector, text, sha256)
        except (UserError, SpecialistError):
            return None
        finally:
            self._n_waiting -= 1

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._threads.shutdown(cancel_futures=True)

    def _vector(self, text: str, sha256: str) -> list[float] | None:
        if self._own is None or self._own.sha256 != sha256:
            self._own = self._load_own(sha256)
        encoder = self._own or self._load()
        if encoder.sha256 != sha256:
            return None
        found: list[float] = encoder.encode([text])[0].tolist()
        return found

    def _embed(self, raw: bytes) -> tuple[bytes, int]:
        try:
            encoder = self._load()
        except UserError as error:
            raise UnknownModelError(f"{self.name} is not ready here. {error.message}", hint=error.hint) from error
        asked: TextsToEmbed = texts_to_embed(raw, encoder.dimension)
        n_tokens = sum(encoder.count_tokens(text) for text in asked.texts)
        vectors = [row.tobytes() for row in encoder.encode(asked.texts)]
        return encode_embeddings(vectors, asked, model=self.name, n_tokens=n_tokens), n_tokens
