from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.guarantees.certify import Evidence, Terms, certify, expected_coverage, promise
from pilotfish.guarantees.consistency import Repeated
from pilotfish.routing.policy import policy_of
from pilotfish.stats import binomial, spending

TERMS = Terms(task_id="t" * 16, task_name="intent", attempt=1, created_at="2026-11-22T00:00:00+00:00")


def _scores(n, seed, worst=0.4):
    source = random.Random(seed)
    rows = []
    for _ in range(n):
        certainty, scope = source.random(), source.random()
        error = worst * (1 - certainty) ** 3 + (0.5 if scope < 0.02 else 0.0)
        rows.append((float(source.random() < error), certainty, scope))
    return [list(column) for column in zip(*rows, strict=True)]


def evidence(n=1500, seed=1, worst=0.4):
    losses, certainty, scope = _scores(n, seed, worst)
    fold = _scores(4000, seed + 1, worst)
    return Evidence(
        losses=losses,
        certainty=certainty,
        scope=scope,
        fold_losses=fold[0],
        fold_certainty=fold[1],
        fold_scope=fold[2],
    )


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_a_certificate_states_what_its_own_policy_would_serve(per):
    found, claim = evidence(), Claim(max_risk=0.05, per=per)
    certificate = certify(found, claim, TERMS)
    assert isinstance(certificate, Certificate)
    policy = policy_of(certificate)
    served = [policy.decide(c, s) == "certified" for c, s in zip(found.certainty, found.scope, strict=True)]
    assert certificate.n_served == sum(served)
    assert certificate.errors == sum(x for x, is_served in zip(found.losses, served, strict=True) if is_served)
    assert certificate.coverage == pytest.approx(sum(served) / 1500)
    base = sum(served) if per == "answer" else 1500
    assert certificate.delta_spent == spending.share(claim.delta, 1)
    assert certificate.bound == pytest.approx(binomial.upper(int(certificate.errors), base, certificate.delta_spent))
    assert certificate.bound <= 0.05


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_a_certificate_can_be_written_and_read(per):
    certificate = certify(evidence(), Claim(max_risk=0.05, per=per), TERMS)
    again = Certificate.from_json(json.loads(json.dumps(certificate.to_json(), allow_nan=False)))
    assert again == certificate
    assert again.id == certificate.id


def test_later_attempts_serve_no_more():
    served = [
        certify(evidence(), Claim(max_risk=0.05), dataclasses.replace(TERMS, attempt=attempt)).coverage
        for attempt in (1, 3, 10)
    ]
    assert served == sorted(served, reverse=True)


def test_rows_out_of_scope_are_never_served_but_count():
    certificate = certify(evidence(), Claim(max_risk=0.05, per="traffic"), TERMS)
    assert certificate.min_scope > 0
    assert certificate.coverage < 1
    assert certificate.n == 1500


def test_a_scope_gate_that_pays_is_raised():
    found = evidence()
    outside = [scope < 0.09 for scope in found.fold_scope]
    strict = dataclasses.replace(
        found, fold_losses=[1.0 if out else loss for out, loss in zip(outside, found.fold_losses, strict=True)]
    )
    claim = Claim(max_risk=0.05)
    assert certify(strict, claim, TERMS).min_scope > certify(found, claim, TERMS).min_scope


def test_too_few_examples_are_counted():
    refusal = certify(evidence(n=120), Claim(max_risk=0.02), TERMS)
    assert isinstance(refusal, Refusal)
    assert refusal.short_of == "examples"
    assert refusal.examples_short > 0
    more = certify(evidence(n=120 + 4 * refusal.examples_short), Claim(max_risk=0.02), TERMS)
    assert isinstance(more, Certificate)
    assert f"{refusal.examples_short:,} more" in refusal.message


def test_the_passing_risk_passes_and_much_less_does_not():
    found = evidence(worst=1.0, n=600)
    refusal = certify(found, Claim(max_risk=0.01), TERMS)
    assert isinstance(refusal, Refusal)
    passing = refusal.passing_risk
    assert isinstance(certify(found, Claim(max_risk=passing), TERMS), Certificate)
    assert isinstance(certify(found, Claim(max_risk=passing * 0.7), TERMS), Refusal)
    assert f"today {passing * 100:.3g} % would pass" in refusal.message


def test_a_useless_student_lacks_agreement_whatever_the_number():
    source = random.Random(3)
    n = 2000
    columns = [[float(source.random() < 0.3) for _ in range(n)], [source.random() for _ in range(n)], [1.0] * n]
    found = Evidence(
        losses=columns[0],
        certainty=[0.5] * n,
        scope=columns[2],
        fold_losses=columns[0],
        fold_certainty=[0.5] * n,
        fold_scope=columns[2],
    )
    refusal = certify(found, Claim(max_risk=0.05), TERMS)
    assert (refusal.short_of, refusal.examples_short) == ("agreement", None)
    assert 0.3 < refusal.passing_risk < 0.36


