"""From evidence to a certificate or a refusal, in numbers.

It knows scores and losses of rows, not where they come from: `attempt.py` fits the specialist and
gathers the evidence, `verify.py` recomputes it. The scope gate and the order in which thresholds are
tested are fixed on out-of-fold scores of the fitting rows; the calibration rows are looked at
once, by the test of `stats/sequence.py`, at this attempt's share of delta.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pilotfish.core.certificate import SCORERS, Certificate, Claim, Refusal, Shortage
from pilotfish.guarantees import drift
from pilotfish.guarantees.consistency import Repeated, standard_floor, why
from pilotfish.guarantees.split import unbiased_rows_for
from pilotfish.routing.policy import Gates, Policy
from pilotfish.stats import binomial, sequence, spending, weighted

PROCEDURE = {
    "answer": "exact binomial fixed-sequence test over out-of-fold thresholds (Learn then Test, arXiv 2110.01052)",
    "traffic": "exact binomial test of nested thresholds (served disagreements only grow as the threshold falls)",
}
WEIGHTED_PROCEDURE = "fixed-sequence bets over out-of-fold thresholds, rows weighted by 1 / probability"
# Serving less than a tenth is not worth a certificate.
MIN_COVERAGE = 0.1
# The scope gate defers at least the strangest hundredth, so that it stands when traffic drifts.
_SCOPE_SHARES = (0.01, 0.02, 0.05, 0.1)
_MOST_ROWS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the served artefact said on calibration rows, and the fitting rows out of fold.

    Losses are in [0, 1] against the reference. Calibration rows are unbiased, in time order and were not fitted
    on; the `fold_` rows only fix the scope gate and the order of the tests. `weights` (of `stats.weighted`) is given
    where the calibration rows were drawn with unequal probabilities.
    """

    fold_losses: Sequence[float]
    fold_certainty: Sequence[float]
    fold_scope: Sequence[float]
    losses: Sequence[float] = ()
    certainty: Sequence[float] = ()
    scope: Sequence[float] = ()
    weights: Sequence[float] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a certificate says beside its numbers. `attempt` counts all attempts ever made for the task.

    `asked_again` is how often the reference differed from itself, `n_votes` how many of its answers make the one that
    counts. `n_answers` is how many unbiased answers the calibration rows were split from; without it a refusal counts
    calibration rows.
    """

    task_id: str
    task_name: str
    attempt: int
    created_at: str
    split_rule: str = ""
    data_sha256: str = ""
    artefact_sha256: str = ""
    request_ids: tuple[str, ...] = ()
    asked_again: Repeated = Repeated(0, 0)
    n_votes: int = 1
    n_answers: int | None = None


def certify(evidence: Evidence, claim: Claim, terms: Terms) -> Certificate | Refusal:
    """The certificate of the largest proven coverage, or the refusal that says what is short.

    With probability at least 1 - delta_spent a certificate's risk is at most `claim.max_risk` (if one is
    issued at all), over the draw of the calibration rows; `claim` must not have been chosen by looking at them.
    ValueError where the claim makes no sense.
    """
    if not (0.0 < claim.max_risk < 1.0 and 0.0 < claim.confidence < 1.0):
        raise ValueError(f"max_risk and confidence must lie strictly between 0 and 1, not {claim!r}.")
    delta = spending.share(claim.delta, terms.attempt)
    gates = _gates(evidence)
    gate = _choose_gate(gates, claim, delta)
    order, choice = _test(gate, claim, delta)
    if choice is None:
        return _refuse(gates, claim, terms)
    rows = gate.rows
    naive = sequence.naive(rows, claim.max_risk, per_traffic=claim.per == "traffic")
    return Certificate(
        task_id=terms.task_id,
        task_name=terms.task_name,
        claim=claim,
        bound=choice.bound,
        min_certainty=choice.threshold,
        min_scope=gate.min_scope,
        coverage=gate.drawn.share(choice.threshold) if gate.drawn else choice.n_served / rows.n_rows,
        n=rows.n_rows,
        n_served=choice.n_served,
        errors=choice.errors,
        attempt=terms.attempt,
        delta_spent=delta,
        schedule=spending.SCHEDULE,
        start_certainty=order[0] if order else rows.points[0].threshold,
        procedure=WEIGHTED_PROCEDURE if gate.drawn else PROCEDURE[claim.per],
        split_rule=terms.split_rule,
        scorer=SCORERS[terms.n_votes],
        data_sha256=terms.data_sha256,
        artefact_sha256=terms.artefact_sha256,
        created_at=terms.created_at,
        details={
            "order_of_tests": order,
            "request_ids": list(terms.request_ids),
            "consistency": terms.asked_again.to_json(),
            "naive": {"min_certainty": naive.threshold, "n_served": naive.n_served, "errors": naive.errors}
            if naive
            else None,
            "baseline": drift.baseline(
                {"certainty": evidence.fold_certainty, "scope": evidence.fold_scope},
                {"certainty": evidence.certainty, "scope": evidence.scope},
            ),
        },
    )


def gated(
    certainty: Sequence[float], scope: Sequence[float], losses: Sequence[float], min_scope: float
) -> sequence.Curve:
    """The rows as a curve over certainty; those under the scope gate count, but are never served."""
    return sequence.curve(_scores(certainty, scope, min_scope), losses)


def drawn(
    certainty: Sequence[float],
    scope: Sequence[float],
    losses: Sequence[float],
    weights: Sequence[float],
    min_scope: float,
) -> weighted.Drawn | None:
    """The same with their weights, None where there are none: then counting is exact."""
    return weighted.Drawn(_scores(certainty, scope, min_scope), losses, weights) if weights else None


def expected_coverage(evidence: Evidence, n: int, claim: Claim, attempt: int) -> float:
    """The coverage to expect from `n` calibration rows; looks at the out-of-fold rows alone and spends nothing."""
    delta = spending.share(claim.delta, attempt)
    return max(_expected(gate.fold, n, claim, delta) for gate in _gates(evidence))


def surest(look: Evidence, n: int, claim: Claim, attempt: int) -> list[bool] | None:
    """Which out-of-fold rows any certificate from `n` calibration rows would serve; None where none is to be expected.

    Per answer those above the start of the test, which only ever goes down from there; per traffic the surest tenth.
    """
    delta = spending.share(claim.delta, attempt)
    gate = max(_gates(look), key=lambda gate: _expected(gate.fold, n, claim, delta))
    if _expected(gate.fold, n, claim, delta) < MIN_COVERAGE:
        return None
    if claim.per == "answer":
        start = sequence.plan(gate.fold, n, claim.max_risk, delta)[0]
    else:
        start = next(p.threshold for p in gate.fold.points if p.n_served >= MIN_COVERAGE * gate.fold.n_rows)
    return [score >= start for score in _scores(look.fold_certainty, look.fold_scope, gate.min_scope)]


def answers_needed(evidence: Evidence, claim: Claim, attempt: int) -> int | None:
    """How many unbiased answers would prove the claim at the out-of-fold agreement; spends nothing.

    Before, calibration rows are split off them. None where no number of answers would do.
    """
    delta = spending.share(claim.delta, attempt)
    needed = [rows_needed(gate.fold, claim, delta) for gate in _gates(evidence)]
    least = min((n for n in needed if n is not None), default=None)
    return None if least is None else unbiased_rows_for(least)


def policy_of(certificate: Certificate) -> Policy:
    """The policy that a certificate holds for."""
    return Policy(Gates(min_certainty=certificate.min_certainty, min_scope=certificate.min_scope))


def choose(
    rows: sequence.Curve, unequal: weighted.Drawn | None, order: Sequence[float], claim: Claim, delta: float
) -> sequence.Choice | None:
    """The proven threshold for `claim` at level 1 - `delta`, or None; `unequal` are the rows that carry weights."""
    if unequal is not None:
        return weighted.choose(unequal, order, claim.max_risk, delta, per_traffic=claim.per == "traffic")
    if claim.per == "traffic":
        return sequence.per_traffic(rows, claim.max_risk, delta)
    return sequence.per_answer(rows, order, claim.max_risk, delta)


def rows_needed(rows: sequence.Curve, claim: Claim, delta: float) -> int | None:
    """How many rows would prove the claim for a tenth of them or more, at the agreement seen in `rows`.

    None where no number would. A planning figure: the agreement seen is itself uncertain.
    """
    needed: list[int] = []
    served = [point for point in rows.points if point.n_served >= MIN_COVERAGE * rows.n_rows]
    for point in served[:: max(1, len(served) // 50)]:
        base = point.n_served if claim.per == "answer" else rows.n_rows
        tested = _smallest_passing(point.errors / base, claim.max_risk, delta)
        if tested is not None:
            needed.append(math.ceil(tested * rows.n_rows / base))
    return min(needed, default=None)


def promise(claim: Claim) -> str:
    """The claim in words."""
    base = "of the requests answered locally" if claim.per == "answer" else "of all requests"
    verb = "differ" if claim.per == "answer" else "are answered locally and differently"
    return f"at most {claim.max_risk * 100:.3g} % {base} {verb}, with {claim.confidence * 100:.4g} % confidence"


def _scores(certainty: Sequence[float], scope: Sequence[float], min_scope: float) -> list[float]:
    return [c if s >= min_scope else -math.inf for c, s in zip(certainty, scope, strict=True)]


class _Gate(NamedTuple):
    """One candidate for the scope gate, and both kinds of rows behind it; `drawn` where they carry weights."""

    min_scope: float
    rows: sequence.Curve
    fold: sequence.Curve
    drawn: weighted.Drawn | None


def _gates(evidence: Evidence) -> list[_Gate]:
    """The candidates, from the widest to the narrowest."""
    ordered = sorted(evidence.fold_scope)
    scopes = [ordered[int(share * len(ordered))] for share in _SCOPE_SHARES] if ordered else [-sys.float_info.max]
    return [
        _Gate(
            scope,
            gated(evidence.certainty, evidence.scope, evidence.losses, scope),
            gated(evidence.fold_certainty, evidence.fold_scope, evidence.fold_losses, scope),
            drawn(evidence.certainty, evidence.scope, evidence.losses, evidence.weights, scope),
        )
        for scope in scopes
    ]


def _expected(fold: sequence.Curve, n: int, claim: Claim, delta: float) -> float:
    if not fold.n_rows or not n:
        return 0.0
    if claim.per == "answer":
        return sequence.expected_coverage(fold, n, claim.max_risk, delta)
    allowed = binomial.allowed_errors(n, claim.max_risk, delta)[n] / n
    return max((p.n_served for p in fold.points if p.errors <= allowed * fold.n_rows), default=0) / fold.n_rows


def _choose_gate(gates: Sequence[_Gate], claim: Claim, delta: float) -> _Gate:
    """The gate with the largest expected coverage on out-of-fold rows, the widest of equals."""
    return max(gates, key=lambda gate: _expected(gate.fold, gate.rows.n_rows, claim, delta))


def _test(gate: _Gate, claim: Claim, delta: float) -> tuple[list[float], sequence.Choice | None]:
    """The order of tests and what they proved, None where that serves less than a tenth."""
    n = gate.rows.n_rows
    if claim.per == "answer":
        order = sequence.plan(gate.fold, n, claim.max_risk, delta)
    else:
        order = sequence.steps(gate.fold) if gate.drawn else []
    choice = choose(gate.rows, gate.drawn, order, claim, delta)
    return order, choice if choice and choice.n_served >= MIN_COVERAGE * n else None


def _passing_risk(gates: Sequence[_Gate], claim: Claim, delta: float) -> float | None:
    """The tolerated risk, by bisection in steps of 0.1 % up to 50 %, that would be certified on rows like these."""

    def passes(thousandths: int) -> bool:
        asked = replace(claim, max_risk=thousandths / 1000)
        return _test(_choose_gate(gates, asked, delta), asked, delta)[1] is not None

    low, high = math.floor(claim.max_risk * 1000), 500
    if low >= high or not passes(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high / 1000


def _smallest_passing(rate: float, risk: float, delta: float) -> int | None:
    """The smallest number of tested rows, found by bisection, at which errors at `rate` would pass."""
    if rate >= risk:
        return None

    def passes(n: int) -> bool:
        return binomial.cdf(math.ceil(rate * n), n, risk) <= delta

    low = high = binomial.smallest_n(risk, delta)
    while not passes(high):
        low, high = high, high * 2
        if high > _MOST_ROWS:
            return None
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _refuse(gates: Sequence[_Gate], claim: Claim, terms: Terms) -> Refusal:
    """Says which is short: the reference's consistency, examples, or agreement."""
    delta = spending.share(claim.delta, terms.attempt)
    rows = _choose_gate(gates, claim, delta).rows
    # Whoever asks for it makes the next attempt, and what is missing is counted at that attempt's share too.
    next_delta = spending.share(claim.delta, terms.attempt + 1)
    passing = _passing_risk(gates, claim, next_delta)
    today = f"today {passing * 100:.3g} % would pass" if passing else "today not even 50 % would pass"
    short: int | None = None
    reason: Shortage
    needed = rows_needed(rows, claim, next_delta)
    known = rows.n_rows
    if needed is not None:
        # The bound would pass at what was seen, and did not: a tenth more is the least that may change that.
        needed = max(needed, math.ceil(1.1 * rows.n_rows))
        if terms.n_answers is not None:
            needed, known = unbiased_rows_for(needed), terms.n_answers
    if standard_floor(terms.asked_again, terms.n_votes) > claim.max_risk:
        reason, said = "consistency", why(terms.asked_again, terms.n_votes)
    elif needed is None:
        reason, said = "agreement", "the specialist and the reference part too often"
    else:
        reason, short = "examples", max(1, needed - known)
        said = f"about {short:,} more unbiased answers are needed to test it, after {known:,}"
    return Refusal(
        task_id=terms.task_id,
        task_name=terms.task_name,
        claim=claim,
        short_of=reason,
        message=f"Cannot promise that {promise(claim)}: {said}; {today}.",
        n=rows.n_rows,
        examples_short=short,
        passing_risk=passing,
        attempt=terms.attempt,
        delta_spent=delta,
        created_at=terms.created_at,
    )
