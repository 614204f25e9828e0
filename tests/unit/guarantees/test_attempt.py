from __future__ import annotations

import dataclasses
import shutil

import pytest

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.errors import SpecialistError
from pilotfish.core.task import AnswerShape
from pilotfish.guarantees.attempt import attempt, smallest_testable
from pilotfish.guarantees.audit import Audit
from pilotfish.guarantees.verify import verify
from pilotfish.specialists.specialist import Specialist
from pilotfish.stats import binomial
from tools.words import CLASSES, ENCODER, TASK
from tools.words import word_examples as _examples

CLAIM = Claim(max_risk=0.1)


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    folder = tmp_path_factory.mktemp("specialists")
    return attempt(TASK, _examples(700), CLAIM, number=1, encoder=ENCODER, folder=folder)


def test_a_learnable_task_is_certified_on_the_latest_rows(tried):
    certificate = tried.verdict
    assert isinstance(certificate, Certificate)
    assert certificate.n == 300
    assert certificate.details["request_ids"] == [f"r{i}" for i in range(400, 700)]
    assert certificate.artefact_sha256 == tried.fitted.sha256
    assert certificate.coverage > 0.5
    assert tried.policy.decide(certificate.min_certainty, certificate.min_scope) == "certified"
    assert tried.naive_certainty <= certificate.min_certainty


def test_what_was_certified_verifies(tried):
    specialist = Specialist.load(tried.fitted.folder, ENCODER)
    assert verify(tried.verdict, _examples(700), specialist) == []


def test_both_tiers_are_asked_anew(tried):
    first = tried.verdict.first
    assert first.n_served >= 30
    specialist = Specialist.load(tried.fitted.folder, ENCODER)
    for change in ({"n_served": first.n_served + 1}, {"errors": first.errors + 1}):
        tampered = dataclasses.replace(tried.verdict, first=dataclasses.replace(first, **change))
        assert [difference.field for difference in verify(tampered, _examples(700), specialist)] == ["first"]
    lower = dataclasses.replace(tried.verdict, first=dataclasses.replace(first, min_certainty=0.0))
    assert "errors" in [difference.field for difference in verify(lower, _examples(700), specialist)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bound": 0.01}, "bound"),
        ({"n_served": 1}, "n_served"),
        ({"errors": 99.0}, "errors"),
        ({"min_certainty": 0.0}, "min_certainty"),
        ({"coverage": 1.0}, "coverage"),
        ({"artefact_sha256": "f" * 64}, "artefact_sha256"),
        ({"attempt": 2}, "delta_spent"),
        ({"claim": Claim(max_risk=0.001)}, "min_certainty"),
    ],
)
def test_a_changed_certificate_is_found_out(tried, change, named):
    specialist = Specialist.load(tried.fitted.folder, ENCODER)
    tampered = dataclasses.replace(tried.verdict, **change)
    assert named in [difference.field for difference in verify(tampered, _examples(700), specialist)]


def test_a_changed_curve_is_found_out_and_an_older_certificate_needs_none(tried):
    specialist = Specialist.load(tried.fitted.folder, ENCODER)
    kept = tried.verdict.details["curve"]
    points = [[*kept["points"][0][:2], 0.5], *kept["points"][1:]]
    tampered = dataclasses.replace(tried.verdict, details=tried.verdict.details | {"curve": kept | {"points": points}})
    assert [difference.field for difference in verify(tampered, _examples(700), specialist)] == ["details.curve"]
    older = {key: value for key, value in tried.verdict.details.items() if key != "curve"}
    assert verify(dataclasses.replace(tried.verdict, details=older), _examples(700), specialist) == []


@pytest.mark.parametrize("change", [{"counts": [0] * 64}, {"edges": [0.5]}, {"n": 1}])
def test_a_changed_baseline_of_the_drift_watch_is_found_out(tried, change):
    specialist = Specialist.load(tried.fitted.folder, ENCODER)
    stated = tried.verdict.details["baseline"]
    details = tried.verdict.details | {"baseline": stated | {"scope": stated["scope"] | change}}
    tampered = dataclasses.replace(tried.verdict, details=details)
    assert [difference.field for difference in verify(tampered, _examples(700), specialist)] == ["details.baseline"]
    older = {key: value for key, value in tried.verdict.details.items() if key != "baseline"}
    assert verify(dataclasses.replace(tried.verdict, details=older), _examples(700), specialist) == []