def test_a_reference_that_contradicts_itself_is_the_reason():
    terms = dataclasses.replace(TERMS, asked_again=Repeated(12, 100))
    refusal = certify(evidence(worst=3.0), Claim(max_risk=0.01), terms)
    assert refusal.short_of == "consistency"
    assert "12 of 100" in refusal.message


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_the_expected_coverage_looks_at_out_of_fold_rows_alone_and_comes_near(per):
    found, claim = evidence(), Claim(max_risk=0.05, per=per)
    blind = dataclasses.replace(found, losses=(), certainty=(), scope=())
    expected = expected_coverage(blind, 1500, claim, 1)
    assert expected == expected_coverage(found, 1500, claim, 1)
    assert certify(found, claim, TERMS).coverage == pytest.approx(expected, abs=0.08)
    assert expected_coverage(blind, 0, claim, 1) == 0.0


def test_no_evidence_is_a_refusal():
    nothing = Evidence(losses=[], certainty=[], scope=[], fold_losses=[], fold_certainty=[], fold_scope=[])
    for per in ("answer", "traffic"):
        refusal = certify(nothing, Claim(max_risk=0.05, per=per), TERMS)
        assert isinstance(refusal, Refusal)
        assert refusal.passing_risk is None


def test_one_certainty_for_all_rows_is_served_or_deferred_as_a_whole():
    n = 1000
    found = Evidence(
        losses=[0.0] * 990 + [1.0] * 10,
        certainty=[0.7] * n,
        scope=[1.0] * n,
        fold_losses=[0.0] * n,
        fold_certainty=[0.7] * n,
        fold_scope=[1.0] * n,
    )
    certificate = certify(found, Claim(max_risk=0.03), TERMS)
    assert (certificate.coverage, certificate.errors, certificate.min_certainty) == (1.0, 10.0, 0.7)


def test_a_claim_without_sense_is_refused():
    for claim in (Claim(max_risk=0.0), Claim(max_risk=0.05, confidence=1.0), Claim(max_risk=math.nan)):
        with pytest.raises(ValueError, match="strictly between"):
            certify(evidence(n=50), claim, TERMS)


def in_fields(seed=1, n=1500, n_fold=4000, worst=(0.4, 0.1, 0.0)):
    """Evidence of an answer of three fields that err independently of each other, more or less often."""

    def rows(seed, n):
        source = random.Random(seed)
        certainty = [source.random() for _ in range(n)]
        losses = [[float(source.random() < w * (1 - c) ** 3) for c in certainty] for w in worst]
        return certainty, losses

    (certainty, losses), (fold_certainty, fold) = rows(seed, n), rows(seed + 1000, n_fold)

    def of(losses, fold_losses, **more):
        fixed = {"certainty": certainty, "scope": [1.0] * n}
        fixed |= {"fold_certainty": fold_certainty, "fold_scope": [1.0] * n_fold}
        return Evidence(losses=losses, fold_losses=fold_losses, **fixed, **more)

    fields = tuple(of(*pair) for pair in zip(losses, fold, strict=True))
    return of(
        [max(row) for row in zip(*losses, strict=True)], [max(row) for row in zip(*fold, strict=True)], fields=fields
    )


NAMED = dataclasses.replace(TERMS, fields=("city", "guests", "kind"))


def test_a_promise_per_field_is_about_each_of_them():
    found = in_fields()
    claim = Claim(max_risk=0.02, per="field")
    certificate, whole = certify(found, claim, NAMED), certify(found, dataclasses.replace(claim, per="answer"), NAMED)
    assert certificate.coverage > whole.coverage
    stated = certificate.details["fields"]
    assert list(stated) == ["city", "guests", "kind"]
    served = [
        c >= certificate.min_certainty and s >= certificate.min_scope
        for c, s in zip(found.certainty, found.scope, strict=True)
    ]
    for field, one in zip(found.fields, stated.values(), strict=True):
        assert one["errors"] == sum(loss for loss, is_served in zip(field.losses, served, strict=True) if is_served)
        assert one["bound"] == pytest.approx(binomial.upper(int(one["errors"]), sum(served), certificate.delta_spent))
        assert one["bound"] <= 0.02
    assert (certificate.errors, certificate.bound) == (stated["city"]["errors"], stated["city"]["bound"])
    assert "intersection-union" in certificate.procedure
    assert "in any one field" in promise(claim)


def test_one_field_that_errs_too_often_refuses_them_all():
    verdict = certify(in_fields(worst=(0.0, 0.0, 5.0)), Claim(max_risk=0.02, per="field"), NAMED)
    assert isinstance(verdict, Refusal)


def test_promises_per_field_are_kept():
    """Of 40 runs at most 5 % (and three standard deviations) may promise what one of the fields does not keep."""

    def risk(w, t):
        return w * (1 - t) ** 3 / 4  # the mean of w (1 - c)^3 over c in [t, 1]

    broken = served = 0
    for run in range(40):
        found = in_fields(seed=run, n=600, n_fold=1000, worst=(0.4, 0.38, 0.3))
        verdict = certify(found, Claim(max_risk=0.05, per="field"), NAMED)
        if isinstance(verdict, Certificate):
            served += 1
            broken += risk(0.4, verdict.min_certainty) > 0.05
    assert served > 30
    assert broken <= 0.05 * 40 + 3 * (40 * 0.05 * 0.95) ** 0.5
