"""A gateway at 70 % of its capacity while its model servers fail at random: lost rows, wrong routings, memory.

    python benchmarks/gateway/soak.py [--minutes 30] [--share 0.05]

Three models, each on servers that answer a share of requests with HTTP 500, a reset, half an answer, no JSON, or late.
Every answer repeats question and model, so an answer that came to somebody else is seen. Capacity is measured first,
without faults; memory is compared between the end of the first tenth and the end. Writes
benchmarks/results/soak-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_log

sys.path.insert(0, str(Path(__file__).parents[1]))

import client

from record import save
from servers import Server, free_port, running, wait_for_quiet

MODELS = ("big", "middle", "small")
N_CLIENTS = 32


class Soak:
    """The clients, and what they saw."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ids: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.n_wrong = 0
        self.rss_mb: list[float] = []

    async def run(self, rate: float, seconds: float) -> None:
        """Ask at a steady rate over all clients."""
        due: asyncio.Queue[int] = asyncio.Queue()
        clients = [asyncio.ensure_future(self._client(due)) for _ in range(N_CLIENTS)]
        begun_s, n = time.perf_counter(), 0
        watched_s = 0.0
        while (now_s := time.perf_counter() - begun_s) < seconds:
            while n < now_s * rate:
                due.put_nowait(n)
                n += 1
            if now_s >= watched_s:
                self.rss_mb.append(self.server.rss_mb())
                watched_s += max(1.0, seconds / 100)
            await asyncio.sleep(0.005)
        while not due.empty():
            await asyncio.sleep(0.01)
        for _ in clients:
            due.put_nowait(-1)
        await asyncio.gather(*clients)

    async def _client(self, due: asyncio.Queue[int]) -> None:
        one = client.Client(self.server.port)
        while (number := await due.get()) >= 0:
            model, text = random.choice(MODELS), f"question {number}"
            reply = await one.ask(client.question(text, model=model))
            self.statuses[reply.status] += 1
            if reply.status:
                self.ids.add(reply.headers["x-pilotfish-request-id"])
            if reply.status == 200:
                said = json.loads(reply.body)["choices"][0]["message"]["content"]
                self.n_wrong += said != f"{model}: {text}"
        one.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--share", type=float, default=0.05)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, client.model_server() as upstream:
        folder, port = Path(name), free_port()
        config = folder / "pilotfish.toml"
        tables = [f'[models.{model}]\nurl = "{upstream.url}"\nendpoints = ["{upstream.url}"]' for model in MODELS[1:]]
        config.write_text("\n".join([f'[large]\nurl = "{upstream.url}"\nmodel = "big"', *tables]))
        serve = [sys.executable, "-m", "pilotfish", "serve", "--config", str(config), "--port", str(port)]
        with running(
            "pilotfish", [*serve, "--home", str(folder / "home")], port, core=0, answers=client.answers
        ) as one:
            wait_for_quiet()
            full = asyncio.run(client.ask_all(port, [client.question("x")], n_clients=N_CLIENTS, seconds=5))
            rate = 0.7 * len(full) / 5
            upstream.share = options.share
            soak = Soak(one)
            soak.ids |= {reply.headers["x-pilotfish-request-id"] for reply in full if reply.status}
            asyncio.run(soak.run(rate, 60 * options.minutes))
        found = {row.request_id for row in open_log(folder / "home").rows(LogFilter())}
    first, last = soak.rss_mb[len(soak.rss_mb) // 10], soak.rss_mb[-1]
    figures = {
        "minutes": options.minutes,
        "rate_per_s": round(rate, 1),
        "replies": soak.statuses.total(),
        "statuses": dict(soak.statuses),
        "faults": dict(upstream.calls),
        "lost_rows": len(soak.ids - found),
        "wrong": soak.n_wrong,
        "rss_mb": [first, last],
        "rss_growth": last / first - 1,
    }
    for key, value in figures.items():
        print(f"{key:12} {value}")
    save("soak", **figures)


if __name__ == "__main__":
    main()
