"""What it costs a request to be seen: counting it, making its span, and telling all metrics to who asks.

    python benchmarks/seen.py [--rounds 100000]

Each is CPU time of the process for one request, the best of five rounds, on rows as the gateway makes them: an answer
of the large model, a stream of its, a specialist's answer, a failure. Spans are made, batched and dropped by a
collector that takes everything. Writes benchmarks/results/seen-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from pilotfish.config.settings import LargeSettings, Settings
from pilotfish.core.log_row import RequestRow
from pilotfish.gateway import metrics
from pilotfish.gateway.app import open_gateway
from pilotfish.gateway.counts import MAX_SERIES, Counts
from pilotfish.gateway.privacy_guard import Guarded
from pilotfish.gateway.rows import Turn
from pilotfish.gateway.spans import OtelSpans
from pilotfish.models.scripted import ScriptedModel
from pilotfish.models.wire.chat import CHAT
from pilotfish.routing.cascade import Decision

from record import save, show

REMOTE = RequestRow(
    request_id="pf-1", time_s=1.0, instructions_id="i", task_id="t", mode="serve", model="big", reason="uncertain",
    sampling="deferred", probability=1.0, input="x", answer="y", prompt_tokens=120, completion_tokens=4, cost_usd=0.001,
    latency_s=0.7, local_s=0.004, server="127.0.0.1:1", tries=1,
)  # fmt: skip
ROWS = {
    "large model": (REMOTE, None),
    "its stream": (replace(REMOTE, is_stream=True, prompt_tokens=None, completion_tokens=None), 0.2),
    "specialist": (replace(REMOTE, reason="certified", model="pilotfish/t", tier=1, cost_usd=0.0, tries=0), None),
    "failure": (replace(REMOTE, status=502, error="model_unreachable: refused", prompt_tokens=None), None),
}


class _Everything(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100_000)
    n = parser.parse_args().rounds
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Everything()))
    spans, counts = OtelSpans(provider), Counts(["big"])
    cells = []
    for name, (row, begun_s) in ROWS.items():
        turn = _turn(begun_s)
        counted_us = _best_us(lambda turn=turn, row=row: counts.note(turn, row), n)
        span_us = _best_us(lambda turn=turn, row=row: spans.note(turn, row), n // 20)
        cells.append({"request         ": name, "counted_us": counted_us, "span_us": span_us})
    provider.shutdown()
    show("CPU for one request", cells)
    told = asyncio.run(_told())
    show("CPU for one answer of /metrics", told)
    requests = [{key.strip(): value for key, value in cell.items()} for cell in cells]
    print(f"\nwritten: {save('seen', requests=requests, scrapes=told)}")


def _turn(begun_s: float | None) -> Turn:
    live: Any = SimpleNamespace(record=SimpleNamespace(name="sort-support-messages"))
    turn = Turn(
        request_id="pf-1",
        request=CHAT.decode_request(b'{"messages": []}', (("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),)),
        model="big",
        recognised=None,
        live=live,
        is_audited=False,
        decision=Decision(reason="uncertain"),
        task_id="t",
        mode="serve",
        target=ScriptedModel(["x"], name="big"),
        privacy=Guarded(body=b""),
        named="auto",
    )
    turn.begun_s = None if begun_s is None else turn.started_s + begun_s
    return turn


async def _told() -> list[dict[str, Any]]:
    """A scrape of a gateway that has counted little, and of one that is full of labels."""
    settings = Settings(home=str(Path(tempfile.mkdtemp()) / "home"), large=LargeSettings(model="big"))
    cells = []
    async with open_gateway(settings, reference=ScriptedModel(["x"], name="big")) as gateway:
        running = gateway.running
        turn = _turn(None)
        for n_series in (1, MAX_SERIES):
            for number in range(n_series):
                turn.live.record.name = f"task-{number}"  # type: ignore[union-attr, misc]
                running.records.counts.note(turn, REMOTE)
            data = metrics.render(running, {})
            told_ms = _best_us(lambda: metrics.render(running, {}), 10) / 1000
            cells.append({"series": n_series, "  bytes": len(data), "told_ms": told_ms})
    return cells


def _best_us(work: Callable[[], object], n: int) -> float:
    best = float("inf")
    for _ in range(5):
        started_s = time.process_time()
        for _ in range(n):
            work()
        best = min(best, (time.process_time() - started_s) / n)
    return best * 1e6


if __name__ == "__main__":
    main()
