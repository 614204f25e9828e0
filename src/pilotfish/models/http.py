"""An OpenAI-compatible endpoint over HTTP.

Bodies are sent and answers relayed as the bytes they are; one deadline covers a call, its stream
included. Nothing is asked twice here: a billed answer must never be bought twice silently. Redirects
are refused, since following one would carry the key to another host.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence

from pilotfish.core.errors import ConfigError, ModelFormatError, ModelStatusError
from pilotfish.core.messages import Answer, ChatRequest, Price
from pilotfish.models import wire
from pilotfish.models.base import ModelCard
from pilotfish.models.connection import Endpoint

# Headers that end with the connection, or that speak about the hop and not about the answer.
_HOP_HEADERS = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"transfer-encoding",
        b"content-length",
        b"upgrade",
        b"trailer",
        b"date",
        b"server",
        b"set-cookie",
        b"alt-svc",
        b"strict-transport-security",
    )
)


# Receipts are ours to give: those of a Pilotfish upstream, or of one that claims to be, end here.
_RECEIPT = b"x-pilotfish-"


class HttpModel:
    """One model behind an OpenAI-compatible base URL (up to and including `/v1`)."""

    def __init__(
        self,
        *,
        url: str,
        name: str,
        key: str = "",
        timeout_s: float = 600.0,
        connect_timeout_s: float = 10.0,
        price: Price | None = None,
        is_local: bool = False,
    ) -> None:
        """`key` is sent as a bearer token; where it is empty the client's own headers are passed on.

        Raises `ConfigError` where URL or key cannot be used.
        """
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"The key for {name!r} holds characters that no HTTP header may carry.")
        base, mark, query = url.partition("?")
        self._endpoint = Endpoint(
            base.rstrip("/") + "/chat/completions" + mark + query,
            model=name,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
        )
        self._key = key
        self._own_headers = (("authorization", f"Bearer {key}"),) if key else ()
        self._card = ModelCard(name=name, price=price, is_local=is_local)

    @property
    def card(self) -> ModelCard:
        """Name and stated price."""
        return self._card

    async def answer(self, request: ChatRequest) -> Answer:
        """The whole answer; cancelling the call cuts the connection at once."""
        started_s = time.perf_counter()
        exchange = await self._endpoint.post(self._headers(request), self._body(request), is_whole=True)
        try:
            body = await exchange.whole()
            headers = self._checked(exchange.status, exchange.headers, body)
        finally:
            self._endpoint.release(exchange)
        latency_s = time.perf_counter() - started_s
        return wire.decode_answer(body, model=self._card.name, headers=headers, latency_s=latency_s)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The event bytes as they come; closing the iterator cuts the connection at once."""
        exchange = await self._endpoint.post(self._headers(request), self._body(request), is_whole=False)
        try:
            content_type = next((value for name, value in exchange.headers if name == b"content-type"), b"")
            if exchange.status != 200 or not content_type.startswith(b"text/event-stream"):
                self._checked(exchange.status, exchange.headers, await exchange.whole())
                kind = content_type.decode("latin-1")
                raise ModelFormatError(
                    f"{self._card.name} answered a stream request with content type {kind!r}.", model=self._card.name
                )
            while piece := await exchange.piece():
                yield piece
        finally:
            self._endpoint.release(exchange)

    async def aclose(self) -> None:
        """Close the idle connections."""
        self._endpoint.close()

    def _body(self, request: ChatRequest) -> bytes:
        body = request.raw or wire.encode_request(request)
        return body if request.model else wire.replace_model(body, self._card.name)

    def _headers(self, request: ChatRequest) -> Sequence[tuple[str, str]]:
        if self._own_headers or not isinstance(request, wire.ClientRequest):
            return self._own_headers
        return request.headers

    def _checked(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[tuple[str, str], ...]:
        """The headers that travel on to the client. Raises where the answer cannot be used."""
        kept = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in headers
            if name not in _HOP_HEADERS and not name.startswith(_RECEIPT)
        )
        if status >= 400:
            if self._key:
                # Some servers repeat the key that they refuse.
                body = body.replace(self._key.encode(), b"***")
                kept = tuple((name, value.replace(self._key, "***")) for name, value in kept)
            raise ModelStatusError(model=self._card.name, status=status, body=body, headers=kept)
        if status != 200:
            raise ModelFormatError(
                f"{self._card.name} answered with HTTP {status} where 200 was expected.", model=self._card.name
            )
        if any(name == "content-encoding" and value != "identity" for name, value in kept):
            raise ModelFormatError(
                f"{self._card.name} compressed its answer although it was asked not to.", model=self._card.name
            )
        return kept
