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

_PUT_BACK = (
    "Of `route train --finetune`: pilotfish route adopt ROUTE puts it back, where ROUTE.encoder/ stands beside the "
    "route. Of `route train --encoder`: name the same encoder in [learning] encoder. Else train the route anew."
)


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
        self._broken: frozenset[str] = frozenset()
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
        none, none could be loaded when `fault` looked last, or too many wait."""
        if self._n_waiting >= self._max_waiting or sha256 in self._broken:
            return None
        self._n_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._vector, text, sha256)
        except SpecialistError:
            return None
        finally:
            self._n_waiting -= 1

    async def fault(self, sha256: str) -> SpecialistError | None:
        """Why the encoder of this hash cannot be loaded; None once it is, for requests to find it ready."""
        fault = await asyncio.get_running_loop().run_in_executor(self._threads, self._fault, sha256)
        # To read a broken one anew for each request would take a core what it takes one to answer.
        self._broken = frozenset() if fault is None else frozenset((sha256,))
        return fault

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._threads.shutdown(cancel_futures=True)

    def _vector(self, text: str, sha256: str) -> list[float]:
        found: list[float] = self._of(sha256).encode([text])[0].tolist()
        return found

    def _fault(self, sha256: str) -> SpecialistError | None:
        try:
            self._of(sha256)
        except SpecialistError as error:
            return error
        return None

    def _of(self, sha256: str) -> TextEncoder:
        """The route's own encoder of this hash, else the shared one. Raises `SpecialistError` where it is neither."""
        if self._own is not None and self._own.sha256 == sha256:
            return self._own
        try:
            own = self._load_own(sha256)
        except (SpecialistError, UserError) as error:
            raise SpecialistError(error.message, hint=error.hint or _PUT_BACK) from error
        except OSError as error:
            raise SpecialistError(f"The home's encoders cannot be read: {error}.", hint=_PUT_BACK) from error
        if own is not None and own.sha256 == sha256:
            self._own = own
            return own
        if own is not None:
            raise SpecialistError(f"In its place the home holds the encoder {own.sha256[:12]}.", hint=_PUT_BACK)
        why = "is another"
        try:
            shared = self._load()
        except (SpecialistError, UserError) as error:
            why = f"cannot be loaded ({error.message.rstrip('.')})"
        else:
            if shared.sha256 == sha256:
                return shared
        raise SpecialistError(f"The home does not hold it, and the shared encoder {why}.", hint=_PUT_BACK)

    def _embed(self, raw: bytes) -> tuple[bytes, int]:
        try:
            encoder = self._load()
        except UserError as error:
            raise UnknownModelError(f"{self.name} is not ready here. {error.message}", hint=error.hint) from error
        asked: TextsToEmbed = texts_to_embed(raw, encoder.dimension)
        n_tokens = sum(encoder.count_tokens(text) for text in asked.texts)
        vectors = [row.tobytes() for row in encoder.encode(asked.texts)]
        return encode_embeddings(vectors, asked, model=self.name, n_tokens=n_tokens), n_tokens
