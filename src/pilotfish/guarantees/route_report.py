"""What came of an attempt at a route, in a sentence, in tables and as JSON."""

from __future__ import annotations

from typing import Any

from pilotfish.core.certificate import Certificate
from pilotfish.evals.tables import Table
from pilotfish.guarantees.route_attempt import RouteAttempt, in_all


def sentence(made: RouteAttempt) -> str:
    """What is promised, or what it is short of."""
    if isinstance(made.verdict, Certificate):
        claim = made.verdict.claim
        return (
            f"Certified: {100 * made.verdict.coverage:.1f} % of requests stay with the smaller model, and the loss "
            f"against always {made.route.reference} is at most {100 * claim.max_risk:g} points with "
            f"{100 * claim.confidence:g} % confidence (n = {made.verdict.n:,}, attempt {made.verdict.attempt})."
        )
    short, passing = made.verdict.examples_short, made.verdict.passing_risk
    beside = "" if short is None else f" In all that takes about {in_all(made.verdict.n + short):,} outcomes."
    beside += "" if passing is None else f" A loss of {100 * passing:g} points could be proven with these."
    return f"Not certified, so everything goes to {made.route.reference}. {made.verdict.message}{beside}"


def tables(made: RouteAttempt) -> list[Table]:
    """Which signals are used at each step, and why the others are not."""
    found = []
    for step, learnt in zip(made.route.steps, made.learnt, strict=True):
        rows = [
            [
                worth.name,
                worth.cost,
                "-" if worth.apgr is None else f"{worth.apgr:.3f}",
                "-" if worth.p is None else f"{worth.p:.2g}",
                "yes" if worth.is_used else worth.why_not,
            ]
            for worth in learnt.worths
        ]
        apgr = "-" if learnt.apgr is None else f"{learnt.apgr:.3f}"
        note = learnt.why_none or f"Learnt from the {learnt.kind}; out of fold APGR {apgr}, p = {learnt.p:.2g}."
        if step.reads_answer:
            read = f"The first {step.prefix} tokens of an answer decide" if step.prefix else "The whole answer decides"
            note += f" {read}."
        if step.verifier:
            note += f" The verifier is {step.verifier}; what another one has verified proves nothing here."
        found.append(
            Table(
                title=f"{step.model}: signals on {len(made.taught):,} outcomes",
                columns=["signal", "cost", "APGR", "p (Holm)", "used"],
                rows=rows,
                notes=[note],
            )
        )
    return found


def to_json(made: RouteAttempt) -> list[dict[str, Any]]:
    """The same as `tables`, a JSON object for each step."""
    return [
        {
            "model": step.model,
            "kind": learnt.kind,
            "prefix": step.prefix,
            "apgr": learnt.apgr,
            "p": learnt.p,
            "why_none": learnt.why_none,
            "signals": [
                {
                    "name": worth.name,
                    "apgr": worth.apgr,
                    "p": worth.p,
                    "is_used": worth.is_used,
                    "why_not": worth.why_not,
                }
                for worth in learnt.worths
            ],
        }
        for step, learnt in zip(made.route.steps, made.learnt, strict=True)
    ]
