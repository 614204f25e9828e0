from __future__ import annotations

import json
import re

import pytest

from pilotfish.core.certificate import Claim
from pilotfish.guarantees.audit import BREACH_EVERY, LEAST_RATE, MOST_RATE, Audit


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
    assert f"Withdrawn after {at}" in audit.evidence(0.05)


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
    assert again.evidence(0.05) == audit.evidence(0.05)
    assert _rows(again, [1] * 8) == _rows(audit, [1] * 8)
    assert again.to_json() == audit.to_json()


@pytest.mark.parametrize("max_risk", [0.001, 0.02, 0.1, 0.3, 0.6])
def test_its_power_is_stated_for_any_promise(max_risk):
    audit = Audit(Claim(max_risk=max_risk))
    sentence = audit.evidence(audit.rate())
    assert sentence.startswith("No audit yet; a true ")
    assert "inf" not in sentence


def test_its_power_counts_answers_not_audits():
    """Audits are what the watch counts; what a user has is answers, of which only a share is audited."""
    audit = Audit(Claim(max_risk=0.02), quiet_risk=0.01)
    assert 100 < audit.needed < 150
    after = int(re.findall(r"about ([\d,]+) answers", audit.power(0.05))[0].replace(",", ""))
    assert after == pytest.approx(audit.needed / 0.05, rel=0.05)
    assert "a true 6 % is noticed after about" in audit.power(0.05)
    assert audit.power(0.05).endswith("at an audit rate of 5 %")
    assert " requests at " in Audit(Claim(max_risk=0.02, per="traffic")).power(0.05)


def test_without_audits_it_says_so():
    audit = Audit(Claim(max_risk=0.02))
    assert audit.rate(0.0) == 0.0
    assert "audits are turned off" in audit.power(0.0)
    assert "audits are turned off" in audit.evidence(0.0)


@pytest.mark.parametrize("asked", [0.0, 0.0001, 0.3, 1.0])
def test_a_rate_that_is_asked_for_is_taken_as_it_is(asked):
    assert Audit(Claim(max_risk=0.02)).rate(asked) == asked


@pytest.mark.parametrize("max_risk", [0.005, 0.01, 0.02, 0.05, 0.1])
def test_the_chosen_rate_is_the_cheapest(max_risk):
    """Further calls for each local answer, and the wrong ones too many that a breach serves before it is noticed."""
    audit = Audit(Claim(max_risk=max_risk))

    def price(rate):
        excess = (audit.tells - max_risk) * audit.needed / rate
        return rate + excess / max_risk / BREACH_EVERY

    rates = [LEAST_RATE + (MOST_RATE - LEAST_RATE) * i / 1000 for i in range(1001)]
    assert price(audit.rate()) <= min(map(price, rates)) + 1e-9


def test_a_stricter_promise_is_audited_more_within_bounds():
    rates = [Audit(Claim(max_risk=risk)).rate() for risk in (0.4, 0.1, 0.05, 0.02, 0.001)]
    assert rates == sorted(rates)
    assert rates[-1] == MOST_RATE
    assert all(LEAST_RATE <= rate <= MOST_RATE for rate in rates)


def test_a_quiet_risk_near_the_promise_asks_for_more_evidence():
    calm, tense = Audit(Claim(max_risk=0.02), quiet_risk=0.005), Audit(Claim(max_risk=0.02), quiet_risk=0.02)
    assert calm.watch.delay(0.06) < tense.watch.delay(0.06)


def test_each_field_of_a_promise_per_field_is_watched():
    audit = Audit(Claim(max_risk=0.02, per="field"), n_fields=2)
    for place in range(400):
        # Either field differs in one request of 50, never both: the whole answer in two.
        row = (float(place % 50 == 0), float(place % 50 == 25))
        audit.observe(loss=max(row), is_local=True, by_field=row)
    assert not audit.withdraws
    again = Audit.from_json(json.loads(json.dumps(audit.to_json())))
    for place in range(600):
        row = (0.0, float(place % 8 == 0))
        again.observe(loss=max(row), is_local=True, by_field=row)
    assert again.withdraws
    assert "in the worst field" in again.evidence(0.1)
    assert again.losses == 8 + 75