def test_changed_missing_and_biased_rows_are_found_out(tried):
    specialist = Specialist.load(tried.fitted.folder, ENCODER)
    rows = _examples(700)
    rows[500] = dataclasses.replace(rows[500], answer=("hours",) if rows[500].answer != ("hours",) else ("login",))
    assert "data_sha256" in [difference.field for difference in verify(tried.verdict, rows, specialist)]
    (missing,) = verify(tried.verdict, _examples(600), specialist)
    assert "missing in the log" in str(missing)
    biased = [dataclasses.replace(row, sampling="deferred") for row in _examples(700)]
    assert [difference.field for difference in verify(tried.verdict, biased, specialist)] == ["sampling"]


def test_another_specialist_does_not_verify(tried, tmp_path):
    other = attempt(TASK, _examples(700, seed=5), CLAIM, number=1, encoder=ENCODER, folder=tmp_path)
    found = verify(tried.verdict, _examples(700), Specialist.load(other.fitted.folder, ENCODER))
    assert "artefact_sha256" in [difference.field for difference in found]


def test_a_tampered_folder_is_not_loaded(tried, tmp_path):
    copy = tmp_path / tried.fitted.folder.name
    shutil.copytree(tried.fitted.folder, copy)
    weights = next(copy.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(SpecialistError):
        Specialist.load(copy, ENCODER)


def test_embeddings_given_change_nothing(tried, tmp_path):
    rows = _examples(700)
    embeddings = ENCODER.encode([row.text for row in rows])
    again = attempt(TASK, rows, CLAIM, number=1, encoder=ENCODER, folder=tmp_path, embeddings=embeddings)
    assert again.verdict.artefact_sha256 == tried.verdict.artefact_sha256
    assert again.verdict.min_certainty == tried.verdict.min_certainty


def test_an_attempt_that_is_not_worth_it_spends_nothing(tmp_path):
    asked = []

    def is_worth(expected):
        asked.append(expected)
        return False

    options = {"number": 1, "encoder": ENCODER, "folder": tmp_path, "is_worth": is_worth}
    tried = attempt(TASK, _examples(700), CLAIM, **options)
    assert tried.verdict.delta_spent == 0.0
    assert asked == [tried.expected_coverage]
    assert tried.expected_coverage > 0.5


def test_fresh_rows_alone_calibrate_where_asked(tmp_path):
    rows = [dataclasses.replace(row, sampling="audit" if i % 2 else "deferred") for i, row in enumerate(_examples(900))]
    options = {"number": 1, "encoder": ENCODER, "folder": tmp_path, "calibrate_after_s": 600.0}
    verdict = attempt(TASK, rows, CLAIM, **options).verdict
    assert verdict.details["request_ids"] == [f"r{i}" for i in range(601, 900, 2)]


def test_answers_outside_the_shape_count_as_disagreement(tmp_path):
    rows = _examples(700)
    rows = [dataclasses.replace(row, answer=None) if i % 3 == 0 and i >= 400 else row for i, row in enumerate(rows)]
    verdict = attempt(TASK, rows, CLAIM, number=1, encoder=ENCODER, folder=tmp_path).verdict
    assert isinstance(verdict, Refusal)
    assert verdict.delta_spent > 0
    assert verdict.passing_risk > 0.3


def test_too_few_rows_are_refused_before_anything_is_fitted(tmp_path):
    tried = attempt(TASK, _examples(30), CLAIM, number=1, encoder=ENCODER, folder=tmp_path)
    assert tried.fitted is None
    assert tried.verdict.short_of == "examples"
    assert tried.verdict.delta_spent == 0.0
    assert tried.verdict.examples_short == smallest_testable(CLAIM, 1) - 30
    assert list(tmp_path.iterdir()) == []
    assert smallest_testable(CLAIM, 5) > smallest_testable(CLAIM, 1)


def test_a_promise_that_no_log_can_prove_says_so(tmp_path):
    claim = Claim(max_risk=0.0005)
    verdict = attempt(TASK, _examples(300), claim, number=1, encoder=ENCODER, folder=tmp_path).verdict
    assert (verdict.short_of, verdict.examples_short) == ("examples", None)
    assert "no number of answers" in verdict.message
    assert smallest_testable(claim, 1) is None


def test_what_is_short_is_counted_in_logged_answers(tmp_path):
    claim = Claim(max_risk=0.012)
    options = {"number": 1, "encoder": ENCODER, "folder": tmp_path}
    refusal = attempt(TASK, _examples(900, vague=0.5), claim, **options).verdict
    assert isinstance(refusal, Refusal)
    assert refusal.delta_spent > 0
    assert f"{refusal.examples_short:,} more unbiased answers are needed to test it, after 900" in refusal.message


def test_open_answers_and_a_single_answer_are_refused(tmp_path):
    shape = AnswerShape(kind="text", why_open="too many different answers")
    open_task = dataclasses.replace(TASK, shape=shape)
    verdict = attempt(open_task, _examples(300), CLAIM, number=1, encoder=ENCODER, folder=tmp_path).verdict
    assert verdict.short_of == "closed answers"
    assert "too many different answers" in verdict.message
    same = [dataclasses.replace(row, answer=("hours",)) for row in _examples(300)]
    assert attempt(TASK, same, CLAIM, number=1, encoder=ENCODER, folder=tmp_path).verdict.short_of == "variety"
    few = [dataclasses.replace(row, text="where is it") for row in _examples(300)]
    verdict = attempt(TASK, few, CLAIM, number=1, encoder=ENCODER, folder=tmp_path).verdict
    assert (verdict.short_of, verdict.delta_spent) == ("variety", 0.0)


def test_the_audit_of_a_certificate_takes_what_calibration_makes_likely_as_quiet(tried):
    certificate = tried.verdict
    likely = binomial.upper(round(certificate.errors), certificate.n_served, 0.2)
    quiet = Audit.start(certificate).watch.quiet_risk
    assert quiet == pytest.approx(min(max(likely, 0.025), 0.1))
    assert quiet > certificate.errors / certificate.n_served


def _turned(rows, upto):
    """The same, with all answers of the first rows exchanged: a reference that has since changed its mind."""
    names = dict(zip(CLASSES, [*list(CLASSES)[1:], "refund"], strict=True))
    return [dataclasses.replace(row, answer=(names[row.answer[0]],)) for row in rows[:upto]] + rows[upto:]


def test_after_a_withdrawal_stale_rows_neither_teach_nor_count_where_they_are_wrong(tmp_path):
    rows = _turned(_examples(1000), 500)
    options = {"number": 1, "encoder": ENCODER, "folder": tmp_path}
    tried = attempt(TASK, rows, CLAIM, fresh_since_s=499.0, **options)
    alone = attempt(TASK, rows[500:], CLAIM, **options)
    assert isinstance(tried.verdict, Certificate)
    assert tried.fitted.sha256 == alone.fitted.sha256
    assert tried.verdict.min_certainty == alone.verdict.min_certainty
    assert attempt(TASK, rows, CLAIM, **options).expected_coverage < 0.5 < tried.expected_coverage


def test_the_choice_between_the_two_never_sees_a_calibration_answer(tmp_path):
    rows = _turned(_examples(1000), 500)
    options = {"number": 1, "encoder": ENCODER, "folder": tmp_path, "fresh_since_s": 499.0}
    other = rows[:750] + [dataclasses.replace(row, answer=("refund",)) for row in rows[750:]]
    tried, poisoned = attempt(TASK, rows, CLAIM, **options), attempt(TASK, other, CLAIM, **options)
    assert tried.verdict.n == 250
    assert tried.fitted.sha256 == poisoned.fitted.sha256
    assert tried.expected_coverage == poisoned.expected_coverage


def test_too_few_fresh_rows_to_learn_from_leave_the_others_to_teach(tmp_path):
    """One fresh text, asked again and again."""
    rows = [dataclasses.replace(row, text="money please") if i >= 400 else row for i, row in enumerate(_examples(700))]
    options = {"number": 1, "encoder": ENCODER, "folder": tmp_path, "is_worth": lambda _: False}
    assert attempt(TASK, rows, CLAIM, fresh_since_s=399.0, **options).fitted is not None


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_rows_of_two_coins_are_weighed_and_the_certificate_recomputes(tmp_path, per):
    rows = [
        dataclasses.replace(row, sampling="audit", probability=0.05 if i % 2 else 0.4) if i >= 500 else row
        for i, row in enumerate(_examples(900))
    ]
    claim = Claim(max_risk=0.13, per=per)
    found = attempt(TASK, rows, claim, number=1, encoder=ENCODER, folder=tmp_path)
    certificate = found.verdict
    assert isinstance(certificate, Certificate)
    assert "weighted by 1 / probability" in certificate.procedure
    assert certificate.coverage != certificate.n_served / certificate.n
    specialist = Specialist.load(found.fitted.folder, ENCODER)
    assert verify(certificate, rows, specialist) == []
    forged = [dataclasses.replace(row, probability=1.0) for row in rows]
    assert {difference.field for difference in verify(certificate, forged, specialist)} & {"coverage", "bound"}
