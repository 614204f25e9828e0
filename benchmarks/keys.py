"""What a key costs: the time of the door's check, and the memory of idle connections.

    python benchmarks/keys.py [--rounds 200000] [--idle 10000]

The check is everything that a key adds to a request: finding it by its hash, counting the request, reserving tokens and
money for a body of 1 KB, and settling them; alone, and beside another process. Each is CPU time, the best
of five rounds. Idle connections say nothing; another client is served meanwhile. Writes
benchmarks/results/keys-DATE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from pilotfish.core.ids import sha256
from pilotfish.core.key import Limits, new_secret
from pilotfish.core.messages import Price, Usage
from pilotfish.gateway.connections import RESERVED_FILES, allow_many
from pilotfish.gateway.door import Door
from pilotfish.store.build import open_keys, open_tallies

from record import save, show

BODY = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x" * 900}], "max_tokens": 50}).encode()
PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)
NO_LIMIT = Limits()
ALL_LIMITS = Limits(
    requests_per_minute=10**9, tokens_per_minute=10**12, tokens_per_day=10**12, usd_per_day=1e9, usd_total=1e9
)
SERVE = """
import sys
from pilotfish.config.settings import LargeSettings, ServerSettings, Settings
from pilotfish.gateway import connections
from pilotfish.gateway.serve import serve
from pilotfish.models.scripted import ScriptedModel
connections.HEAD_S = 600.0
settings = Settings(home=sys.argv[1], server=ServerSettings(port=0), large=LargeSettings(model="big"))
serve(settings, on_ready=lambda port: print(port, flush=True), reference=ScriptedModel(["x"], name="big"))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200_000)
    parser.add_argument("--idle", type=int, default=10_000)
    options = parser.parse_args()
    checks = [
        {"key": name, "processes": n, **check(limits, n, options.rounds)}
        for name, limits in (("no limit", NO_LIMIT), ("five limits", ALL_LIMITS))
        for n in (1, 2)
    ]
    show("A key's cost for each request", checks)
    connections = [idle(options.idle)]
    show("Idle connections", connections)
    print(f"\n{save('keys', checks=checks, idle=connections)}")


def check(limits: Limits, n_processes: int, rounds: int) -> dict[str, Any]:
    """Microseconds of letting a request in, and of everything that its key adds."""
    with tempfile.TemporaryDirectory() as folder:
        home, secret = Path(folder) / "home", new_secret()
        with closing(open_keys(home)) as keys, closing(open_tallies(home)) as tallies:
            keys.create("bench", sha256(secret.encode()), models=["big"], limits=limits, expires_s=None)
            others = [open_tallies(home) for _ in range(n_processes - 1)]
            tallies.refresh()
            door = Door(keys, tallies, is_loopback=True, require_keys=True, price_of=lambda _: PRICE)
            credential, usage = secret.encode(), Usage(prompt=200, completion=20)

            def let_in() -> None:
                door.admit("/v1/chat/completions", credential)

            def whole() -> None:
                visit = door.admit("/v1/chat/completions", credential)
                visit.check_model("auto", "big")
                visit.reserve("big", BODY)
                visit.settle(usage, answer="x", is_answered=True)
                visit.end()

            figures = {"let_in_us": best_us(let_in, rounds), "let_in_reserve_settle_us": best_us(whole, rounds)}
            for other in others:
                other.close()
            return figures


def best_us(work: Callable[[], None], rounds: int) -> float:
    times = []
    for _ in range(5):
        started_s = time.process_time()
        for _ in range(rounds // 5):
            work()
        times.append((time.process_time() - started_s) / (rounds // 5))
    return 1e6 * min(times)


def idle(n: int) -> dict[str, Any]:
    """Memory for each idle connection, and how long another client's request takes beside them."""
    allow_many()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([sys.executable, "-c", SERVE, f"{folder}/home"], stdout=subprocess.PIPE)
        clients: list[socket.socket] = []
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            alone_ms = ask_ms(port)
            before = rss_bytes(server.pid)
            started_s = time.perf_counter()
            for _ in range(n):
                clients.append(socket.create_connection(("127.0.0.1", port)))
            connected_s = time.perf_counter() - started_s
            beside_ms = ask_ms(port)
            each_bytes = (rss_bytes(server.pid) - before) // n
        finally:
            for client in clients:
                client.close()
            server.terminate()
            server.wait()
    return {
        "connections": n,
        "bytes_each": each_bytes,
        "connected_s": connected_s,
        "request_alone_ms": alone_ms,
        "request_beside_ms": beside_ms,
        "files_kept_back": RESERVED_FILES,
    }


def ask_ms(port: int) -> float:
    times = []
    for _ in range(50):
        started_s = time.perf_counter()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", BODY)
        with urllib.request.urlopen(request) as reply:
            reply.read()
        times.append(time.perf_counter() - started_s)
    return 1e3 * statistics.median(times)


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
