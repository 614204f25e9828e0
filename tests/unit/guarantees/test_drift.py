from __future__ import annotations

import json
import random

import pytest

from pilotfish.core.certificate import Claim
from pilotfish.guarantees.audit import Audit
from pilotfish.guarantees.drift import RAISED_MOST, RAISED_TIMES, Drift, baseline
from tools.certificates import certificate

_rng = random.Random(1)
SCORES = [_rng.random() for _ in range(1500)]
CERTIFICATE = certificate(
    details={"baseline": baseline({"certainty": SCORES, "scope": SCORES}, {"certainty": SCORES, "scope": SCORES})}
)


def _watch(rate=0.02, **fields):
    return Drift(fields.pop("certificate", CERTIFICATE), rate, chance=random.Random(2).random)


def _see(drift, n, *, certainty=1.0, scope=1.0, seed=3):
    """The place of the alarm among n requests whose scores are uniform up to a value, None without."""
    rng = random.Random(seed)
    return next(
        (
            i
            for i in range(1, n + 1)
            if drift.observe(certainty=certainty * rng.random(), scope=scope * rng.random(), is_local=certainty == 1.0)
        ),
        None,
    )


def test_unchanged_traffic_changes_nothing():
    drift = _watch()
    assert _see(drift, 1500) is None
    assert (drift.is_raised, drift.coin, drift.turn, drift.n) == (False, 0.02, 0, 1500)
    assert drift.sentence().startswith("No drift in the last 1,500 requests; the evidence is at ")


@pytest.mark.parametrize("what", ["certainty", "scope"])
def test_changed_scores_raise_the_coin_and_say_which(what):
    drift = _watch()
    _see(drift, 500)
    assert _see(drift, 200, **{what: 0.5}) < 150
    assert drift.is_raised
    assert drift.coin == pytest.approx(RAISED_TIMES * 0.02)
    assert f"The {what} of the requests has drifted" in drift.message
    assert "10 % of the requests are audited, 2 % before" in drift.message
    assert "to come" in drift.sentence()


@pytest.mark.parametrize(("rate", "raised"), [(0.01, 0.05), (0.1, RAISED_MOST), (0.6, 0.6), (1.0, 1.0)])
def test_the_raised_coin_is_bounded_and_never_below_the_usual(rate, raised):
    drift = _watch(rate)
    assert drift.coin == rate
    _see(drift, 500, certainty=0.3)
    assert drift.coin == pytest.approx(raised)


def test_enough_audits_lower_it_again_and_today_is_what_is_usual():
    drift, needed = _watch(), Audit.start(CERTIFICATE).needed
    _see(drift, 300, certainty=0.5)
    assert _see(drift, 1000, certainty=0.5, seed=4) is None, "while it is raised nothing is bet"
    assert [drift.audited() for _ in range(needed + 1)] == [False] * (needed - 1) + [True, False]
    assert (drift.is_raised, drift.coin, drift.turn) == (False, 0.02, 2)
    assert f"{needed:,} audits since the drift" in drift.message
    assert _see(drift, 1000, certainty=0.5, seed=5) is None, "this is usual now"
    assert _see(drift, 500, certainty=0.1, seed=6) is not None


def test_without_audits_drift_is_told_and_raises_nothing():
    drift = _watch(0.0)
    assert _see(drift, 500, certainty=0.3) is not None
    assert (drift.is_raised, drift.coin) == (False, 0.0)
    assert "Audits are turned off" in drift.message
    assert "what would be told" in drift.sentence()


def test_a_certificate_without_a_baseline_learns_what_is_usual_from_the_first_requests():
    drift = _watch(certificate=certificate())
    assert _see(drift, 1000) is None
    assert _see(drift, 500, certainty=0.3) < 200


def test_the_rate_is_that_of_the_certificate_where_none_is_set():
    assert _watch(None).rate == Audit.start(CERTIFICATE).rate()


def test_state_survives_json_and_goes_on_alike():
    drift = _watch()
    _see(drift, 400)
    _see(drift, 30, certainty=0.6)
    again = _watch().take_over(json.loads(json.dumps(drift.to_json())))
    assert again.sentence() == drift.sentence()
    drift._chance, again._chance = random.Random(9).random, random.Random(9).random
    assert _see(drift, 300, certainty=0.6) == _see(again, 300, certainty=0.6)
    assert again.to_json() == drift.to_json()
    assert again.is_raised


def test_the_state_of_another_certificate_is_left_alone():
    drift = _watch()
    _see(drift, 100, certainty=0.3)
    other = _watch(certificate=certificate(claim=Claim(max_risk=0.1))).take_over(drift.to_json())
    assert (other.n, other.turn) == (0, 0)
    assert other.take_over(None).n == 0


def test_audits_that_were_turned_off_meanwhile_leave_nothing_raised():
    drift = _watch()
    _see(drift, 200, certainty=0.3)
    again = _watch(0.0).take_over(drift.to_json())
    assert (again.is_raised, again.coin, again.turn) == (False, 0.0, 1)


def test_watching_leaves_the_certificate_as_it_is():
    before = CERTIFICATE.id
    _see(_watch(), 50)
    assert CERTIFICATE.id == before
