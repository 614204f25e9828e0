"""`POST /graphql`: how a query comes in and its answer goes out (the GraphQL over HTTP specification).

A query changes nothing, but costs; so it takes a body of JSON, which no form of another site can send without being
asked first. Who may see the pages may query, introspection included. The library is an extra, loaded with the first
query.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pilotfish.core.errors import MissingExtraError, NotAllowedError, RequestError, TooLargeError
from pilotfish.gateway import asgi
from pilotfish.gateway.site import security
from pilotfish.gateway.site.page import Seen

PATH = "/graphql"
MAX_BYTES = 32 << 10

_RESPONSE = b"application/graphql-response+json"


class _Asked(msgspec.Struct, rename="camel"):
    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None


_asked = msgspec.json.Decoder(_Asked)


def check(scope: asgi.Message, headers: asgi.ClientHeaders) -> None:
    """Raise `RequestError` for what is no query, or may be one of another site's."""
    if scope["method"] != "POST":
        error = RequestError("A query is sent by POST, as JSON.", status=405)
        error.headers = (("allow", "POST"),)
        raise error
    if not security.is_same_site(headers):
        raise NotAllowedError(
            "This query was sent by another site.", param="origin", hint="Ask from the gateway's own."
        )
    kind = _header(scope, b"content-type").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise RequestError("The body of a query is JSON.", status=415, hint="Send `content-type: application/json`.")


async def read(headers: asgi.ClientHeaders, receive: asgi.Receive) -> bytes | None:
    """The body of a query, None where the client has gone. Raises `TooLargeError`."""
    try:
        return await asgi.read_body(receive, headers.content_length, MAX_BYTES)
    except TooLargeError as error:
        raise TooLargeError(f"A query has at most {MAX_BYTES:,} bytes.") from error


def answer(body: bytes, seen: Seen) -> dict[str, Any]:
    """The response to what was sent. Reads log and registry, so not from the event loop. Raises `RequestError`."""
    try:
        asked = _asked.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        hint = 'It is {"query": "...", "variables": {...}, "operationName": "..."}, the last two where needed.'
        raise RequestError(f"This is no query: {error}.", hint=hint) from error
    if not asked.query.strip():
        raise RequestError("The query is empty.", param="query")
    try:
        from pilotfish.gateway.site import graphql_schema  # noqa: PLC0415 - an extra, and heavy
    except ModuleNotFoundError as error:
        missing = MissingExtraError("graphql", "strawberry-graphql")
        raise RequestError(missing.message, status=501, hint=missing.hint) from error
    return graphql_schema.answer(seen, asked.query, asked.variables, asked.operation_name)


async def respond(scope: asgi.Message, send: asgi.Send, found: dict[str, Any]) -> None:
    """Send a response. What was refused whole has status 400 where the client knows GraphQL's own media type."""
    is_own = _RESPONSE in _header(scope, b"accept")
    kind = _RESPONSE if is_own else b"application/json"
    status = 400 if is_own and "data" not in found else 200
    headers = [(b"content-type", kind + b"; charset=utf-8"), *security.HEADERS]
    await asgi.respond(send, status, headers, msgspec.json.encode(found))


def _header(scope: asgi.Message, wanted: bytes) -> bytes:
    value: bytes = next((value for name, value in scope["headers"] if name == wanted), b"")
    return value
