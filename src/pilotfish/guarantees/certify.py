"""From evidence to a certificate or a refusal, in numbers.

It knows scores and losses of rows, not where they come from: `attempt.py` fits the specialist and
gathers the evidence, `verify.py` recomputes it. The first tier's gates, the scope gate and the order in which
thresholds are tested (the `Design`) are fixed on out-of-fold scores of the fitting rows; the calibration rows are
looked at once, by the test of `stats/sequence.py`, at this attempt's share of delta.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pilotfish.core.certificate import SCORERS, Certificate, Claim, FirstTier, Refusal, Shortage
from pilotfish.guarantees import drift, kept_curve, tiers
from pilotfish.guarantees.consistency import Repeated, standard_floor, why
from pilotfish.guarantees.prove import Design, Proven, by_field, most_errors, prove
from pilotfish.guarantees.split import unbiased_rows_for
from pilotfish.guarantees.tiers import MIN_COVERAGE, Rows, joint
from pilotfish.routing.policy import Gates
from pilotfish.stats import binomial, sequence, spending

_PER_ANSWER = "exact binomial fixed-sequence test over out-of-fold thresholds (Learn then Test, arXiv 2110.01052)"
PROCEDURE = {
    "answer": _PER_ANSWER,
    "field": _PER_ANSWER,
    "traffic": "exact binomial test of nested thresholds (served disagreements only grow as the threshold falls)",
}
WEIGHTED_PROCEDURE = "fixed-sequence bets over out-of-fold thresholds, rows weighted by 1 / probability"
_TWO_TIERS = "; two tiers under one test, the first one's gates fixed beforehand, out of fold"
# The scope gate defers at least the strangest hundredth, so that it stands when traffic drifts.
_SCOPE_SHARES = (0.01, 0.02, 0.05, 0.1)
_MOST_ROWS = 10_000_000
_EACH_FIELD = "; each field tested at the full delta, and all must pass (an intersection-union test)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the served artefact said on calibration rows, and the fitting rows out of fold.

    Losses are in [0, 1] against the reference. Calibration rows are unbiased, in time order and were not fitted
    on; the `fold_` rows only fix the design of the test. `weights` (of `stats.weighted`) is given where the
    calibration rows were drawn with unequal probabilities. `first` is the evidence of the first tier on the very same
    rows, None where the specialist has none. `fields` are the same of each field alone, where the answer has several:
    a promise per field is about each of them.
    """

    fold_losses: Sequence[float]
    fold_certainty: Sequence[float]
    fold_scope: Sequence[float]
    losses: Sequence[float] = ()
    certainty: Sequence[float] = ()
    scope: Sequence[float] = ()
    weights: Sequence[float] = ()
    first: Evidence | None = None
    fields: tuple[Evidence, ...] = ()

    def counted(self, claim: Claim) -> tuple[Evidence, ...]:
        """What a claim is about: the whole answer, or each of its fields."""
        return self.fields if claim.per == "field" and self.fields else (self,)

    def worst(self, claim: Claim) -> Evidence:
        """Of what it is about the one that differed most out of fold, which decides how the others are tested, too."""
        return max(self.counted(claim), key=lambda one: sum(one.fold_losses))

    @property
    def fold(self) -> Rows:
        """The out-of-fold rows."""
        return Rows(self.fold_losses, self.fold_certainty, self.fold_scope)

    @property
    def rows(self) -> Rows:
        """The calibration rows."""
        return Rows(self.losses, self.certainty, self.scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a certificate says beside its numbers. `attempt` counts all attempts ever made for the task.

    `asked_again` is how often the reference differed from itself, `n_votes` how many of its answers make the one that
    counts; `scorers` say how two answers are compared, by that number; `fields` name what the answer is made of.
    `n_answers` is how many unbiased answers the calibration rows were split from; without it a refusal counts
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
    fields: tuple[str, ...] = ()
    scorers: Mapping[int, str] = field(default_factory=lambda: SCORERS)


def certify(evidence: Evidence, claim: Claim, terms: Terms) -> Certificate | Refusal:
    """The certificate of the largest proven coverage, or the refusal that says what is short.

    With probability at least 1 - delta_spent a certificate's risk is at most `claim.max_risk` (if one is
    issued at all), over the draw of the calibration rows; `claim` must not have been chosen by looking at them.
    ValueError where the claim makes no sense.
    """
    if not (0.0 < claim.max_risk < 1.0 and 0.0 < claim.confidence < 1.0):
        raise ValueError(f"max_risk and confidence must lie strictly between 0 and 1, not {claim!r}.")
    delta = spending.share(claim.delta, terms.attempt)
    planned = design(evidence, claim, len(evidence.losses), delta)
    found = _test(planned, evidence, claim, delta)
    if found is None:
        return _refuse(evidence, claim, terms)
    rows, unequal, choice = most_errors(found)
    order = planned.order
    naive = sequence.naive(rows, claim.max_risk, per_traffic=claim.per == "traffic")
    return Certificate(
        task_id=terms.task_id,
        task_name=terms.task_name,
        claim=claim,
        bound=choice.bound,
        min_certainty=choice.threshold,
        min_scope=planned.min_scope,
        coverage=unequal.share(choice.threshold) if unequal else choice.n_served / rows.n_rows,
        n=rows.n_rows,
        n_served=choice.n_served,
        errors=choice.errors,
        attempt=terms.attempt,
        delta_spent=delta,
        schedule=spending.SCHEDULE,
        start_certainty=order[0] if order else rows.points[0].threshold,
        procedure=(WEIGHTED_PROCEDURE if unequal else PROCEDURE[claim.per])
        + (_TWO_TIERS if planned.first else "")
        + (_EACH_FIELD if len(found) > 1 else ""),
        split_rule=terms.split_rule,
        scorer=terms.scorers[terms.n_votes],
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
            "baseline": _baseline(planned, evidence),
            "curve": kept_curve.to_json(rows, choice.threshold, naive),
            **({"fields": by_field(found, terms.fields)} if len(found) > 1 else {}),
        },
        first=first_tier(evidence.first.rows, planned.first) if evidence.first and planned.first else None,
    )


