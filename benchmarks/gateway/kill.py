"""Rows lost by kill -9 of a gateway at full load: requests whose reply the client had in full, and the log has not.

    python benchmarks/gateway/kill.py [--kills 20] [--seconds 1] [--workers 1]

(The store alone, at its own full speed: benchmarks/log.py.) Writes benchmarks/results/kill-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_log

sys.path.insert(0, str(Path(__file__).parents[1]))

import client

from record import save
from servers import Server, free_port, running


async def load_and_kill(server: Server, seconds: float) -> list[client.Reply]:
    asking = asyncio.ensure_future(
        client.ask_all(server.port, [client.question("x")], n_clients=16, seconds=seconds + 0.1)
    )
    await asyncio.sleep(seconds)
    for pid in server.tree():
        os.kill(pid, signal.SIGKILL)
    return await asking


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    acknowledged: set[str] = set()
    with tempfile.TemporaryDirectory() as name, client.model_server() as upstream:
        home = Path(name) / "home"
        for _ in range(options.kills):
            port = free_port()
            serve = [sys.executable, "-m", "pilotfish", "serve", "--large", upstream.url, "--model", "big"]
            serve += ["--port", str(port), "--home", str(home), "--workers", str(options.workers)]
            with running("pilotfish", serve, port, core=0, answers=client.answers) as server:
                replies = asyncio.run(load_and_kill(server, options.seconds))
            acknowledged |= {reply.headers["x-pilotfish-request-id"] for reply in replies if reply.status}
        found = {row.request_id for row in open_log(home).rows(LogFilter())}
    lost = len(acknowledged - found)
    print(f"{options.kills} kills, {len(acknowledged):,} acknowledged requests, {lost} lost")
    save("kill", kills=options.kills, workers=options.workers, acknowledged=len(acknowledged), lost=lost)


if __name__ == "__main__":
    main()
