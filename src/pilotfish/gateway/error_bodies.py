"""Errors as OpenAI-shaped bodies and HTTP status codes; nowhere else is either decided.

A model server's own error goes to the client as it came, `retry-after` included. What we say
ourselves names no address, key or configuration.
"""

from __future__ import annotations

import msgspec

from pilotfish.core.errors import ModelError, ModelStatusError, RequestError, UserError
from pilotfish.gateway.asgi import JSON, Headers

CLIENT_LEFT = 499
"""The status logged where the client went before its reply (nginx's number; it is never sent)."""


def reply(error: Exception) -> tuple[int, Headers, bytes]:
    """Status, headers and body for an error. Anything that is not ours is a 500 that tells nothing."""
    if isinstance(error, ModelStatusError):
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers]
        if _is_json_object(error.body):
            return error.status, headers, error.body
        headers = [header for header in headers if header[0] != b"content-type"]
        return error.status, [*headers, JSON], body(error)
    said = error.headers if isinstance(error, RequestError) else ()
    return status_of(error), [JSON, *((name.encode(), value.encode()) for name, value in said)], body(error)


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    if isinstance(error, RequestError | ModelError):
        return error.status
    return 400 if isinstance(error, UserError) else 500


def body(error: Exception) -> bytes:
    """The error as the JSON object that OpenAI's clients read."""
    return msgspec.json.encode(error_object(error))


def error_object(error: Exception) -> dict[str, dict[str, str | None]]:
    """The same before it is encoded, for an event in a stream."""
    if not isinstance(error, UserError | ModelError):
        # What fails in the store names files.
        return _object("The gateway failed. This is a fault of ours; its log says more.", "internal_error", None)
    kind = "invalid_request_error" if isinstance(error, UserError) else "upstream_error"
    return _object(str(error), kind, error.code, error.param if isinstance(error, RequestError) else None)


def not_found(path: str) -> bytes:
    """The body of a 404."""
    message = f"Unknown path {path!r}. This gateway serves /v1/chat/completions and /v1/models."
    return msgspec.json.encode(_object(message, "invalid_request_error", "not_found"))


def wrong_method(method: str, allowed: str) -> bytes:
    """The body of a 405."""
    message = f"The method {method} is not allowed here; use {allowed}."
    return msgspec.json.encode(_object(message, "invalid_request_error", "method_not_allowed"))


def foreign_site(what: str) -> bytes:
    """The body of a 403 for a request that a web page of another site may have caused."""
    message = f"{what} is not this machine. A gateway on loopback answers only programs of the same machine."
    return msgspec.json.encode(_object(message, "invalid_request_error", "foreign_site"))


def _object(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, dict[str, str | None]]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _is_json_object(data: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(data), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