def design(evidence: Evidence, claim: Claim, n: int, delta: float, *, may_cascade: bool = True) -> Design:
    """The design of a test on `n` calibration rows, of which it asks only whether they carry weights: `evidence` needs
    no others than its out-of-fold rows, and nothing is spent.

    The gates with the largest expected coverage, the widest of equals; a first tier where it costs next to nothing.
    """
    evidence = evidence.worst(claim)
    fold = evidence.fold
    first = evidence.first.fold if evidence.first and may_cascade else None
    scopes = _scopes(fold)

    def widest(gates: Gates | None) -> tuple[float, float]:
        found = [(tiers.outlook(joint(fold, scope, first, gates), n, claim, delta).coverage, scope) for scope in scopes]
        return max(found, key=lambda coverage_and_scope: coverage_and_scope[0])

    coverage, scope = widest(None)
    gates = tiers.choose_first(fold, first, scope, n, claim, delta) if first else None
    if gates is not None:
        coverage, scope = widest(gates)
    rows = joint(fold, scope, first, gates)
    order: list[float] = []
    if claim.is_of_served:
        order = sequence.plan(rows, n, claim.max_risk, delta)
    elif evidence.weights:
        order = sequence.steps(rows)
    return Design(min_scope=scope, first=gates, order=order, expected_coverage=coverage)


def statistics(full: Rows, first: Rows | None, gates: Gates | None) -> dict[str, Sequence[float]]:
    """What drift is watched in: both scores of the tier that decides on each row, as the gateway sees them."""
    decided = tiers.decided(full, first, gates)
    return {"certainty": decided.certainty, "scope": decided.scope}


def first_tier(rows: Rows, gates: Gates) -> FirstTier:
    """The first tier's part in a certificate about these calibration rows."""
    losses = [loss for loss, is_accepted in zip(rows.losses, tiers.accepted(rows, gates), strict=True) if is_accepted]
    return FirstTier(
        min_certainty=gates.min_certainty,
        min_scope=gates.min_scope,
        n_served=len(losses),
        errors=sum(losses),
        max_share=tiers.MAX_SHARE,
    )


def expected_coverage(evidence: Evidence, n: int, claim: Claim, attempt: int) -> float:
    """The coverage to expect from `n` calibration rows; looks at the out-of-fold rows alone and spends nothing."""
    return design(evidence, claim, n, spending.share(claim.delta, attempt)).expected_coverage


