from __future__ import annotations

import json

import pytest

from pilotfish.core.certificate import Certificate
from pilotfish.core.messages import Price, Usage
from pilotfish.guarantees.attempt import Attempt
from pilotfish.replay.report import Longer, cost, share, task_json
from pilotfish.stats.binomial import clopper_pearson
from tools.certificates import certificate, refusal
from tools.replayed import replayed, report
from tools.traffic import USAGE

PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)


def test_the_keys_that_other_programs_rely_on():
    found = report(
        replayed(),
        replayed(served=False, offset=100),
        unreadable=["line 3: not JSON"],
        cost=cost([replayed()], [], PRICE),
        local_s=[0.001, 0.002],
        longer=[Longer(task="colours", position=50, certified_coverage=0.5, share_of_all=0.25)],
    ).to_json()
    json.loads(json.dumps(found), parse_constant=pytest.fail)
    assert set(found) >= {
        "requests", "unreadable", "tasks", "served", "coverage", "disagreement", "disagreement_per_traffic",
        "promise", "latency_ms", "cost_usd", "controls",
    }  # fmt: skip
    assert (found["requests"], found["unreadable"], found["unreadable_rows"]) == (200, 1, ["line 3: not JSON"])
    assert found["promise"] == {"max_risk": 0.05, "confidence": 0.95, "per": "answer"}
    assert set(found["latency_ms"]) >= {"p50", "p95"}
    assert set(found["cost_usd"]) >= {"spent", "saved_net"}
    for measured in (found["disagreement"], found["disagreement_per_traffic"], found["tasks"][0]["disagreement"]):
        assert set(measured) == {"value", "low", "high", "n"}
    for task in found["tasks"]:
        assert set(task) >= {
            "name", "requests", "mode", "answer_shape", "coverage", "served", "disagreement", "certificate", "refusal",
            "first_served_at", "withdrawn_at", "drift",
        }  # fmt: skip
    served, refused = found["tasks"]
    assert served["certificate"]["id"] == certificate().id
    assert served["refusal"] is None
    assert (refused["certificate"], refused["refusal"]["examples_short"]) == (None, 412)


def test_shares_stand_on_the_right_denominators():
    """45 of 60 rows answered locally after 40 observed ones, 6 of the 60 wrong, all in rows that were served."""
    task = replayed()
    found = report(task, n_requests=130)
    assert (found.served, found.differing, found.coverage) == (45, 6, 45 / 130)
    assert (found.disagreement.value, found.disagreement.n) == (6 / 45, 45)
    assert found.first_served_at == 41
    assert (found.disagreement_per_traffic.value, found.disagreement_per_traffic.n) == (6 / 90, 90)
    row = task_json(task)
    assert row["coverage"] == 45 / 60
    assert (row["disagreement"]["n"], row["disagreement_per_traffic"]["n"]) == (45, 60)
    assert row["disagreement_per_traffic"]["value"] == 6 / 60


def test_the_traffic_counts_from_the_first_local_answer_of_any_task():
    late, early = replayed(offset=100), replayed(first=20)
    found = report(early, late)
    assert found.first_served_at == early.first_served_at == 21
    assert found.disagreement_per_traffic.n == 180


def test_intervals_are_exact_and_a_missing_number_says_why():
    measured = share(3, 200, "")
    assert (measured.low, measured.high) == clopper_pearson(3, 200, 0.95)
    nothing = report(replayed(served=False))
    assert nothing.disagreement.to_json() == {
        "value": None, "low": None, "high": None, "n": 0, "why_none": "nothing was answered locally",
    }  # fmt: skip
    assert nothing.disagreement_per_traffic.value is None
    assert (nothing.coverage, nothing.first_served_at, nothing.latency_ms) == (0.0, None, None)
    assert nothing.to_json()["latency_ms"] == {"p50": None, "p95": None, "n": 0}


def test_an_empty_report_has_every_key():
    found = report().to_json()
    assert set(found) == set(report(replayed()).to_json())
    assert found["coverage"] == 0.0


def test_controls_are_consistent_with_one_another():
    found = report(replayed(), replayed(offset=100, first=10))
    control = {control.name: control for control in found.controls}
    assert list(control) == ["always_large", "always_small", "naive_threshold", "random_same_share", "oracle"]
    assert (control["always_large"].served, control["always_large"].disagreement.value) == (0, None)
    assert control["always_small"].served == 150
    assert control["random_same_share"].served == found.served
    small = control["always_small"].disagreement.value
    assert control["random_same_share"].disagreement.value == pytest.approx(small, abs=0.5 / found.served)
    assert control["oracle"].disagreement.value == 0.0
    assert control["oracle"].served == 150 - round(150 * small)
    assert control["oracle"].served >= found.served - found.differing
    assert found.served <= control["naive_threshold"].served <= control["always_small"].served


def test_money_is_net_of_audits_and_deferred_requests():
    task = replayed()
    bill = cost([task], [Usage(prompt=1000, completion=0)], PRICE)
    each = PRICE.cost_usd(USAGE)
    n_paid = 100 - int((task.served & ~task.audited).sum())
    assert bill.always_large_usd == pytest.approx(100 * each + 0.001)
    assert bill.spent_usd == pytest.approx(n_paid * each + 0.001)
    assert bill.saved_net_usd == pytest.approx((100 - n_paid) * each)


@pytest.mark.parametrize(
    ("tasks", "others", "price"),
    [
        ([replayed()], [], None),
        ([replayed(usage=None)], [], PRICE),
        ([replayed()], [None], PRICE),
    ],
    ids=["no price", "no usage", "no usage beside the tasks"],
)
def test_an_unknown_price_is_an_unknown_cost(tasks, others, price):
    assert cost(tasks, others, price) is None
    assert report(*tasks, cost=None).to_json()["cost_usd"] is None


def test_the_verdict_in_force_is_shown():
    task = replayed()
    assert isinstance(task.verdict, Certificate)
    task.mode, task.withdrawn_at = "observe", 77
    task.verdicts.append((77, Attempt(verdict=refusal())))
    row = task_json(task)
    assert (row["certificate"], row["withdrawn_at"], row["attempts"]) == (None, 77, 1)
