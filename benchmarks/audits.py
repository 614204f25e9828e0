"""Audits: how fast a broken promise is withdrawn, how often a kept one is, what was served meanwhile, and the cost.

    python benchmarks/audits.py [--runs 1000] [--quick]

All figures come from `guarantees/audit.py` itself. Detection: a promise of 2 %, a true risk of 1 % that jumps at
audit 0 or after 2,000 good audits. `fewest` is what no rule can beat: if its false alarms stay within 5 % over 6,000
audits at 1 % and its median delay within d at every time of the jump, then every stretch of d audits is a test
of the new risk (even if it were known) with power 1/2, whose size Neyman and Pearson bound from below.
False alarms also in deployments as the product certifies and watches them, where the quiet risk is an estimate.
Writes benchmarks/results/audits-DATE.json.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pilotfish.core.certificate import WHOLE_KINDS, Certificate, Claim
from pilotfish.guarantees.audit import Audit
from pilotfish.guarantees.certify import Evidence, certify
from pilotfish.stats import binomial

from promise_simulated import TERMS, World, worlds
from record import save, show

CLAIM = Claim(max_risk=0.02)
QUIET = 0.01
HORIZON = 6000
FALSE_ALARM = 0.05
GOALS = {0.04: 300, 0.06: 90, 0.1: 35, 0.3: 9}
AUDIT_RATES = (0.01, 0.02, 0.05)
PATIENCE = 20_000


def withdrawn_at(audit: Audit, losses: list[float]) -> int | None:
    """How many of the losses the audit takes until it withdraws; None where it never does."""
    return next((i for i, loss in enumerate(losses, start=1) if audit.observe(loss=loss, is_local=True)), None)


def errors(rng: np.random.Generator, n: int, risk: float) -> list[float]:
    return (rng.random(n) < risk).astype(float).tolist()


def detection(risk: float, good: int, runs: int) -> dict[str, Any]:
    """Audits from the jump to the withdrawal, in those runs that the good time did not end by a false alarm."""
    rng = np.random.default_rng(round(1000 * risk) + good)
    delays: list[int] = []
    wrong: dict[float, list[int]] = {rate: [] for rate in AUDIT_RATES}
    while len(delays) < runs:
        audit = Audit(CLAIM, quiet_risk=QUIET)
        if withdrawn_at(audit, errors(rng, good, QUIET)):
            continue
        before = audit.losses
        delay = withdrawn_at(audit, errors(rng, PATIENCE, risk))
        assert delay is not None
        delays.append(delay)
        for rate in AUDIT_RATES:
            unaudited = int(rng.negative_binomial(delay, rate))
            wrong[rate].append(round(audit.losses - before) + int(rng.binomial(unaudited, risk)))
    median = round(float(np.median(delays)))
    return {
        "true_risk": risk,
        "good_audits": good,
        "runs": runs,
        "median": median,
        "p90": round(float(np.quantile(delays, 0.9))),
        "goal": GOALS[risk],
        "met": median <= GOALS[risk],
        "fewest": fewest(risk),
    } | {
        f"wrong_at_{rate:.0%}": f"{np.median(served):,.0f} ({np.quantile(served, 0.9):,.0f})"
        for rate, served in wrong.items()
    }


def fewest(risk: float) -> int:
    """The smallest d that leaves (1 - size)^(6,000 / d) at 95 %."""
    d = 1
    while (1.0 - smallest_size(d, risk)) ** (HORIZON // d) < 1.0 - FALSE_ALARM:
        d += 1
    return d


def smallest_size(d: int, risk: float) -> float:
    """The size of the best test of d audits, at QUIET against `risk`, whose power is 1/2."""
    power = size = 0.0
    for k in range(d, -1, -1):
        weight = math.exp(binomial.log_pmf(k, d, risk))
        part = min(1.0, (0.5 - power) / weight)
        power += part * weight
        size += part * math.exp(binomial.log_pmf(k, d, QUIET))
        if part < 1.0:
            break
    return size


def false_alarms(true_risk: float, quiet: float, runs: int) -> dict[str, Any]:
    """The share of runs of 6,000 audits that are withdrawn although the promise of 2 % is kept."""
    rng = np.random.default_rng(7)
    fired = sum(
        withdrawn_at(Audit(CLAIM, quiet_risk=quiet), errors(rng, HORIZON, true_risk)) is not None for _ in range(runs)
    )
    return {
        "true_risk": true_risk,
        "quiet_risk": quiet,
        "runs": runs,
        "false_alarms": fired / runs,
        "stated": FALSE_ALARM if true_risk <= quiet else "no bound",
        "met": binomial.lower(fired, runs, 0.001) <= FALSE_ALARM,
    }


def deployed(world: World, claim: Claim, n: int, runs: int) -> dict[str, Any]:
    """Certified deployments whose promise is kept, watched by `Audit.start` over 6,000 audits, then a jump to 3 x."""
    rng = np.random.default_rng(n)
    fired = kept = 0
    delays: list[int] = []
    ratios: list[float] = []
    for _ in range(runs):
        fold, rows = world.draw(rng, 3 * n // 2), world.draw(rng, n)
        evidence = Evidence(
            fold_losses=fold[1],
            fold_certainty=fold[0],
            fold_scope=[1.0] * len(fold[0]),
            losses=rows[1],
            certainty=rows[0],
            scope=[1.0] * n,
        )
        verdict = certify(evidence, claim, TERMS)
        risk = world.risk(verdict.min_certainty, claim.per) if isinstance(verdict, Certificate) else math.inf
        if not isinstance(verdict, Certificate) or risk > claim.max_risk:
            continue
        kept += 1
        audit = Audit.start(verdict)
        ratios.append(risk / audit.watch.quiet_risk)
        fired += withdrawn_at(audit, errors(rng, HORIZON, risk)) is not None
        delays.append(withdrawn_at(Audit.start(verdict), errors(rng, PATIENCE, 3 * claim.max_risk)) or PATIENCE)
    return {
        "per": claim.per,
        "max_risk": claim.max_risk,
        "n": n,
        "kept_promises": kept,
        "true_to_quiet_ratio": float(np.median(ratios)),
        "false_alarms": fired / kept,
        "met": binomial.lower(fired, kept, 0.001) <= FALSE_ALARM,
        "median_at_3x": round(float(np.median(delays))),
    }


def microseconds(call: Callable[[], object], repeats: int) -> float:
    best = math.inf
    for _ in range(5):
        started = time.process_time()
        for _ in range(repeats):
            call()
        best = min(best, (time.process_time() - started) / repeats)
    return round(1e6 * best, 2)


def speed() -> list[dict[str, Any]]:
    audit = Audit(CLAIM, quiet_risk=QUIET)
    update = microseconds(lambda: audit.observe(loss=0.0, is_local=True), 20_000)
    started = time.process_time()
    Audit(CLAIM, quiet_risk=0.0123)
    fresh = round(1e3 * (time.process_time() - started), 1)
    return [{"update_us": update, "goal_us": 5.0, "met": update < 5.0, "start_ms": fresh}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="50 runs of everything, written nowhere")
    options = parser.parse_args()
    runs = 50 if options.quick else options.runs
    promises = [(Claim(max_risk=r, per=per), n) for per in WHOLE_KINDS for r, n in ((0.02, 3000), (0.05, 1000))]
    tables: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "audits until withdrawal, and wrong answers served (90th percentile)": lambda: [
            detection(risk, good, runs) for good in (0, 2000) for risk in GOALS
        ],
        "false alarms over 6,000 audits, promise 2 %": lambda: [
            false_alarms(risk, quiet, runs)
            for risk, quiet in ((0.01, 0.01), (0.02, 0.02), (0.0125, 0.01), (0.015, 0.01), (0.02, 0.01))
        ],
        "false alarms over 6,000 audits of kept promises as deployed": lambda: [
            deployed(worlds(claim.max_risk)[0], claim, n, max(20, runs // 4)) for claim, n in promises
        ],
        "speed": speed,
    }
    figures = {}
    for title, measure in tables.items():
        figures[title] = measure()
        show(title, figures[title])
    if options.quick:
        return
    save("audits", figures=figures)


if __name__ == "__main__":
    main()
