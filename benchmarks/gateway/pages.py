"""The web pages over a long log: time and size of each, and what an open dashboard costs the requests beside it.

    python benchmarks/gateway/pages.py [--rows 1000000] [--seconds 8] [--rounds 5]

The log is made up (`filled.py`). The gateway runs on core 0; pages are asked for one after the other on a connection
each, ten times, the slowest told beside the median. Then 4 clients ask without a pause on core 1, in turns without and
with a dashboard that listens to `/events`; the ratio of their 99th percentiles is taken inside one round and the
median over rounds is reported, beside it the CPU that the listener costs while nothing is asked. Writes
benchmarks/results/pages-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1]))

from client import answers, ask_all, model_server, question
from filled import TASKS, fill

from record import save, show
from servers import Server, free_port, running, wait_for_quiet

MOST_S, MOST_BYTES, MOST_RATIO = 0.2, 150_000, 1.1
CLIENTS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, model_server() as model:
        home, port = Path(folder) / "home", free_port()
        started_s = time.perf_counter()
        shown = fill(home, options.rows)
        filled_s = time.perf_counter() - started_s
        config = Path(folder) / "pilotfish.toml"
        config.write_text(
            f'home = "{home}"\n[server]\nport = {port}\n[large]\nurl = "{model.url}"\nmodel = "big"\nkey_env = ""\n'
            "input_usd_per_mtok = 0.3\noutput_usd_per_mtok = 1.2\n[quality]\nmax_risk = 0.05\n"
            "[learning]\nfirst_after = 10000000\ncheck_every_s = 3600\n"
        )
        command = [sys.executable, "-m", "pilotfish", "serve", "--config", str(config)]
        with running("pilotfish", command, port, core=0, answers=answers) as server:
            os.sched_setaffinity(0, {1})
            pages = [page(port, path) for path in paths(shown)]
            show("pages", pages)
            idle = idle_cpu(server)
            rounds = [round_of(port, options.seconds) for _ in range(options.rounds)]
            show("requests beside a dashboard", rounds)
    ratio = statistics.median(cell["p99_ratio"] for cell in rounds)
    is_met = {
        "pages_in_time": max(cell["slowest_ms"] for cell in pages) <= 1e3 * MOST_S,
        "pages_small": max(cell["bytes"] for cell in pages if "." not in cell["page"]) <= MOST_BYTES,
        "dashboard_unnoticed": ratio <= MOST_RATIO,
    }
    print(f"\np99 with a dashboard / without: {ratio:.3f}; idle CPU: {idle}; filled in {filled_s:.0f} s")
    print(is_met)
    figures = {
        "rows": options.rows,
        "pages": pages,
        "rounds": rounds,
        "p99_ratio": ratio,
        "idle_cpu": idle,
        "is_met": is_met,
    }
    save("pages", **figures)


def paths(request_id: str) -> list[str]:
    task = "/tasks/" + quote(TASKS[0])
    return [
        "/?days=1", "/?days=7", "/", "/?days=365", "/tasks", task, "/tasks/" + TASKS[6], "/requests",
        "/requests?failed=1",
        f"/requests?task={TASKS[0]}", f"/requests?before={request_id}", f"/requests/{request_id}", "/requests.csv",
        "/requests.json", "/tasks.csv", f"{task}/differing.csv", "/overview/time.csv",
    ]  # fmt: skip


def page(port: int, path: str) -> dict[str, Any]:
    wait_for_quiet(5)
    times, data = [], b""
    for _ in range(10):
        started_s = time.perf_counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as reply:
            data = reply.read()
        times.append(1e3 * (time.perf_counter() - started_s))
    shape = path.replace(path.rpartition("/")[2], "ID") if "/requests/pf" in path else path.partition("before=pf")[0]
    return {
        "median_ms": statistics.median(times),
        "slowest_ms": max(times),
        "first_ms": times[0],
        "bytes": len(data),
        "page": shape,
    }


def idle_cpu(server: Server, seconds: float = 10.0) -> dict[str, float]:
    """CPU of the gateway in each second in which nothing is asked, without and with a dashboard."""

    def ms_per_s() -> float:
        before_s = server.cpu_s()
        time.sleep(seconds)
        return 1e3 * (server.cpu_s() - before_s) / seconds

    alone = ms_per_s()
    with listening(server.port):
        return {"alone_ms_per_s": alone, "beside_ms_per_s": ms_per_s()}


def round_of(port: int, seconds: float) -> dict[str, Any]:
    bodies = [question(f"text {number}") for number in range(64)]

    def p99_ms() -> tuple[float, int]:
        replies = asyncio.run(ask_all(port, bodies, n_clients=CLIENTS, seconds=seconds))
        took = sorted(reply.took_s for reply in replies)
        assert all(reply.status == 200 for reply in replies)
        return 1e3 * took[int(0.99 * len(took))], len(took)

    wait_for_quiet()
    alone_ms, n_alone = p99_ms()
    wait_for_quiet()
    with listening(port) as read:
        beside_ms, n_beside = p99_ms()
        n_events = read()
    return {
        "alone_p99_ms": alone_ms,
        "beside_p99_ms": beside_ms,
        "p99_ratio": beside_ms / alone_ms,
        "requests_alone": n_alone,
        "requests_beside": n_beside,
        "events": n_events,
    }


@contextlib.contextmanager
def listening(port: int) -> Iterator[Any]:
    """A dashboard, which has its first figures already; gives how many events have come."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        got = b""
        while b"data: " not in got:
            got += client.recv(1 << 16)

        def n_events() -> int:
            nonlocal got
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while piece := client.recv(1 << 20):
                    got += piece
            return got.count(b"data: ")

        yield n_events


if __name__ == "__main__":
    main()
