"""A route's certificate on recorded outcomes: how often is it false, and how much does it let the small model keep?

    python benchmarks/routing/certificate.py [--runs 300]

For each data set half of the outcomes teaches the route once and fixes the plan; n calibration outcomes are drawn with
replacement from the others, whose mean loss is the truth. Margins of 1, 2 and 5 points, n = 300, 1,000 and 3,000; a
cell is broken when more than 5 % of all runs hold a false certificate. AlpacaEval's scores are rounded to hundredths.
Writes benchmarks/results/routing_certificate-DATE.json.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.core.certificate import Claim
from pilotfish.core.outcome import Outcome
from pilotfish.evals import routed
from pilotfish.evals.outcomes import read_outcomes
from pilotfish.guarantees.loss import LEAST_KEPT, plan, prove
from pilotfish.guarantees.route_attempt import fold_trails
from pilotfish.routing.gain import Gain
from pilotfish.routing.learn import Material, learn
from pilotfish.routing.replay import Trail, trail
from pilotfish.routing.route import Route, Step

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import DATA, save, show

DELTA = 0.05
MARGINS = (0.01, 0.02, 0.05)
SIZES = (300, 1000, 3000)
PAIRS = {
    "mmlu": ("routing_mmlu", "", ""),
    "gsm8k": ("routing_gsm8k", "", ""),
    "llmrouter": ("routing_llmrouter_9models", "llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct"),
    "bbh": ("routing_bbh_direct_vs_cot", "", ""),
    "cruxeval": ("routing_cruxeval_51models", "Qwen2.5-7B-Instruct", "gpt-4o-2024-08-06"),
    "alpacaeval": ("routing_alpacaeval_49models", "Mixtral-8x7B-Instruct-v0.1_concise", "gpt4_1106_preview"),
}


def rounded(outcome: Outcome) -> Outcome:
    tried = {name: replace(one, score=round(one.score, 2)) for name, one in outcome.tried.items()}
    return replace(outcome, tried=tried)


def taught(name: str) -> tuple[list[Trail], list[Trail], str]:
    """The trails of the outcomes that taught, out of fold, and of all others; what was learnt."""
    file, small, reference = PAIRS[name]
    path = DATA / f"{file}.jsonl.gz"
    if not path.is_file():
        sys.exit(f"skipped: {path.name} is not there (it lies in ../shared/data of a development checkout)")
    found = [rounded(outcome) for outcome in read_outcomes([path])]
    random.Random(0).shuffle(found)
    pair = routed.pair(found, small, reference)
    parts = np.array_split(np.arange(len(pair.outcomes)), 2)
    fit, rest = (routed.subset(pair, part.tolist()) for part in parts)
    learnt = learn(Material(outcomes=fit.outcomes, smaller=pair.small, larger=pair.reference))
    gain = learnt.gain or Gain(intercept=float(np.mean(fit.gains)))
    step = Step(model=pair.small, gain=gain, reads_answer=bool(gain.signals))
    route = Route(steps=(step,), reference=pair.reference)
    fold = fold_trails(route, fit.outcomes, [learnt])
    rows = [trail(route, outcome) for outcome in rest.outcomes]
    return fold, rows, learnt.kind if learnt.gain else "nothing"


def cells(name: str, runs: int) -> list[dict[str, Any]]:
    fold, rows, kind = taught(name)
    needs = np.array([row.needs[0] for row in rows])
    gains = np.array([row.scores[-1] - row.scores[0] for row in rows])
    rng = np.random.default_rng(0)
    found = []
    for margin in MARGINS:
        claim = Claim(max_risk=margin, per="loss")
        for n in SIZES:
            order, truth = plan(fold, n, claim, DELTA), {}
            for one in order:
                is_kept = needs <= one.threshold
                truth[one.threshold] = float(np.where(is_kept, gains, 0.0).mean()), float(is_kept.mean())
            issued = broken = 0
            kept = 0.0
            for _ in range(runs):
                drawn = rng.integers(0, len(rows), n)
                passed = prove(order, [rows[i] for i in drawn], claim, DELTA)
                # As `certify_loss` refuses what keeps too little.
                if passed is None or float((needs[drawn] <= passed.threshold).mean()) < LEAST_KEPT:
                    continue
                issued += 1
                broken += truth[passed.threshold][0] > margin
                kept += truth[passed.threshold][1]
            found.append(
                {
                    "set": name,
                    "learnt_from": kind,
                    "margin": margin,
                    "n": n,
                    "runs": runs,
                    "certified": issued / runs,
                    "broken": broken / runs,
                    "kept_by_small": kept / runs,
                    "kept": broken / runs <= DELTA,
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    options = parser.parse_args()
    figures = [cell for name in PAIRS for cell in cells(name, options.runs)]
    show("certificates of routes", figures)
    good = sum(cell["kept"] for cell in figures)
    print(f"\n{good} of {len(figures)} cells hold a false certificate in at most 5 % of runs.")
    if options.runs >= 300:
        save("routing_certificate", figures=figures)


if __name__ == "__main__":
    main()
