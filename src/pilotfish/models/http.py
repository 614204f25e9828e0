"""A model server over HTTP, of OpenAI's family or Anthropic's.

Bodies are sent and answers relayed as the bytes they are; one deadline covers a call, its stream
included. Nothing is asked twice here: who may be asked again is known to `failover.py`. Redirects
are refused, since following one would carry the key to another host.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from pilotfish.core.errors import ConfigError, ModelFormatError, ModelStatusError
from pilotfish.core.messages import Answer, ChatRequest, Family
from pilotfish.models.base import Dialect, ModelCard
from pilotfish.models.connection import Endpoint
from pilotfish.models.exchange import DEFAULT_LIMITS, Limits
from pilotfish.models.translate.relay import Translated, Translations
from pilotfish.models.wire.chat import encode_request
from pilotfish.models.wire.format import ClientRequest, Format, replace_model
from pilotfish.models.wire.formats import format_of

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

_Headers = tuple[tuple[str, str], ...]
_VERSIONS = frozenset(("anthropic-version", "anthropic-beta"))
_TRACING = frozenset(("traceparent", "tracestate"))
"""Of the client's headers those that go to every server: they tie spans together, and say nothing of who asks."""
ANTHROPIC_VERSION = "2023-06-01"
"""Sent to a server of Anthropic's family where the client named none, and with what was translated: 2026-10-21 takes
neither temperature nor top_p (platform.claude.com/docs/en/api/migration-2026-10-21, read on 22 Nov 2026)."""


class HttpModel:
    """One model behind a base URL (up to and including `/v1`); the path is that of a request's format."""

    def __init__(
        self,
        *,
        url: str,
        name: str,
        dialect: Dialect = Dialect(),  # noqa: B008 - frozen
        key: str = "",
        timeout_s: float = 600.0,
        limits: Limits = DEFAULT_LIMITS,
        takes_client_keys: bool = True,
    ) -> None:
        """`key` is sent as the server's family wants it; where it is empty the client's is, if it `takes_client_keys`.

        Requests in a format that is not of its `dialect` are translated.

        Raises `ConfigError` where URL or key cannot be used.
        """
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"The key for {name!r} holds characters that no HTTP header may carry.")
        self._endpoint = Endpoint(url, model=name, timeout_s=timeout_s, limits=limits)
        self._family = dialect.family
        self._translations = Translations(dialect)
        self._secret = key
        self._key = (_key_header(dialect.family, key),) if key else ()
        self._takes_client_keys = takes_client_keys
        self._card = ModelCard(name=name)

    @property
    def card(self) -> ModelCard:
        """Its name; what it costs is said of the model, not of a server."""
        return self._card

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return self._endpoint.host

    async def answer(self, request: ChatRequest, *, timeout_s: float | None = None) -> Answer:
        """The whole answer, within `timeout_s` where one is given; cancelling cuts the connection at once."""
        started_s = time.perf_counter()
        form, headers, body, translated = self._sent(request)
        exchange = await self._endpoint.post(headers, body, is_whole=True, path=form.path, timeout_s=timeout_s)
        try:
            body = await exchange.whole()
            kept = self._checked(exchange.status, exchange.headers, body)
        except ModelStatusError as error:
            raise (error if translated is None else translated.failure(error)) from None
        finally:
            self._endpoint.release(exchange)
        latency_s = time.perf_counter() - started_s
        answer = form.decode_answer(body, model=self._card.name, headers=kept, latency_s=latency_s)
        return answer if translated is None else translated.answer(answer)

    async def stream(self, request: ChatRequest, *, timeout_s: float | None = None) -> AsyncGenerator[bytes, None]:
        """The event bytes as they come; closing the iterator cuts the connection at once."""
        form, headers, body, translated = self._sent(request)
        exchange = await self._endpoint.post(headers, body, is_whole=False, path=form.path, timeout_s=timeout_s)
        try:
            content_type = next((value for name, value in exchange.headers if name == b"content-type"), b"")
            if exchange.status != 200 or not content_type.startswith(b"text/event-stream"):
                self._checked(exchange.status, exchange.headers, await exchange.whole())
                kind = content_type.decode("latin-1")
                raise ModelFormatError(
                    f"{self._card.name} answered a stream request with content type {kind!r}.", model=self._card.name
                )
            while piece := await exchange.piece():
                if translated is None:
                    yield piece
                elif said := translated.feed(piece):
                    yield said
            if translated is not None:
                yield translated.end()
        except ModelStatusError as error:
            raise (error if translated is None else translated.failure(error)) from None
        finally:
            self._endpoint.release(exchange)

    async def aclose(self) -> None:
        """Close the idle connections."""
        self._endpoint.close()

    def _sent(self, request: ChatRequest) -> tuple[Format, _Headers, bytes, Translated | None]:
        """The format in which the server is asked, headers and body, and the way back where there is one."""
        form = format_of(request)
        given = request.headers if isinstance(request, ClientRequest) else ()
        if not self._takes_client_keys:
            given = tuple(header for header in given if header[0] in _VERSIONS or header[0] in _TRACING)
        if form not in self._translations.spoken:
            translated = Translated(self._translations.of(form), request, self._card.name)
            # Between formats of one family the client's headers keep their meaning.
            is_foreign = form.family != self._family
            headers = _headers_for(self._family, self._key, given) if is_foreign else self._headers(given)
            return translated.server, headers, translated.body, translated
        body = request.raw or encode_request(request)
        return form, self._headers(given), body if request.model else replace_model(body, self._card.name), None

    def _headers(self, given: _Headers) -> _Headers:
        return _headers_for(self._family, self._key, given, keeps=_VERSIONS) if self._key else given

    def _checked(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[tuple[str, str], ...]:
        """The headers that travel on to the client. Raises where the answer cannot be used."""
        kept = tuple(
            [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in headers
                if name not in _HOP_HEADERS and not name.startswith(_RECEIPT)
            ]
        )
        if status >= 400:
            if self._secret:
                # Some servers repeat the key that they refuse.
                body = body.replace(self._secret.encode(), b"***")
                kept = tuple((name, value.replace(self._secret, "***")) for name, value in kept)
            raise ModelStatusError(model=self._card.name, status=status, body=body, headers=kept)
        if status != 200:
            raise ModelFormatError(
                f"{self._card.name} answered with HTTP {status} where 200 was expected.", model=self._card.name
            )
        for name, value in kept:
            if name == "content-encoding" and value != "identity":
                raise ModelFormatError(
                    f"{self._card.name} compressed its answer although it was asked not to.", model=self._card.name
                )
        return kept


def _key_header(family: Family, key: str) -> tuple[str, str]:
    return ("x-api-key", key) if family == "anthropic" else ("authorization", f"Bearer {key}")


def _headers_for(family: Family, own: _Headers, given: _Headers, *, keeps: frozenset[str] = frozenset()) -> _Headers:
    """Our key, else the client's as the family wants it; for Anthropic's also which version a body has."""
    headers = dict(given)
    key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    rows = own or ((_key_header(family, key),) if key else ())
    tracing = tuple(header for header in given if header[0] in _TRACING)
    if family == "openai":
        return (*rows, *tracing)
    versions = {"anthropic-version": ANTHROPIC_VERSION} | {name: value for name, value in given if name in keeps}
    return (*rows, *versions.items(), *tracing)
