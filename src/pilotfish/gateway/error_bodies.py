"""Errors as the words of a client's family and HTTP status codes; nowhere else is either decided.

A model server's own error goes to the client as it came, `retry-after` included. What we say
ourselves names no address, key or configuration.
"""

from __future__ import annotations

import math

import msgspec

from pilotfish.core.errors import ModelDownError, ModelError, ModelStatusError, RequestError, UserError
from pilotfish.gateway.asgi import JSON, Headers
from pilotfish.models.wire.format import Fault, Format

CLIENT_LEFT = 499
"""The status logged where the client went before its reply (nginx's number; it is never sent)."""


def reply(error: Exception, form: Format) -> tuple[int, Headers, bytes]:
    """Status, headers and body for an error. Anything that is not ours is a 500 that tells nothing."""
    if isinstance(error, ModelStatusError):
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers]
        if _is_json_object(error.body):
            return error.status, headers, error.body
        headers = [header for header in headers if header[0] != b"content-type"]
        return error.status, [*headers, JSON], form.encode_error(fault_of(error))
    said = error.headers if isinstance(error, RequestError) else ()
    headers = [JSON, *((name.encode(), value.encode()) for name, value in said)]
    if isinstance(error, ModelDownError):
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    return status_of(error), headers, form.encode_error(fault_of(error))


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    if isinstance(error, RequestError | ModelError):
        return error.status
    return 400 if isinstance(error, UserError) else 500


def fault_of(error: Exception) -> Fault:
    """What a client is told of an error."""
    if not isinstance(error, UserError | ModelError):
        # What fails in the store names files.
        message = "The gateway failed. This is a fault of ours; its log says more."
        return Fault(message=message, kind="internal_error", code="internal_error", status=500)
    kind = "invalid_request_error" if isinstance(error, UserError) else "upstream_error"
    param = error.param if isinstance(error, RequestError) else ""
    return Fault(message=str(error), kind=kind, code=error.code, status=status_of(error), param=param)


def not_found(path: str) -> Fault:
    """A path that nothing stands at."""
    message = f"Unknown path {path!r}. GET /openapi.json says what this gateway serves."
    return Fault(message=message, kind="invalid_request_error", code="not_found", status=404)


def no_model(name: str) -> Fault:
    """A model that the list does not hold."""
    message = f"Unknown model {name!r}. GET /v1/models lists those that have a name here."
    return Fault(message=message, kind="invalid_request_error", code="not_found", status=404)


def wrong_method(method: str, allowed: str) -> Fault:
    """A known path with another method."""
    message = f"The method {method} is not allowed here; use {allowed}."
    return Fault(message=message, kind="invalid_request_error", code="method_not_allowed", status=405)


def foreign_site(what: str) -> Fault:
    """A request that a web page of another site may have caused."""
    message = f"{what} is not this machine. A gateway on loopback answers only programs of the same machine."
    return Fault(message=message, kind="invalid_request_error", code="foreign_site", status=403)


def _is_json_object(data: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(data), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
