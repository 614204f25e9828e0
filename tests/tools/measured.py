"""The sentences and table rows of the README that state measured figures, made from `benchmarks/results`.

A test compares them with the page, so a benchmark that is run again shows at once which figures have changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def newest(name: str) -> dict[str, Any]:
    """The newest result file of a benchmark."""
    found: dict[str, Any] = json.loads(max(RESULTS.glob(f"{name}-2*.json")).read_text("utf-8"))
    return found


def backtest_lines() -> dict[tuple[str, float, str], str]:
    """A table row for each backtest, by data, risk and kind."""
    return {(row["data"], row["max_risk"], row["per"]): _line(row) for row in newest("backtest")["rows"]}


def _line(row: dict[str, Any]) -> str:
    observed = "auto" if row["observe"] == "auto" else f"after {row['observe']:,}"
    found, naive = row["disagreement"], row["naive"]["value"]
    said = "refused"
    if found["n"]:
        low, high = 100 * found["low"], 100 * found["high"]
        said = f"{100 * found['value']:.2f} % ({low:.2f} to {high:.2f}), {found['n']:,}"
    # The control's figure is counted on answers, and says nothing about a promise on traffic.
    control = f"{100 * naive:.2f} %" if naive is not None and row["per"] == "answer" else "-"
    cells = [
        f"{row['data']}, {row['requests']:,}",
        f"{100 * row['max_risk']:g} % per {row['per']}",
        f"{100 * row['coverage']:.1f} % ({observed})",
        said,
        control,
    ]
    return f"| {' | '.join(cells)} |"


def latency_line() -> str:
    """How long a local answer takes over HTTP."""
    local = newest("gateway")["local"]
    return (
        f"A local answer over HTTP took {local['p50_ms']:.1f} ms (median) and {local['p95_ms']:.1f} ms (95 %), "
        f"n = {local['n']:,}."
    )


def install_sizes() -> dict[str, str]:
    """The size of an installation by its extra; empty for the base."""
    return {row["extra"].strip("[]"): f"{row['size_mb']:.0f} MB" for row in newest("install")["rows"]}
