"""The OpenAPI document of the gateway's own endpoints.

Of a request it states only what is read here: every other field of a vendor's interface passes untouched, and its
documentation is the vendor's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from pilotfish.models.wire.format import Format, encode
from pilotfish.models.wire.formats import FORMATS

_ERROR = {"$ref": "#/components/schemas/Error"}
_OBJECT = {"type": "object"}
_NOT_READY = {"description": "What it is", "content": {"application/json": {"schema": _OBJECT}}}
_MARK = {
    "type": "object",
    "required": ["request_id"],
    "additionalProperties": False,
    "properties": {
        "request_id": {"type": "string"},
        "score": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "thumbs": {"enum": ["up", "down", None]},
        "comment": {"type": ["string", "null"]},
    },
}
_READS: dict[str, dict[str, Any]] = {
    "/v1/models": {"summary": "The models that have a name here"},
    "/v1/models/{model}": {"summary": "One of them", "parameters": ["model"]},
    "/health/live": {"summary": "Whether the gateway runs"},
    "/health/ready": {"summary": "Whether it can do its work, and what keeps it from it", "also": {"503": _NOT_READY}},
    "/healthz": {"summary": "The same as /health/live"},
    "/metrics": {"summary": "Counts for Prometheus", "kind": "text/plain"},
    "/pilotfish/status": {"summary": "What the gateway does right now, without any text"},
    "/openapi.json": {"summary": "This document"},
}
_MESSAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": {"type": "string"}, "content": {}, "tool_calls": {}},
    },
}
_REFUSALS = {
    "400": "The body cannot be read, or asks for what cannot be done",
    "401": "A key is needed, and none came that is valid",
    "402": "A limit of the key is reached, and waiting does not help",
    "403": "The key may not use this model, or a web page of another site may have sent this",
    "404": "No such model",
    "405": "Another method",
    "408": "The body did not come in time",
    "413": "The body is larger than the limit",
    "415": "The body is compressed",
    "429": "A limit of the key is reached; `retry-after` says for how long",
    "451": "The request holds personal data that must stay here",
    "500": "A fault of ours",
    "502": "The model failed",
    "503": "The model is left alone for a moment, or too many wait for the encoder",
    "504": "The model did not answer in time",
}
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_OF_THE_MODEL = {
    "description": "The model's own error: its status, headers and body as they came",
    "content": {"application/json": {"schema": {"type": "object"}}},
}


@cache
def document() -> bytes:
    """The document as JSON."""
    paths: dict[str, Any] = {"/v1" + form.path: {"post": _post(form)} for form in FORMATS}
    paths["/v1/feedback"] = {"post": _feedback()}
    paths |= {path: {"get": _get(**described)} for path, described in _READS.items()}
    both = {"anyOf": [_error("error"), _error("type", "error")]}
    return encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Pilotfish", "version": version("pilotfish")},
            "paths": paths,
            "components": {"schemas": {"Error": both}, "securitySchemes": _KEYS},
            # None is needed on loopback as long as there is none.
            "security": [{}, *({name: []} for name in _KEYS)],
        }
    )


def _post(form: Format) -> dict[str, Any]:
    has_messages = form.family == "anthropic" or form.path == "/chat/completions"
    properties: dict[str, Any] = {"model": {"type": ["string", "null"]}}
    if form.is_text:
        properties["stream"] = {"type": ["boolean", "null"]}
    if has_messages:
        properties["messages"] = _MESSAGES
    schema = {"type": "object", "properties": properties, "required": ["messages"] if has_messages else []}
    answers: dict[str, Any] = {"application/json": {"schema": _OBJECT}}
    if form.is_text:
        answers["text/event-stream"] = {}
    return {
        "operationId": form.path.strip("/").replace("/", "_"),
        "summary": f"Answer a {form.noun}",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {"description": "The answer; events where `stream` asks for them", "content": answers},
            **_refusals(*_REFUSALS),
            "default": _OF_THE_MODEL,
        },
    }


def _feedback() -> dict[str, Any]:
    return {
        "operationId": "feedback",
        "summary": "Mark the answer to a request: a score, or thumbs",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _MARK}}},
        "responses": {
            "200": {"description": "The mark is kept", "content": {"application/json": {"schema": _OBJECT}}},
            **_refusals("400", "401", "403", "404", "405", "408", "413", "415", "429", "500"),
        },
    }


def _get(
    summary: str, parameters: Sequence[str] = (), kind: str = "application/json", also: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    named = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in parameters]
    refusals = _refusals("401", "403", "405", *(["404"] if parameters else []))
    schema = _OBJECT if kind == "application/json" else {"type": "string"}
    answer = {"description": summary, "content": {kind: {"schema": schema}}}
    return {"summary": summary, "parameters": named, "responses": {"200": answer, **refusals, **(also or {})}}


def _refusals(*statuses: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ERROR}}
    return {status: {"description": _REFUSALS[status], "content": content} for status in statuses}


def _error(*required: str) -> dict[str, Any]:
    """An error object: OpenAI's, or Anthropic's, which has a type beside."""
    message = {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}
    return {"type": "object", "required": list(required), "properties": {"error": message}}
