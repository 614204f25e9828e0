"""Spans for OpenTelemetry: one for each request, made after its reply has left, from what its log row holds.

The attributes are those of the semantic conventions for generative AI, and `pilotfish.*` for the receipt. No text of a
request or an answer is among them. A client's `traceparent` becomes the parent. Spans are sent by a thread of the
library's; where the collector is away, they are dropped and nothing waits.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

from pilotfish.core.errors import MissingExtraError
from pilotfish.core.log_row import RequestRow
from pilotfish.core.version import __version__
from pilotfish.gateway.counts import code_of
from pilotfish.gateway.rows import Turn

if TYPE_CHECKING:  # an extra
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "pilotfish"
PATH = "/v1/traces"
SEND_TIMEOUT_S = 5.0
"""For one batch; a gateway that is told to end waits for the last one no longer than this."""

MAX_NAME = 256
"""Characters of a model's name, which clients choose."""

OPERATIONS = {"/completions": "text_completion", "/embeddings": "embeddings", "/messages/count_tokens": "count_tokens"}
"""Path to `gen_ai.operation.name`; every other one is a chat."""


class Spans(Protocol):
    """Takes note of finished requests."""

    def note(self, turn: Turn, row: RequestRow) -> None:
        """Make the span of one request."""

    async def aclose(self) -> None:
        """Send what is there, and end."""


class NoSpans:
    """Where nobody asked for any."""

    def note(self, turn: Turn, row: RequestRow) -> None:
        """Nothing."""

    async def aclose(self) -> None:
        """Nothing."""


class OtelSpans:
    """Spans by OpenTelemetry's library, sent over OTLP and HTTP."""

    def __init__(self, provider: TracerProvider) -> None:
        """`provider` samples, batches and sends."""
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE, __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._kind, self._failed = SpanKind.SERVER, StatusCode.ERROR

    def note(self, turn: Turn, row: RequestRow) -> None:
        """Make the span of one request."""
        ended_ns = time.time_ns()
        found = attributes(turn, row)
        span = self._tracer.start_span(
            _name(found),
            context=self._extract(dict(turn.request.headers)),
            kind=self._kind,
            attributes=found,
            start_time=ended_ns - int(row.latency_s * 1e9),
        )
        if "error.type" in found:
            span.set_status(self._failed)
        span.end(ended_ns)

    async def aclose(self) -> None:
        """Send what is there, and end."""
        await asyncio.to_thread(self._provider.shutdown)


def open_spans(otlp_url: str) -> Spans:
    """Spans that are sent to the collector at a base URL; none where it is empty.

    Headers, sampling and resource attributes are those of OpenTelemetry's own variables (`OTEL_...`). Raises
    `MissingExtraError` where the library is not installed.
    """
    if not otlp_url:
        return NoSpans()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("otel", "opentelemetry") from error
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=otlp_url.rstrip("/").removesuffix(PATH) + PATH, timeout=SEND_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelSpans(provider)


def attributes(turn: Turn, row: RequestRow) -> dict[str, Any]:
    """What a span says of one request; only what is known."""
    form = turn.request.format
    is_here = row.reason in ("certified", "encoder")
    code = code_of(row)
    said: dict[str, Any] = {
        "gen_ai.operation.name": OPERATIONS.get(form.path, "chat"),
        "gen_ai.provider.name": SERVICE if is_here else form.family,
        # What a client calls the model may tell of a request that must stay here.
        "gen_ai.request.model": "" if turn.privacy.is_local_only else turn.named[:MAX_NAME],
        "gen_ai.response.model": row.model[:MAX_NAME] if row.status == 200 else "",
        "gen_ai.usage.input_tokens": row.prompt_tokens,
        "gen_ai.usage.output_tokens": row.completion_tokens,
        "error.type": (code or str(row.status)) if row.error or row.status != 200 else "",
        "http.route": "/v1" + form.path,
        "http.response.status_code": row.status,
        "pilotfish.request_id": row.request_id,
        "pilotfish.reason": row.reason,
        "pilotfish.mode": row.mode,
        "pilotfish.task": turn.live.record.name if turn.live is not None else "",
        "pilotfish.certificate": row.certificate_id if row.reason in ("certified", "kept") else "",
        "pilotfish.tier": row.tier if row.reason == "certified" else None,
        "pilotfish.stream": row.is_stream,
        "pilotfish.first_byte_s": turn.begun_s - turn.started_s if turn.begun_s is not None else None,
        "pilotfish.server": row.server,
        "pilotfish.tries": row.tries,
        "pilotfish.cost_usd": row.cost_usd,
        "pilotfish.privacy": turn.privacy.note,
        "pilotfish.key": row.key_id,
    }
    return {name: value for name, value in said.items() if value not in (None, "")}


def _name(said: dict[str, Any]) -> str:
    """The conventions' name of a span: the operation and the model that was asked for."""
    return f"{said['gen_ai.operation.name']} {said.get('gen_ai.request.model', '')}".strip()
