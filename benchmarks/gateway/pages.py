"""The web pages over a long log: time and size of each, and what an open dashboard costs the requests beside it.

    python benchmarks/gateway/pages.py [--rows 1000000] [--seconds 4] [--rounds 40]

The log is made up (`filled.py`). The gateway runs on core 0; pages are asked for one after the other on a connection
each, ten times, the slowest told beside the median and the CPU of each; then GraphQL queries, the first of which loads
the library. Then 4 clients ask without a pause on core 1, in short windows: two without a dashboard and one with one
that listens to `/events`, in an order drawn anew each round, so that what else the machine does falls on all three
alike. The ratio of 99th percentiles is taken inside a round and its median over rounds is reported with a 95 % interval
that assumes nothing of the noise (order statistics); the same ratio of the two windows without a dashboard says how
much of it is noise. The target is met where the whole interval keeps it. The CPU that a listener costs while nothing is
asked is read from the scheduler, in nanoseconds. Writes benchmarks/results/pages-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
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
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=40)
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
            pages = [page(server, path) for path in paths(shown)]
            pages += [page(server, "/graphql", text) for text in queries(shown)]
            show("pages", pages)
            idle = idle_cpu(server)
            rng = random.Random(1)
            rounds = [round_of(port, options.seconds, rng) for _ in range(options.rounds)]
            show("requests beside a dashboard", rounds)
    ratio = median_of(cell["p99_ratio"] for cell in rounds)
    noise = median_of(cell["control_ratio"] for cell in rounds)
    is_met = {
        "pages_in_time": max(cell["slowest_ms"] for cell in pages if "__schema" not in cell["page"]) <= 1e3 * MOST_S,
        "pages_small": max(cell["bytes"] for cell in pages if not is_data(cell["page"])) <= MOST_BYTES,
        "dashboard_unnoticed": ratio["high"] <= MOST_RATIO,
    }
    print(f"\np99 with a dashboard / without: {ratio}; without / without: {noise}; idle CPU: {idle}")
    print(f"{is_met}; filled in {filled_s:.0f} s")
    figures = {
        "rows": options.rows,
        "pages": pages,
        "rounds": rounds,
        "p99_ratio": ratio,
        "control_ratio": noise,
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
        "/requests.json", "/tasks.csv", f"{task}/differing.csv", "/overview/time.csv", "/bench", "/new", "/compare",
        "/inspect?model=gpt2",
    ]  # fmt: skip


def is_data(shape: str) -> bool:
    """Whether it is for programs, which no browser has to lay out."""
    return "." in shape or "graphql" in shape


def queries(request_id: str) -> list[str]:
    """GraphQL: the first loads the library, and is what tools ask a schema by; some come near to the limit of cost."""
    every = "requestId time taskName model reason status latencyS certainty costUsd input answer"
    more = f'after: "{request_id}"'
    return [
        "{ __schema { types { name fields { name type { name ofType { name } } } } } }",
        f"{{ requests(first: 100, {more}) {{ nodes {{ {every} }} pageInfo {{ endCursor }} }} }}",
        f'{{ requests(first: 100, task: "{TASKS[0]}", {more}, failed: true) {{ nodes {{ {every} }} }} }}',
        f"{{ tasks {{ nodes {{ name said requests(first: 12) {{ nodes {{ {every} }} }} }} }} }}",
        "{ spend(step: HOUR, by: TASK, first: 100) { nodes { start task spentUsd unpriced } } }",
        "{ spend(step: DAY, by: MODEL, first: 100) { nodes { start model spentUsd unpriced } } }",
        "{ certificates(first: 100) { nodes { verdict said bound } } }",
    ]


def page(server: Server, path: str, query: str = "") -> dict[str, Any]:
    wait_for_quiet(5)
    times, data, port = [], b"", server.port
    before_ms = cpu_ms(server)
    for _ in range(10):
        body = json.dumps({"query": query}).encode() if query else None
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"content-type": "application/json"})
        started_s = time.perf_counter()
        with urllib.request.urlopen(request) as reply:
            data = reply.read()
        times.append(1e3 * (time.perf_counter() - started_s))
        assert b'"errors"' not in data[:12]
    used_ms = cpu_ms(server) - before_ms
    shape = path.replace(path.rpartition("/")[2], "ID") if "/requests/pf" in path else path.partition("before=pf")[0]
    shape += f" {query}".partition("after")[0].rstrip(", ")[:60] if query else ""
    return {
        "median_ms": statistics.median(times),
        "slowest_ms": max(times),
        "first_ms": times[0],
        "cpu_ms": used_ms / len(times),
        "bytes": len(data),
        "page": shape,
    }


def idle_cpu(server: Server, seconds: float = 20.0) -> dict[str, float]:
    """CPU of the gateway in each second in which nothing is asked, without and with a dashboard, by the scheduler."""

    def ms_per_s() -> float:
        before_ms = cpu_ms(server)
        time.sleep(seconds)
        return (cpu_ms(server) - before_ms) / seconds

    alone = ms_per_s()
    with listening(server.port):
        return {"alone_ms_per_s": alone, "beside_ms_per_s": ms_per_s()}


def cpu_ms(server: Server) -> float:
    """CPU that the living threads of a server have used so far."""
    paths = [path for pid in server.tree() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(path.read_text().split()[0]) for path in paths) / 1e6


def round_of(port: int, seconds: float, rng: random.Random) -> dict[str, Any]:
    """The 99th percentiles of three windows: two without a dashboard, one beside it."""
    bodies = [question(f"text {number}") for number in range(64)]

    def p99_ms() -> float:
        replies = asyncio.run(ask_all(port, bodies, n_clients=CLIENTS, seconds=seconds))
        took = sorted(reply.took_s for reply in replies)
        assert all(reply.status == 200 for reply in replies)
        counted.append(len(took))
        return 1e3 * took[int(0.99 * len(took))]

    def beside_ms() -> float:
        with listening(port) as read:
            found = p99_ms()
            events.append(read())
        return found

    counted: list[int] = []
    events: list[int] = []
    windows = [("alone", p99_ms), ("beside", beside_ms), ("control", p99_ms)]
    rng.shuffle(windows)
    took_ms = {name: window() for name, window in windows}
    return {
        **{f"{name}_p99_ms": took_ms[name] for name in ("alone", "control", "beside")},
        # Against the mean of both, so that the ratio has less of their noise.
        "p99_ratio": took_ms["beside"] / ((took_ms["alone"] + took_ms["control"]) / 2),
        "control_ratio": took_ms["control"] / took_ms["alone"],
        "requests": sum(counted),
        "events": events[0],
    }


def median_of(found: Iterable[float]) -> dict[str, float]:
    """The median with the 95 % interval that order statistics give it (Conover 1999, section 3.2)."""
    ordered = sorted(found)
    n, below, rank = len(ordered), 0.0, 0
    while (below := below + math.comb(n, rank) / 2**n) <= 0.025:
        rank += 1
    low, high = (ordered[rank - 1], ordered[n - rank]) if rank else (0.0, math.inf)
    return {"median": statistics.median(ordered), "low": low, "high": high, "n": n}


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
