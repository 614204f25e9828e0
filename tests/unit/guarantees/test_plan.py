from __future__ import annotations

import dataclasses
import random

import pytest

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.errors import UserError
from pilotfish.guarantees.attempt import attempt
from pilotfish.guarantees.plan import Plan, plan
from pilotfish.guarantees.split import calibration_size
from pilotfish.specialists.encoder import Encoder
from tools.tiny_tasks import examples, label_task

CLAIMS = [Claim(max_risk=risk, per=per) for risk in (0.02, 0.1, 0.2) for per in ("answer", "traffic")]


def _noisy(n, share, seed=0):
    """A share of the answers is arbitrary."""
    source = random.Random(seed)
    values = label_task().shape.fields[0].values
    return [
        dataclasses.replace(row, answer=(source.choice(values),), request_id=f"r{i}")
        if source.random() < share
        else dataclasses.replace(row, request_id=f"r{i}")
        for i, row in enumerate(examples(n, seed=seed))
    ]


@pytest.fixture(scope="module")
def first(encoder: Encoder) -> Plan:
    return plan(label_task(), _noisy(600, 0.1), CLAIMS, number=1, encoder=encoder)


def test_stricter_promises_need_more_and_say_when_none_would_do(first):
    assert (first.n_now, first.n_scored) == (600, 300)
    assert 0.85 < first.agreement < 0.99
    needs = {(need.claim.max_risk, need.claim.per): need for need in first.needs}
    assert needs[0.02, "answer"].n_answers is None
    assert needs[0.02, "answer"].coverage == 0.0
    assert needs[0.1, "traffic"].n_answers >= needs[0.2, "traffic"].n_answers
    assert needs[0.2, "answer"].n_answers >= needs[0.2, "traffic"].n_answers
    assert needs[0.2, "answer"].coverage >= 0.1
    assert needs[0.2, "answer"].coverage_now >= needs[0.2, "answer"].coverage - 0.05


def test_with_the_answers_planned_the_promise_can_be_made(first, encoder, tmp_path):
    need = first.needs[-2]
    claim = need.claim
    rows = _noisy(max(2 * need.n_answers, 200), 0.1, seed=3)
    tried = attempt(label_task(), rows, claim, number=1, encoder=encoder, folder=tmp_path)
    assert isinstance(tried.verdict, Certificate)


def test_later_attempts_need_more(first, encoder):
    tenth = plan(label_task(), _noisy(600, 0.1), CLAIMS, number=10, encoder=encoder)
    assert tenth.attempt == 10
    for early, late in list(zip(first.needs, tenth.needs, strict=True))[-2:]:
        assert early.n_answers < late.n_answers
        # Where each begins its test may move the cut by one of the rows that were scored.
        assert early.coverage_now >= late.coverage_now - 1.01 / first.n_scored


def test_the_rows_that_would_calibrate_are_not_looked_at(first, encoder):
    rows = [dataclasses.replace(row, answer=None) if i >= 300 else row for i, row in enumerate(_noisy(600, 0.1))]
    assert plan(label_task(), rows, CLAIMS, number=1, encoder=encoder) == first


def test_rows_that_teach_never_calibrate_later():
    starts = [n - calibration_size(n) for n in range(20_000)]
    assert starts == sorted(starts)


def test_deferred_rows_do_not_count(encoder):
    deferred = [dataclasses.replace(row, sampling="deferred") for row in _noisy(100, 1.0, seed=2)]
    found = plan(label_task(), [*_noisy(200, 0.1), *deferred], CLAIMS[:1], number=1, encoder=encoder)
    assert (found.n_now, found.n_scored) == (200, 100)


def test_too_little_to_learn_from_says_so(encoder):
    with pytest.raises(UserError, match="needed"):
        plan(label_task(), examples(8), CLAIMS, number=1, encoder=encoder)


def test_after_a_withdrawal_only_later_answers_count(encoder):
    rows = _noisy(600, 0.1)
    since_s = rows[199].time_s
    found = plan(label_task(), rows, CLAIMS[-1:], number=2, encoder=encoder, fresh_since_s=since_s)
    assert found.n_now == 400
    assert found == plan(label_task(), rows[200:], CLAIMS[-1:], number=2, encoder=encoder)
