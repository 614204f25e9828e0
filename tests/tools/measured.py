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


def privacy_lines() -> list[str]:
    """The table rows and sentences of the privacy page: what is found, false alarms, time."""
    result = newest("privacy")
    rows = [row for row in result["quality"] if row["split"] == "test"]
    speeds = {row["texts"].strip(): row for row in result["speed_us_per_1000_chars"]}
    alarms = {row["texts"].strip(): sum(row["findings"].values()) for row in result["alarms"]}
    prose, dense = speeds["encyclopaedia"], speeds["personal data"]
    assert sum(alarms.values()) == alarms["hard prompts"]
    lines = [
        f"| `{row['type'].strip()}` | {row['spans']} | {_share(row['recall'])} | {_share(row['covered'])} "
        f"| {_share(row['precision'])} of {row['findings']} |"
        for row in rows
    ]
    return [
        *lines,
        f"{alarms['hard prompts']} in 200,000 characters of hard prompts",
        f"Looking at 1,000 characters took {prose['detect_us']:.0f} µs of CPU time in prose (names and addresses too: "
        f"{prose['all_types_us']:.0f} µs), {dense['detect_us']:.0f} µs in the short texts above, which are full of "
        f"findings. Masking a whole body took {prose['mask_a_body_us']:.0f} µs for 1,000 characters of prose, an event "
        f"of a stream {result['fixed']['stream_chunk_us']:.1f} µs, and `allow` {result['fixed']['allow_us']:.1f} µs.",
    ]


def _share(value: float | str) -> str:
    return value if isinstance(value, str) else f"{100 * value:.0f} %"
