"""A home whose log was written by hand: who answered each request is known, and what the reference would have said."""

from __future__ import annotations

import dataclasses

import pytest

from pilotfish.core.certificate import Claim
from pilotfish.core.messages import Price
from pilotfish.replay.from_log import report
from pilotfish.replay.page import render
from pilotfish.store.base import Event, TaskRecord
from pilotfish.store.build import open_writer
from pilotfish.store.home import open_home
from tools.certificates import certificate
from tools.log_rows import instructions_row, request_row
from tools.served_home import TASK_ID, sentences
from tools.traffic import colour_task, exchange

CLAIM = Claim(max_risk=0.05)
PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)
PAIRS = sentences(60)
CERTIFICATE = certificate(task_id=TASK_ID)


@pytest.fixture
def home(tmp_path):
    """30 requests observed, then 30 under a certificate: every third deferred, every tenth wrong, one audited."""
    folder = tmp_path / "home"
    place = open_home(folder)
    task = colour_task(PAIRS)
    record = TaskRecord(
        task_id=TASK_ID,
        name="colours",
        instructions_id=TASK_ID,
        instructions="",
        shape=task.shape,
        mode="observe",
    )
    place.registry.put_task(record)
    writer = open_writer(folder)
    writer.append(instructions_row(TASK_ID))
    for number, (text, colour) in enumerate(PAIRS):
        fields = {"task_id": TASK_ID, "instructions_id": TASK_ID, "input": text, "time_s": float(number)}
        if number < 30:
            writer.append(request_row(f"r{number}", **fields, mode="observe", reference_answer=colour))
            continue
        said = "purple" if number % 10 == 0 else colour
        local = number % 3 != 0
        fields |= {"local_answer": said, "certainty": 0.9 if local else 0.6, "scope": 0.5, "local_s": 0.001}
        fields |= {"reason": "certified" if local else "uncertain", "certificate_id": CERTIFICATE.id}
        sampling = "audit" if number == 40 else "local" if local else "deferred"
        writer.append(request_row(f"r{number}", **fields, sampling=sampling, reference_answer=None))
    writer.close()
    return folder


RECORDED = {f"r{number}": exchange(*pair) for number, pair in enumerate(PAIRS)}


def _report(home, recorded=RECORDED):
    return report(open_home(home), recorded, CLAIM, PRICE)


def test_a_log_is_summed_up_like_a_backtest(home):
    place = open_home(home)
    assert place.registry.adopt(CERTIFICATE)
    found = _report(home)
    assert (found.n_requests, found.served, found.first_served_at) == (60, 20, 32)
    assert found.differing == 2  # requests 40 and 50; 30 was deferred
    (task,) = found.tasks
    assert (int(task.ran.sum()), int(task.differs.sum()), int(task.audited.sum())) == (30, 3, 1)
    assert task.verdict.id == CERTIFICATE.id
    assert task.adopted[0][0] == 31
    assert found.disagreement_per_traffic.n == 60 - 31
    assert len(found.local_s) == 30
    # 30 observed, 10 deferred and 1 audited request are paid for.
    assert found.cost.spent_usd == pytest.approx(41 * found.cost.always_large_usd / 60)
    # Deferred requests had a certainty of 0.6, above the naive threshold of 0.5.
    assert int(task.naive.sum()) == 30


def test_the_naive_threshold_stands_behind_the_scope_gate(home):
    gated = dataclasses.replace(CERTIFICATE, min_scope=0.6)
    assert open_home(home).registry.adopt(gated)
    assert int(_report(home).tasks[0].naive.sum()) == 0


def test_a_certificate_adopted_after_the_last_request_is_no_crash(home):
    later = dataclasses.replace(CERTIFICATE, attempt=2)
    assert open_home(home).registry.adopt(later)
    found = _report(home)
    assert found.tasks[0].verdict.id == later.id
    assert found.to_json()["tasks"][0]["certificate"]["id"] == later.id
    render(found, "page")


def test_a_withdrawal_is_told(home):
    place = open_home(home)
    assert place.registry.adopt(CERTIFICATE)
    place.registry.update_task(TASK_ID, mode="observe", certificate_id="")
    event = Event(time_s=49.5, task_id=TASK_ID, kind="withdrawn", message="Withdrawn after 9 audits.", details={})
    place.registry.add_event(event)
    found = _report(home)
    assert found.tasks[0].withdrawn_at == 50
    assert found.to_json()["tasks"][0]["certificate"] is None


def test_requests_that_are_not_in_the_recording_do_not_count(home):
    assert _report(home, {"r5": RECORDED["r5"]}).n_requests == 1
    assert _report(home, {}).tasks == []


def test_requests_of_no_task_are_paid_for(home):
    place = open_home(home)
    writer = open_writer(home)
    writer.append(request_row("other", task_id="x", instructions_id="x", input="hello", time_s=99.0))
    writer.close()
    del place
    found = _report(home, RECORDED | {"other": exchange("hello", "hi", "You chat.")})
    assert (found.n_requests, len(found.tasks[0].rows)) == (61, 60)
    assert found.cost.always_large_usd == pytest.approx(61 * PRICE.cost_usd(RECORDED["r0"].usage))
