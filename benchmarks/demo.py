"""The bundled demo, as a user runs it: the whole loop through the real gateway, and how long it takes.

    python benchmarks/demo.py

Learning runs beside the traffic, so the moment a certificate comes, and with it the share, differs a little from run
to run. Writes benchmarks/results/demo-DATE.json.
"""

from __future__ import annotations

import json
import subprocess
import sys

from record import save


def main() -> None:
    done = subprocess.run([sys.executable, "-m", "pilotfish", "demo", "--json"], check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout)
    figures = {
        key: found[key]
        for key in (
            "requests",
            "served",
            "coverage",
            "promise",
            "disagreement",
            "disagreement_per_traffic",
            "first_served_at",
            "controls",
            "cost_usd",
            "client_latency_ms",
            "pretended_delay_ms",
            "seconds",
            "seconds_waiting_for_learning",
        )
    }
    risk = found["disagreement_per_traffic"]
    print(f"requests {found['requests']:,}, answered locally {found['served']:,} ({found['coverage']:.1%})")
    print(f"disagreement per traffic {risk['value']:.2%} ({risk['low']:.2%} to {risk['high']:.2%}), n {risk['n']:,}")
    for name, latency in found["client_latency_ms"].items():
        print(f"{name}: p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms, n {latency['n']:,}")
    print(f"{found['seconds']} s, of it {found['seconds_waiting_for_learning']} s learning")
    print(save("demo", **figures).name)


if __name__ == "__main__":
    main()
