from __future__ import annotations

import json

import pytest

from pilotfish.core.certificate import Claim
from pilotfish.guarantees.audit import Audit


def _rows(audit, pattern, is_local=True):
    return [audit.observe(loss=float(loss), is_local=is_local) for loss in pattern]


def test_a_broken_promise_withdraws_and_stays_withdrawn():
    audit = Audit(Claim(max_risk=0.02))
    assert not any(_rows(audit, [0] * 500))
    assert any(_rows(audit, [1, 0, 0] * 10))
    assert audit.withdraws
    at = audit.withdrawn_at
    assert 500 < at <= 530
    assert all(_rows(audit, [0] * 1000))
    assert audit.withdrawn_at == at
    assert f"Withdrawn after {at}" in audit.evidence()


def test_per_answer_only_local_answers_count():
    audit = Audit(Claim(max_risk=0.02))
    _rows(audit, [1] * 50, is_local=False)
    assert audit.n == 0
    assert not audit.withdraws


def test_per_traffic_deferred_rows_count_as_kept():
    audit = Audit(Claim(max_risk=0.02, per="traffic"))
    _rows(audit, [1] * 50, is_local=False)
    assert (audit.n, audit.losses) == (50, 0.0)
    assert any(_rows(audit, [1] * 10))


def test_state_survives_json_and_goes_on_alike():
    audit = Audit(Claim(max_risk=0.05), quiet_risk=0.03)
    _rows(audit, [0, 0, 0, 0, 0, 1] * 5)
    again = Audit.from_json(json.loads(json.dumps(audit.to_json())))
    assert again.evidence() == audit.evidence()
    assert _rows(again, [1] * 8) == _rows(audit, [1] * 8)
    assert again.to_json() == audit.to_json()


@pytest.mark.parametrize("max_risk", [0.001, 0.02, 0.1, 0.3, 0.6])
def test_its_power_is_stated_for_any_promise(max_risk):
    sentence = Audit(Claim(max_risk=max_risk)).evidence()
    assert sentence.startswith("No audit yet; a true ")
    assert "inf" not in sentence


def test_a_quiet_risk_near_the_promise_asks_for_more_evidence():
    calm, tense = Audit(Claim(max_risk=0.02), quiet_risk=0.005), Audit(Claim(max_risk=0.02), quiet_risk=0.02)
    assert calm.watch.delay(0.06) < tense.watch.delay(0.06)
