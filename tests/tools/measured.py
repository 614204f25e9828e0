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


def export_lines() -> list[str]:
    """The table rows and the sentence of the page on exported specialists."""
    found, page = newest("export"), newest("export_web")
    first, full = found["starts"]
    alike = found["alike"]

    def start(row: dict[str, Any]) -> str:
        return f"{row['first_answer_s']:.2f} s ({row['fastest_s']:.2f} the fastest; {row['cpu_s']:.2f} CPU-s)"

    return [
        f"| on disk | {found['disk_mb']:.1f} MB | 30 MB |",
        f"| resident memory, at most | {max(row['rss_mib'] for row in (first, full)):.0f} MiB | 120 MiB |",
        f"| first answer, by the n-grams | {start(first)} | 0.5 s |",
        f"| first answer, with the encoder | {start(full)} | 0.5 s |",
        f"| alike to the last bit | {alike['alike_to_the_last_bit']:,} of {alike['texts']:,} texts | all |",
        f"Of {page['texts']:,} texts, all read by the encoder, {page['same_answer']:,} got the same answer in "
        f"Chromium, {page['same_decision']:,} the same decision and {page['same_scores']:,} the same scores; certainty "
        f"differed by {page['largest_difference_of_certainty']:.3f} at most, scope by "
        f"{page['largest_difference_of_scope']:.3f}.",
    ]


def quantize_lines() -> list[str]:
    """The table rows of the page on quantizing."""

    def cells(row: dict[str, Any]) -> list[str]:
        flips = ("-", "-")
        if row["flips"] is not None:
            flips = (f"{row['flips']} of {row['answers']:,}", f"{row['surest_flips']} of {row['surest']:,}")
        sizes = [f"{row['encoder_mb']:.1f}", f"{row['memory_mb']:.0f}", f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}"]
        return [f"`{row['kind']}`", *sizes, f"{100 * row['accuracy']:.1f} %", *flips, row["verdict"] or "-"]

    return [f"| {' | '.join(cells(row))} |" for row in newest("quantize")["figures"]]


def distillation_lines() -> list[str]:
    """The table rows of the page on fine-tuning."""
    return [
        f"| {row['letters']:,} | {row['alone']:.3f} | {row['taught']:.3f} | {row['gained']:.4f} ± "
        f"{row['standard_error']:.4f} | {row['seeds_better']} of {row['seeds']} |"
        for row in newest("distillation")["over_seeds"]
    ]


def install_sizes() -> dict[str, str]:
    """The size of an installation by its extra; empty for the base."""
    return {row["extra"].strip("[]"): f"{row['size_mb']:.0f} MB" for row in newest("install")["rows"]}


def load_lines() -> list[str]:
    """What the page on faults says of the gateway under load."""
    soak, kill = newest("soak"), newest("kill")
    return [
        f"{soak['minutes']:.0f} minutes at 70 % of what one core could do ({soak['rate_per_s']:.0f} requests a second)",
        f"{soak['replies']:,} replies, {soak['lost_rows']} rows lost, {soak['wrong']} answers to the wrong question",
        f"memory {100 * soak['rss_growth']:+.1f} %",
        f"Killed {kill['kills']} times with `kill -9` at full load: of {kill['acknowledged']:,} acknowledged requests "
        f"{kill['lost']} rows lost",
    ]


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


def extraction_lines() -> list[str]:
    """The table rows and the sentence on the certificate of the extraction page."""
    rows = []
    for name, kind in {"snips": "intent and 39 slots", "wnut17": "named entities of 6 types"}.items():
        row = newest(f"extraction_{name}")["learnt"]
        f1 = f"{100 * row['entity_f1']:.1f}" if "entity_f1" in row else "-"
        cells = [
            f"{name}, {kind}",
            f"{row['learnt']:,} / {row['tested']:,}",
            f"{100 * row['answers_right']:.1f} %",
            f1,
            f"{row['fit_cpu_s']:.0f} s",
            f"{row['folder_mb']:.1f} MB",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    found = newest("extraction_snips")["certified"]
    return [
        *rows,
        f"A first attempt at 5 % risk on snips' training rows certified {100 * found['certified_coverage']:.1f} % of "
        f"them ({found['calibration']:,} calibration rows); of the test rows it would answer "
        f"{100 * found['coverage_in_test']:.1f} %, of which {100 * found['differs_in_test']:.1f} % differ.",
    ]


def _share(value: float | str) -> str:
    return value if isinstance(value, str) else f"{100 * value:.0f} %"


def reading_lines() -> list[str]:
    """The table rows of the extraction page on questions of passages: the student, and a certificate for each risk."""
    found = newest("reading")
    row = found["learnt"]

    def share(name: str) -> str:
        low, high = row[f"{name}_interval"]
        return f"{100 * row[name]:.1f} ({100 * low:.1f} to {100 * high:.1f})"

    cells = [
        f"{row['learnt']:,} / {row['tested']:,}",
        share("exact_match"),
        share("f1"),
        f"{100 * row['agrees']:.1f} %",
        f"{row['fit_cpu_s']:.0f} s",
        f"{row['folder_mb']:.1f} MB",
    ]
    return [
        f"| {' | '.join(cells)} |",
        *(f"| {100 * one['max_risk']:.0f} % | {' | '.join(_certified(one))} |" for one in found["certified"]),
    ]


def _certified(row: dict[str, Any]) -> list[str]:
    if "refused" in row:
        return ["refused", "-", "-"]
    return [f"{100 * row[name]:.1f} %" for name in ("certified_coverage", "coverage_in_test", "differs_in_test")]


def retrieved_lines() -> list[str]:
    """A table row for each kind of desk: what is answered, and wrongly, by the caches and under certificates."""
    return [
        f"| {name}: answered, wrong | "
        + " | ".join(
            f"{100 * cell['answered']:.1f} %, {100 * cell['wrong']:.1f} %"
            for cell in (*run["cache"], *run["certified"])
        )
        + " |"
        for name, run in newest("retrieved")["runs"].items()
    ]
