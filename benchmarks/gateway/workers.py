"""What a second worker process adds: requests answered by each, and the CPU of the busier one.

    python benchmarks/gateway/workers.py [--rounds 3] [--seconds 4]

Two workers need two cores, and here model server and load need one of them too. So the ratio is that of capacities: the
CPU per request of one worker over that of the busiest of two, which is what limits them where each has a core of its
own. 64 connections, since the kernel spreads connections and not requests. Writes benchmarks/results/workers-DATE.json.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pass_through import ANSWER, MOCK, answers, load_it, nginx

from record import save
from servers import TICKS_PER_S, Server, free_port, running

N_CLIENTS = 64


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def one_round(server: Server, seconds: float, folder: Path) -> dict[str, Any]:
    pids = server.tree()
    before = {pid: cpu_s(pid) for pid in pids}
    figures = load_it(server, N_CLIENTS, seconds, folder)
    used = sorted((cpu_s(pid) - before[pid] for pid in pids), reverse=True)
    n = figures["cpu_us"] and sum(used) * 1e6 / figures["cpu_us"]
    return {**figures, "busiest_us": 1e6 * used[0] / n, "shares": [one / sum(used) for one in used if one > 0.05]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, mock = Path(name), free_port()
        stack.enter_context(
            running("mock", nginx(folder, "mock", MOCK.format(port=mock, answer=ANSWER)), mock, core=1, answers=answers)
        )
        servers = []
        for n in (1, 2):
            port = free_port()
            serve = [sys.executable, "-m", "pilotfish", "serve", "--large", f"http://127.0.0.1:{mock}/v1"]
            serve += ["--model", "big", "--port", str(port), "--home", str(folder / f"home{n}"), "--workers", str(n)]
            servers.append(stack.enter_context(running(f"{n}", serve, port, core="0,1", answers=answers)))
        rounds = [{s.name: one_round(s, options.seconds, folder) for s in servers} for _ in range(options.rounds)]
    capacity = statistics.median(row["1"]["busiest_us"] / row["2"]["busiest_us"] for row in rounds)
    rps = statistics.median(row["2"]["rps"] / row["1"]["rps"] for row in rounds)
    for row in rounds:
        for n, figures in row.items():
            shares = ", ".join(f"{100 * share:.0f} %" for share in figures["shares"])
            print(f"{n} workers: {figures['cpu_us']:.1f} us a request, {figures['rps']:,.0f}/s, shares {shares}")
    print(f"capacity of two over one, each on a core of its own: {capacity:.2f}x; on the shared two cores {rps:.2f}x")
    save("workers", rounds=rounds, capacity=capacity, rps=rps)


if __name__ == "__main__":
    main()
