"""Local answers through HTTP: one client's time, then 64 clients that ask as fast as they can, on one core.

    python benchmarks/gateway/local.py [--seconds 10]

A specialist learnt on the bundled traffic, the encoder in front of it; gateway on core 0, clients and the large model's
server on core 1. What the gateway cannot answer soon enough goes to that server, which answers at once, so the time of
an overloaded gateway is seen and not that of a model. Writes benchmarks/results/local-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from pilotfish.config import load
from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.scoring.answers import parse, settle
from pilotfish.store.base import TaskRecord
from pilotfish.store.build import open_registry
from pilotfish.store.traffic import read_traffic
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.tasks.fingerprint import instructions_id

sys.path.insert(0, str(Path(__file__).parents[1]))

import client

from record import save
from servers import Server, free_port, running, wait_for_quiet

ROOT = Path(__file__).parents[2]
N_CLIENTS = 64
N_EXAMPLES = 600
"""Learnt from: how sure the specialist is matters here to nobody, and its encoder reads each for 3 ms."""


def served_home(home: Path) -> list[bytes]:
    """A home whose specialist has learnt a label task of the bundled traffic; short requests of that task.

    Its certificate lets everything pass: what is timed here is the path, not the promise.
    """
    traffic = read_traffic(ROOT / "examples" / "support_desk")
    by_task: dict[str, list[Any]] = {}
    for exchange in traffic.exchanges:
        by_task.setdefault(instructions_id(exchange.request), []).append(exchange)
    shapes = {found_id: settle(exchange.answer for exchange in found) for found_id, found in by_task.items()}
    counts = Counter({found_id: len(by_task[found_id]) for found_id in by_task if shapes[found_id].kind == "label"})
    task_id = counts.most_common(1)[0][0]
    shape, exchanges = shapes[task_id], by_task[task_id]
    task = Task(id=task_id, name="intents", instructions_id=task_id, instructions="", shape=shape)
    examples = [
        Example(text=exchange.request.messages[-1].text, answer=parse(shape, exchange.answer), time_s=float(position))
        for position, exchange in enumerate(exchanges[:N_EXAMPLES])
    ]
    fitted = distil(examples, task, open_encoder(load.cache()), home / "specialists")
    certificate = Certificate(
        task_id=task_id,
        task_name=task.name,
        claim=Claim(max_risk=0.05),
        bound=0.05,
        min_certainty=0.0,
        min_scope=-1.0,
        coverage=1.0,
        n=1,
        n_served=1,
        errors=0.0,
        attempt=1,
        delta_spent=0.05,
        schedule="",
        start_certainty=0.0,
        procedure="none: a benchmark",
        split_rule="",
        scorer="",
        data_sha256="",
        artefact_sha256=fitted.sha256,
        created_at="",
    )
    registry = open_registry(home)
    registry.put_task(
        TaskRecord(
            task_id=task_id, name=task.name, instructions_id=task_id, instructions="", shape=shape, mode="observe"
        )
    )
    registry.adopt(certificate)
    registry.close()
    short = [exchange for exchange in exchanges if len(exchange.request.messages[-1].text) <= 60]
    return [
        json.dumps(
            {
                "model": "auto",
                "messages": [{"role": item.role, "content": item.content} for item in exchange.request.messages],
            }
        ).encode()
        for exchange in short
    ]


@contextlib.contextmanager
def gateway(home: Path) -> Iterator[tuple[Server, list[bytes]]]:
    """The gateway under measurement, and the requests that it answers itself."""
    port, bodies = free_port(), served_home(home)
    os.sched_setaffinity(0, {1})
    with client.model_server() as upstream:
        serve = [sys.executable, "-m", "pilotfish", "serve", "--large", upstream.url, "--model", "big"]
        serve += ["--port", str(port), "--home", str(home), "--max-risk", "0.05"]
        environment = {"PILOTFISH_QUALITY_AUDIT_RATE": "0"}
        ready = lambda port: client.answers(port, bodies[0])  # noqa: E731
        with running("pilotfish with a specialist", serve, port, core=0, answers=ready, **environment) as server:
            yield server, bodies


def one_client(server: Server, bodies: list[bytes]) -> dict[str, float]:
    """Start, memory and the time of local answers through HTTP by one client on a kept connection."""
    times = []
    wait_for_quiet()
    connection = HTTPConnection("127.0.0.1", server.port)
    for position in range(1000):
        begun_s = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", bodies[position % len(bodies)])
        reply = connection.getresponse()
        reply.read()
        reason = reply.getheader("x-pilotfish-reason")
        if reason == "certified":
            times.append(1000 * (time.perf_counter() - begun_s))
        elif reason != "overloaded":  # the neighbours took the core for longer than the deadline
            sys.exit(f"a request was not answered locally: {reason}")
    connection.close()
    times.sort()
    return {
        "n": len(times),
        "p50_ms": round(statistics.median(times), 3),
        "p95_ms": round(times[int(0.95 * len(times))], 3),
        "cold_s": round(server.cold_s, 3),
        "rss_mb": round(server.rss_mb(), 1),
    }


def overload(server: Server, bodies: list[bytes], seconds: float) -> dict[str, Any]:
    """Throughput and time of all replies while 64 clients ask without a pause."""
    wait_for_quiet()
    before_s, begun_s = server.cpu_s(), time.perf_counter()
    found = asyncio.run(client.ask_all(server.port, bodies, n_clients=N_CLIENTS, seconds=seconds))
    wall_s, cpu_s = time.perf_counter() - begun_s, server.cpu_s() - before_s
    times = sorted(reply.took_s for reply in found)
    reasons = Counter(reply.headers.get("x-pilotfish-reason", "") for reply in found)
    local = sorted(reply.took_s for reply in found if reply.headers.get("x-pilotfish-reason") == "certified")
    p50_s, p99_s = statistics.median(times), times[int(0.99 * len(times))]
    return {
        "n": len(times),
        "failed": sum(reply.status != 200 for reply in found),
        "rps": round(len(times) / wall_s, 1),
        "core_used": round(cpu_s / wall_s, 3),
        "local_rps": round(len(local) / wall_s, 1),
        "local_per_core_s": round(len(local) / cpu_s, 1),
        "p50_ms": round(1000 * p50_s, 2),
        "p99_ms": round(1000 * p99_s, 2),
        "p99_over_p50": round(p99_s / p50_s, 2),
        "local_p50_ms": round(1000 * statistics.median(local), 2),
        "local_p99_ms": round(1000 * local[int(0.99 * len(local))], 2),
        "reasons": dict(reasons),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, gateway(Path(name) / "home") as (server, bodies):
        figures = {"one_client": one_client(server, bodies), "overload": overload(server, bodies, options.seconds)}
    for title, rows in figures.items():
        print(title)
        for key, value in rows.items():
            print(f"  {key:18} {value}")
    save("local", **figures)


if __name__ == "__main__":
    main()