def surest(look: Evidence, n: int, claim: Claim, attempt: int) -> list[bool] | None:
    """Which out-of-fold rows any certificate from `n` calibration rows would serve; None where none is to be expected.

    Per answer those above the start of the test, which only ever goes down from there; per traffic the surest tenth.
    """
    planned = design(look, claim, n, spending.share(claim.delta, attempt))
    if planned.expected_coverage < MIN_COVERAGE:
        return None
    first = look.first.fold if look.first else None
    if claim.is_of_served:
        start = planned.order[0]
    else:
        rows = planned.curve(look.fold, first)
        start = next(p.threshold for p in rows.points if p.n_served >= MIN_COVERAGE * rows.n_rows)
    scores, _ = tiers.scored(look.fold, planned.min_scope, first, planned.first)
    return [score >= start for score in scores]


def answers_needed(evidence: Evidence, claim: Claim, attempt: int) -> int | None:
    """How many unbiased answers would prove the claim at the out-of-fold agreement; spends nothing.

    Before, calibration rows are split off them. None where no number of answers would do.
    """
    delta = spending.share(claim.delta, attempt)
    evidence = evidence.worst(claim)
    needed = [rows_needed(joint(evidence.fold, scope), claim, delta) for scope in _scopes(evidence.fold)]
    least = min((n for n in needed if n is not None), default=None)
    return None if least is None else unbiased_rows_for(least)


def rows_needed(rows: sequence.Curve, claim: Claim, delta: float) -> int | None:
    """How many rows would prove the claim for a tenth of them or more, at the agreement seen in `rows`.

    None where no number would. A planning figure: the agreement seen is itself uncertain.
    """
    needed: list[int] = []
    served = [point for point in rows.points if point.n_served >= MIN_COVERAGE * rows.n_rows]
    for point in served[:: max(1, len(served) // 50)]:
        base = point.n_served if claim.is_of_served else rows.n_rows
        tested = _smallest_passing(point.errors / base, claim.max_risk, delta)
        if tested is not None:
            needed.append(math.ceil(tested * rows.n_rows / base))
    return min(needed, default=None)


def promise(claim: Claim) -> str:
    """The claim in words."""
    base = "of the requests answered locally" if claim.is_of_served else "of all requests"
    verb = "differ" if claim.is_of_served else "are answered locally and differently"
    verb += " in any one field" if claim.per == "field" else ""
    return f"at most {claim.max_risk * 100:.3g} % {base} {verb}, with {claim.confidence * 100:.4g} % confidence"


def _baseline(planned: Design, evidence: Evidence) -> dict[str, Any]:
    first = evidence.first
    return drift.baseline(
        statistics(evidence.fold, first.fold if first else None, planned.first),
        statistics(evidence.rows, first.rows if first else None, planned.first),
    )


def _scopes(fold: Rows) -> list[float]:
    """The candidates for the mixture's scope gate, from the widest to the narrowest."""
    ordered = sorted(fold.scope)
    return [ordered[int(share * len(ordered))] for share in _SCOPE_SHARES] if ordered else [-sys.float_info.max]


def _test(planned: Design, evidence: Evidence, claim: Claim, delta: float) -> list[Proven] | None:
    """What the design proved on the calibration rows, None where that serves less than a tenth."""
    counted = [(one.rows, one.first.rows if one.first else None) for one in evidence.counted(claim)]
    found = prove(planned, counted, evidence.weights, claim, delta)
    return found if found and found[0].choice.n_served >= MIN_COVERAGE * found[0].rows.n_rows else None


def _passing_risk(evidence: Evidence, claim: Claim, delta: float) -> float | None:
    """The tolerated risk, by bisection in steps of 0.1 % up to 50 %, that would be certified on rows like these.

    By the mixture alone: a first tier is used only where that is as sure to pass.
    """
    n = len(evidence.losses)

    def passes(thousandths: int) -> bool:
        asked = replace(claim, max_risk=thousandths / 1000)
        planned = design(evidence, asked, n, delta, may_cascade=False)
        return _test(planned, evidence, asked, delta) is not None

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


def _refuse(evidence: Evidence, claim: Claim, terms: Terms) -> Refusal:
    """Says which is short: the reference's consistency, examples, or agreement."""
    delta = spending.share(claim.delta, terms.attempt)
    alone = design(evidence, claim, len(evidence.losses), delta, may_cascade=False)
    rows = alone.curve(evidence.worst(claim).rows, None)
    # Whoever asks for it makes the next attempt, and what is missing is counted at that attempt's share too.
    next_delta = spending.share(claim.delta, terms.attempt + 1)
    passing = _passing_risk(evidence, claim, next_delta)
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
    if len(evidence.counted(claim)) == 1 and standard_floor(terms.asked_again, terms.n_votes) > claim.max_risk:
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
