"""Backtests of labelled data in a shuffled time order, against the targets of the project.

    python benchmarks/backtest.py [--seeds 1]

The labels stand for the large model's answers. "Coverage" is the share of the traffic after `--observe N` that is
answered locally (with auto: of all requests). A promise counts as kept where the realized disagreement is within
max_risk. Writes benchmarks/results/backtest-DATE.json.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from typing import Any

from pilotfish.config.load import cache
from pilotfish.core.certificate import Claim, Refusal, RiskKind
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.replay.backtest import Options, backtest
from pilotfish.store.traffic import Exchange, Traffic
from pilotfish.students.encoder_cache import open_encoder

from record import cpu_s, labelled, save


@dataclass(frozen=True, slots=True)
class Case:
    """One backtest; `target` is the coverage to reach."""

    data: str
    max_risk: float
    per: RiskKind
    observe: int | None
    target: float | None = None


CASES = (
    Case("banking77", 0.05, "answer", 11_500, 0.93),
    Case("banking77", 0.02, "answer", 11_500, 0.78),
    Case("banking77", 0.05, "traffic", None, 0.60),
    Case("customer_support_bitext", 0.02, "answer", 4_000, 0.97),
    Case("snips", 0.02, "answer", 4_000, 0.95),
    Case("sms_spam", 0.02, "answer", None),
    Case("sst2", 0.02, "answer", None),
    Case("sst2", 0.05, "traffic", None),
    Case("ag_news_7600", 0.02, "answer", None),
    Case("ag_news_7600", 0.05, "answer", None),
)


def traffic(name: str, seed: int) -> Traffic:
    rows = labelled(name)
    random.Random(seed).shuffle(rows)
    system = Message(role="system", content=f"Give the label of the text ({name}).")
    exchanges = [
        Exchange(
            request=ChatRequest(messages=[system, Message(role="user", content=row["text"])]),
            answer=row["label"],
            line=line,
        )
        for line, row in enumerate(rows, 1)
    ]
    return Traffic(exchanges=exchanges, unreadable=[], format="labelled")


def measure(case: Case, seed: int) -> dict[str, Any]:
    encoder = open_encoder(cache())
    claim = Claim(max_risk=case.max_risk, per=case.per)
    started, cpu_started = time.monotonic(), cpu_s()
    report = backtest(
        traffic(case.data, seed), claim, encoder, Options(observe=case.observe, what_if=case.observe is None, seed=seed)
    )
    base = report.n_requests - (case.observe or 0)
    promised = report.disagreement if case.per == "answer" else report.disagreement_per_traffic
    verdict = report.tasks[0].verdict if report.tasks else None
    coverage = report.served / base
    return {
        "data": case.data,
        "seed": seed,
        "max_risk": case.max_risk,
        "per": case.per,
        "observe": case.observe or "auto",
        "requests": report.n_requests,
        "coverage": round(coverage, 4),
        "target": case.target,
        "reached": None if case.target is None else coverage >= case.target,
        "disagreement": promised.to_json(),
        "kept": None if promised.value is None else promised.value <= case.max_risk,
        "first_served_at": report.first_served_at,
        "refusal": verdict.message if isinstance(verdict, Refusal) else None,
        "naive": next(c for c in report.controls if c.name == "naive_threshold").disagreement.to_json(),
        "cpu_s": round(cpu_s() - cpu_started, 1),
        "wall_s": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    seeds = parser.parse_args().seeds
    print(
        f"{'data':24} {'risk':>12} {'observe':>7} {'coverage':>8} {'target':>6} {'disagreement':>24} "
        f"{'CPU s':>6} {'s':>5}"
    )
    rows = []
    for case in CASES:
        for seed in range(seeds):
            row = measure(case, seed)
            rows.append(row)
            found = row["disagreement"]
            said = (
                "-" if found["value"] is None else f"{found['value']:.2%} ({found['low']:.2%} to {found['high']:.2%})"
            )
            target = "-" if case.target is None else f"{case.target:.0%}"
            print(
                f"{case.data:24} {case.max_risk:>4.0%} {case.per:>7} {row['observe']!s:>7} {row['coverage']:8.1%} "
                f"{target:>6} {said:>24} {row['cpu_s']:6} {row['wall_s']:5}"
            )
            if row["refusal"]:
                print(f"    {row['refusal']}")
    print(save("backtest", rows=rows).name)


if __name__ == "__main__":
    main()
