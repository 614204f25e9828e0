"""What was saved, by hand: money and time of local answers less audits and repeats, and unknown where a price is."""

from __future__ import annotations

from dataclasses import fields, replace

from pilotfish.gateway.site import savings
from pilotfish.store.periods import Period

NOTHING = Period(**{item.name: "" if item.name in ("task_id", "model") else 0 for item in fields(Period)})  # type: ignore[arg-type]
OF_THE_REFERENCE = {"n_reference": 10, "reference_s": 5.0, "n_reference_priced": 10, "reference_usd": 0.1}
OF_AUDITS = {"n_audits": 2, "n_audits_priced": 2, "audit_usd": 0.02, "audit_s": 1.0, "n_judged": 2, "losses": 1.0}
OF_REPEATS = {"n_repeats": 1, "n_repeats_priced": 1, "repeat_usd": 0.01}
LOCAL = replace(NOTHING, task_id="t", n_requests=30, n_local=20, local_s=0.2, cost_usd=0.1)
TASK = replace(LOCAL, **OF_THE_REFERENCE, **OF_AUDITS, **OF_REPEATS)  # type: ignore[arg-type]
OTHER = replace(NOTHING, task_id="u", n_requests=10, cost_usd=1.0)


def test_the_saving_is_net_of_audits_and_repeats() -> None:
    found = savings.total([TASK, OTHER], has_price=True)
    assert found.local_share == 0.5
    assert abs((found.saved_usd.value or 0) - (20 * 0.12 / 12 - 0.02 - 0.01)) < 1e-12
    assert abs((found.saved_s.value or 0) - (20 * 6.0 / 12 - 0.2)) < 1e-12
    assert abs(found.spent_usd - 1.13) < 1e-12


def test_what_routes_audits_cost_is_no_cost_of_specialists() -> None:
    of_routes = replace(OTHER, task_id="", n_audits=5, n_audits_priced=4, audit_usd=9.0)
    alone, beside = (savings.total(tasks, has_price=True) for tasks in ([TASK], [TASK, of_routes]))
    assert beside.saved_usd == alone.saved_usd
    assert abs(beside.spent_usd - alone.spent_usd - 10.0) < 1e-12


def test_an_unknown_cost_makes_the_saving_unknown() -> None:
    for change in ({"n_audits_priced": 1}, {"n_repeats_priced": 0}, {"n_reference_priced": 0, "n_audits_priced": 0}):
        found = savings.total([replace(TASK, **change)], has_price=True)
        assert (found.saved_usd.value, found.saved_usd.why_none) == (
            None,
            "unknown: some of its calls have no known cost",
        )
    assert "no price" in savings.total([replace(TASK, n_audits_priced=1)], has_price=False).saved_usd.why_none
    assert savings.total([OTHER], has_price=True).saved_usd.why_none == "nothing was answered locally"
    assert savings.total([replace(TASK, n_reference=0, n_audits=0)], has_price=True).saved_s.value is None


def test_agreement_has_its_interval_or_a_reason() -> None:
    found = savings.agreement(TASK)
    assert (found.value, found.n) == (0.5, 2)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < 0.5 < found.high < 1
    assert savings.agreement(OTHER).why_none == "nothing was answered locally"
    assert savings.agreement(replace(TASK, n_judged=0)).why_none == "no audit has been compared yet"


def test_merging_adds_up_by_task() -> None:
    merged = {period.task_id: period.n_requests for period in savings.merged([TASK, OTHER, TASK])}
    assert merged == {"t": 60, "u": 10}
