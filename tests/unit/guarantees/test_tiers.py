"""Two tiers under one certificate: joint rows, the choice of the first tier's gates, what is certified."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest

from pilotfish.core.certificate import FULL_TIER_NEVER, Certificate, Claim
from pilotfish.guarantees import drift, tiers
from pilotfish.guarantees.certify import Evidence, Terms, certify, design, expected_coverage
from pilotfish.guarantees.page import render
from pilotfish.guarantees.tiers import ACCEPTED_FIRST, Rows, choose_first, joint
from pilotfish.routing.policy import Gates, policy_of
from pilotfish.stats import binomial, sequence

TERMS = Terms(task_id="t" * 16, task_name="intent", attempt=1, created_at="2026-11-22T00:00:00+00:00")
GATES = Gates(min_certainty=0.9, min_scope=0.5)


def _tier(n: int, seed: int, worst: float) -> Rows:
    source = random.Random(seed)
    rows = []
    for _ in range(n):
        certainty = source.random()
        rows.append((float(source.random() < worst * (1 - certainty) ** 3), certainty, source.random()))
    return Rows(*([row[column] for row in rows] for column in range(3)))


def _evidence(fold: Rows, rows: Rows, first: Evidence | None = None) -> Evidence:
    return Evidence(
        fold_losses=fold.losses,
        fold_certainty=fold.certainty,
        fold_scope=fold.scope,
        losses=rows.losses,
        certainty=rows.certainty,
        scope=rows.scope,
        first=first,
    )


def evidence(n: int = 1500, seed: int = 1, worst: float = 0.5) -> Evidence:
    """A mixture, and a first tier that errs `worst` (1 - certainty)^3 of the time, independently."""
    alone = _evidence(_tier(3000, seed, worst), _tier(n, seed + 1, worst))
    return _evidence(_tier(3000, seed + 2, 0.3), _tier(n, seed + 3, 0.3), alone)


def certified(found: Evidence, per: str = "answer", max_risk: float = 0.05) -> Certificate:
    certificate = certify(found, Claim(max_risk=max_risk, per=per), TERMS)
    assert isinstance(certificate, Certificate)
    return certificate


def test_a_row_counts_with_the_tier_that_would_answer_it():
    full = Rows([0.0, 1.0, 1.0, 0.0], [0.8, 0.8, 0.3, 0.9], [1.0, 1.0, 1.0, -1.0])
    first = Rows([1.0, 0.0, 1.0, 1.0], [0.9, 0.95, 0.2, 0.99], [0.5, 0.6, 0.9, 0.4])
    found = joint(full, 0.0, first, GATES)
    # The first two are the first tier's, with its losses; the fourth is in no tier's scope.
    assert found.points == (sequence.Point(ACCEPTED_FIRST, 2, 1.0), sequence.Point(0.3, 3, 2.0))
    assert found.n_rows == 4
    assert joint(full, 0.0).points[0] == sequence.Point(0.8, 2, 1.0)


def test_the_first_tier_answers_what_the_scope_gate_of_the_mixture_would_defer():
    found = joint(Rows([1.0], [0.1], [-1.0]), 0.0, Rows([0.0], [1.0], [1.0]), GATES)
    assert found.points == (sequence.Point(ACCEPTED_FIRST, 1, 0.0),)


def test_a_nan_is_accepted_by_no_tier():
    first = Rows([0.0, 0.0], [math.nan, 1.0], [1.0, math.nan])
    assert tiers.accepted(first, GATES) == [False, False]
    assert joint(Rows([0.0, 0.0], [math.nan] * 2, [1.0] * 2), 0.0, first, GATES).points == ()


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_a_certificate_states_what_its_own_policy_would_serve(per):
    found = evidence()
    certificate = certified(found, per)
    policy, alone, n, errors = policy_of(certificate), found.first, [0, 0], [0.0, 0.0]
    for i in range(1500):
        if policy.accepts_first(alone.certainty[i], alone.scope[i]):
            n[0], errors[0] = n[0] + 1, errors[0] + alone.losses[i]
        elif policy.decide(found.certainty[i], found.scope[i]) == "certified":
            n[1], errors[1] = n[1] + 1, errors[1] + found.losses[i]
    assert n[0] > 150
    assert (certificate.first.n_served, certificate.first.errors) == (n[0], errors[0])
    assert (certificate.n_served, certificate.errors) == (sum(n), sum(errors))
    base = sum(n) if per == "answer" else 1500
    assert certificate.bound == pytest.approx(binomial.upper(int(sum(errors)), base, certificate.delta_spent))
    assert certificate.bound <= 0.05
    assert "two tiers" in certificate.procedure


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_it_can_be_written_and_read(per):
    certificate = certified(evidence(), per)
    again = Certificate.from_json(json.loads(json.dumps(certificate.to_json(), allow_nan=False)))
    assert again == certificate
    assert again.id == certificate.id


def test_the_design_looks_at_out_of_fold_rows_alone():
    claim, found = Claim(max_risk=0.05), evidence()
    spoilt = dataclasses.replace(
        found,
        losses=[1.0] * 1500,
        first=dataclasses.replace(found.first, losses=[1.0] * 1500, certainty=[0.0] * 1500),
    )
    planned = design(found, claim, 1500, 0.03)
    assert planned.first is not None
    assert planned == design(spoilt, claim, 1500, 0.03)


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_out_of_fold_the_first_tier_keeps_to_half_of_the_risk(per):
    found, claim = evidence(), Claim(max_risk=0.05, per=per)
    gates = design(found, claim, 1500, 0.03).first
    losses = [
        loss
        for loss, is_accepted in zip(found.first.fold_losses, tiers.accepted(found.first.fold, gates), strict=True)
        if is_accepted
    ]
    assert sum(losses) <= 0.5 * claim.max_risk * (len(losses) if per == "answer" else 3000)


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_it_costs_at_most_a_point_of_the_expected_coverage(per):
    for seed in range(2):
        found, claim = evidence(seed=10 * seed), Claim(max_risk=0.05, per=per)
        single = expected_coverage(dataclasses.replace(found, first=None), 1500, claim, 1)
        assert expected_coverage(found, 1500, claim, 1) >= single - 0.01


@pytest.mark.parametrize(
    "alone",
    [
        _tier(3000, 5, 40.0),  # never right enough
        Rows([0.0] * 3000, [0.5] * 2800 + [0.99] * 200, [1.0] * 3000)._replace(losses=[1.0] * 2800 + [0.0] * 200),
    ],
    ids=["useless", "less than a tenth"],
)
def test_without_use_there_is_no_first_tier(alone):
    found = evidence()
    found = dataclasses.replace(found, first=_evidence(alone, found.first.rows))
    certificate = certified(found)
    assert certificate.first is None
    assert certificate == certified(dataclasses.replace(found, first=None))


def test_a_first_tier_that_would_make_the_test_unsure_is_not_used():
    """With few rows, errors in the lump of its answers would often fail the first test of all."""
    source, claim = random.Random(0), Claim(max_risk=0.05)
    alone = Rows([float(i % 45 == 0) for i in range(3000)], [source.random() for _ in range(3000)], [1.0] * 3000)
    full = _tier(3000, 3, 0.3)
    assert choose_first(full, alone, 0.0, 3000, claim, 0.03) is not None
    assert choose_first(full, alone, 0.0, 200, claim, 0.03) is None
    assert tiers.outlook(joint(full, 0.0), 200, claim, 0.03).coverage > 0.3, "the mixture alone would be tried"


def test_equal_scores_of_the_first_tier_are_accepted_together():
    n = 3000
    alone = Rows(([0.0] * 49 + [1.0]) * (n // 50), [0.7] * n, [1.0] * n)
    gates = choose_first(_tier(n, 1, 0.3), alone, 0.0, 1500, Claim(max_risk=0.05), 0.03)
    assert gates is None or tiers.accepted(alone, gates) == [True] * n


def test_where_nothing_of_the_mixture_can_be_served_the_first_tier_alone_answers():
    n = 1500
    wrong = Rows([1.0] * n, [0.6] * n, [1.0] * n)
    half = Rows([0.0] * n, [0.99] * (n // 2) + [0.1] * (n // 2), [1.0] * n)
    rows = joint(wrong, 0.0, half, GATES)
    order = sequence.plan(rows, n, 0.05, 0.03)
    choice = sequence.per_answer(rows, order, 0.05, 0.03)
    assert (choice.threshold, choice.n_served) == (FULL_TIER_NEVER, n // 2)
    assert sequence.per_traffic(rows, 0.05, 0.03).threshold == FULL_TIER_NEVER
    certificate = dataclasses.replace(
        certified(evidence()), min_certainty=FULL_TIER_NEVER, coverage=0.5, n_served=n // 2, errors=0.0
    )
    assert policy_of(certificate).decide(1.0, 1.0) == "uncertain"
    assert json.loads(json.dumps(certificate.to_json(), allow_nan=False))["min_certainty"] == FULL_TIER_NEVER
    assert "nothing of the full mixture" in render(certificate, rows)


def test_the_page_shows_both_tiers():
    found = evidence()
    certificate = certified(found)
    first = certificate.first
    rows = joint(found.rows, certificate.min_scope, found.first.rows, policy_of(certificate).gates.first)
    text = render(certificate, rows)
    assert "Two tiers, one promise" in text
    assert f"<td>{first.n_served:,}</td><td>{first.errors:g} (" in text
    assert f"<td>{certificate.n_served - first.n_served:,}</td>" in text
    single = certified(dataclasses.replace(found, first=None))
    assert "Two tiers" not in render(single, joint(found.rows, single.min_scope))


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_rows_drawn_with_unequal_probabilities_prove_both_tiers_together(per):
    found = dataclasses.replace(evidence(n=3000), weights=[1.0 if i % 2 else 0.5 for i in range(3000)])
    certificate = certified(found, per, max_risk=0.08)
    policy, alone = policy_of(certificate), found.first
    served = [
        policy.accepts_first(alone.certainty[i], alone.scope[i])
        or policy.decide(found.certainty[i], found.scope[i]) == "certified"
        for i in range(3000)
    ]
    assert certificate.first is not None
    assert certificate.n_served == sum(served)
    weighed = sum(weight for weight, is_served in zip(found.weights, served, strict=True) if is_served)
    assert certificate.coverage == pytest.approx(weighed / sum(found.weights))


def test_drift_is_watched_in_the_scores_of_the_tier_that_decides():
    found = evidence()
    certificate = certified(found)
    gates = policy_of(certificate).gates.first
    watched = tiers.decided(found.rows, found.first.rows, gates)
    is_first = tiers.accepted(found.first.rows, gates)
    for by_first, said, one, other in zip(
        is_first, watched.certainty, found.first.certainty, found.certainty, strict=True
    ):
        assert said == (one if by_first else other)
    stated = certificate.details["baseline"]
    assert stated == drift.recounted(stated, {"certainty": watched.certainty, "scope": watched.scope})
    assert stated != drift.recounted(stated, {"certainty": found.certainty, "scope": found.scope})
