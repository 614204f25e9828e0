"""What the log and the registry say: volume, costs, certified specialists as an option, what another would take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pilotfish.advice import home
from pilotfish.advice.advise import Sources, advise
from pilotfish.advice.estimates import Terms
from pilotfish.advice.needs import Needs
from pilotfish.advice.runs import Run
from pilotfish.advice.tables import tables
from pilotfish.config.settings import LargeSettings, Settings
from pilotfish.core.certificate import Claim
from pilotfish.core.errors import TaskError, UserError
from pilotfish.core.task import AnswerShape, Field
from pilotfish.guarantees.split import unbiased_rows_for
from pilotfish.sizing.machine import Speed
from pilotfish.store.base import Event, TaskRecord
from pilotfish.store.build import open_writer
from pilotfish.store.home import Home, open_home
from tools.advised import known, large
from tools.advised import option as small
from tools.certificates import certificate, refusal
from tools.log_rows import request_row

SETTINGS = Settings(large=LargeSettings(model="large", input_usd_per_mtok=2.0, output_usd_per_mtok=8.0))
TERMS = Terms(tokens=None, speed=Speed(bandwidth=1e10, method="stated", measured="stated"))
SHAPE = AnswerShape(kind="label", fields=(Field(name="", values=("a", "b")),))


def fill(folder: Path, *, hours: float = 2.0, n: int = 100, **fields: object) -> Home:
    """A log of n requests, three quarters of task `sort`, the rest of `triage`; two records."""
    (folder / "spool").mkdir(parents=True)
    writer = open_writer(folder)
    for i in range(n):
        task = "t2" if i % 4 == 3 else "t1"
        values = {"time_s": hours * 3600 * i / (n - 1), "task_id": task, "prompt_tokens": 100, "completion_tokens": 10}
        writer.append(request_row(f"r{i}", **(values | {"cost_usd": None, "model": "large"} | fields)))
    writer.close()
    found = open_home(folder)
    for task_id, name in (("t1", "sort"), ("t2", "triage")):
        record = TaskRecord(
            task_id=task_id, name=name, instructions_id="i", instructions="Sort.", shape=SHAPE, mode="observe"
        )
        found.registry.put_task(record)
    return found


def certify(found: Home, task_id: str, **fields: object) -> None:
    given = certificate(task_id=task_id, **fields)
    found.registry.add_verdict(given)
    found.registry.update_task(task_id, certificate_id=given.id, mode="serve")


def option(found: Home, needs: Needs):
    traffic = home.read_traffic(found, needs, SETTINGS)
    reference = home.reference_option(traffic, needs, SETTINGS)
    return traffic, home.specialists_option(traffic, reference, needs, lambda claim: 0.1)


def test_the_log_in_figures(tmp_path):
    traffic = home.read_traffic(fill(tmp_path / "home"), Needs(), SETTINGS)
    assert traffic.per_h.value == pytest.approx(50)
    assert traffic.tokens == (100.0, 10.0)
    assert traffic.reference_usd.value == pytest.approx((100 * 2 + 10 * 8) / 1e6)
    assert [(share.name, share.share) for share in traffic.shares] == [("sort", 0.75), ("triage", 0.25)]
    one = home.read_traffic(open_home(tmp_path / "home"), Needs(task="triage"), SETTINGS)
    assert (one.n, [share.share for share in one.shares]) == (25, [1.0])
    with pytest.raises(TaskError, match="no task 'nobody'"):
        home.read_traffic(open_home(tmp_path / "home"), Needs(task="nobody"), SETTINGS)


def test_a_short_log_says_nothing_about_an_hour_and_no_price_says_nothing_about_cost(tmp_path):
    found = fill(tmp_path / "home", hours=0.05)
    traffic = home.read_traffic(found, Needs(), Settings())
    assert traffic.per_h.value is None
    assert traffic.reference_usd.value is None
    with pytest.raises(UserError, match=r"the log spans 3\.0 minutes"):
        advise(Needs(), Sources(settings=Settings(), terms=TERMS, traffic=traffic))


def test_certified_specialists_are_one_option_net_of_audits(tmp_path):
    found = fill(tmp_path / "home")
    assert option(found, Needs())[1] is None
    certify(found, "t1", coverage=0.8, claim=Claim(max_risk=0.02))
    _, made = option(found, Needs(margin=0.02))
    assert made.paid_share == pytest.approx(1 - 0.75 * 0.8 * 0.9)
    assert made.judged.word == "certified"
    assert (made.where, made.is_own, made.shape) == ("remote", True, "specialist + large")
    # More than is promised is not shown; every certificate must keep it, and with the confidence asked for.
    assert option(found, Needs(margin=0.01))[1].judged.word == "not enough data"
    assert option(found, Needs(margin=0.02, alpha=0.01))[1].judged.word == "not enough data"
    certify(found, "t2", coverage=0.5, claim=Claim(max_risk=0.05))
    both = option(found, Needs(margin=0.02))[1]
    assert both.paid_share == pytest.approx(1 - 0.9 * (0.75 * 0.8 + 0.25 * 0.5))
    assert (both.judged.word, both.judged.margin_needed) == ("not enough data", 0.05)


def test_the_answer_of_a_home_is_the_specialist_where_it_pays_and_build_says_what_another_takes(tmp_path):
    found = fill(tmp_path / "home", local_s=0.01)
    certify(found, "t1", coverage=0.8, claim=Claim(max_risk=0.02))
    found.registry.add_verdict(refusal(task_id="t2", examples_short=412))
    found.registry.add_event(
        Event(time_s=1.0, task_id="t2", kind="refused", message="no", details={"n_known": 200, "seconds": 6.0})
    )
    needs = Needs(machine=0.0, volume=1000.0)
    traffic, made = option(found, needs)
    builds = tuple(home.builds(found, traffic, needs, unbiased_rows_for))
    told = advise(needs, Sources(settings=SETTINGS, terms=TERMS, traffic=traffic, specialists=made, builds=builds))
    assert told.decision.chosen.option.shape == "specialist + large"
    assert told.decision.runner_up.option.name == "large"
    (build,) = builds
    assert (build.task, build.answers_short, build.seconds, build.seconds_n) == ("triage", 412, 6.0, 200)
    assert build.answers_least > 300
    table = next(table for table in tables(told) if table.title.startswith("Build"))
    # 460 answers more at 250 an hour; learning in proportion to the 6 s for 200 answers.
    least = build.answers_least
    expected = [f"{least:,}", f"{(least - 25) / 250:.2g} h", f"{0.1 * least / 200:.2g} min"]
    assert list(table.rows[0]) == ["triage", "25", "0.1 min for 200 answers", "412", *expected]
    step = next(step for step in told.steps if "triage" in step.name)
    assert step.usd_per_month == pytest.approx(0.25 * 1000 * 280e-6 * 730)
    dear = advise(
        Needs(machine=10.0, volume=1000.0),
        Sources(settings=SETTINGS, terms=TERMS, traffic=traffic, specialists=made),
    )
    assert dear.decision.chosen.option.name == "large"
    assert any(sentence.startswith("Above 66") for sentence in dear.changes)  # 10 / (280e-6 * 0.54)


def test_a_run_and_a_log_are_put_together_only_where_they_have_one_reference(tmp_path):
    found = fill(tmp_path / "home", local_s=0.01)
    certify(found, "t1", coverage=0.8, claim=Claim(max_risk=0.02))
    needs = Needs(machine=0.0, volume=1000.0)
    traffic, made = option(found, needs)
    run = Run(
        path="run.jsonl",
        data="doors",
        on="doors.jsonl",
        n_items=100,
        reference="large",
        reference_spec="large",
        options=(large(0.001, latency=known(None)), small("cheap", 0.0001, "worse")),
        comparisons=(),
        tokens=None,
    )
    sources = Sources(settings=SETTINGS, terms=TERMS, run=run, traffic=traffic, specialists=made)
    told = advise(needs, sources)
    reference = told.decision.of("large").option
    # The run's own cost stands, and what it does not know comes from the log; the specialist pays the same price.
    assert reference.usd_per_call.measured.value == 0.001
    assert reference.latency.measured.value == pytest.approx(0.5)
    assert told.decision.of("sort + large").option.usd_per_call == reference.usd_per_call
    assert "whether both are the same kind of requests" in told.notes[0]
    other = replace(run, reference="giant", options=(large(0.001), small("x", 0.1)))
    other = replace(other, options=tuple(replace(o, name=f"giant-{o.name}") for o in other.options))
    apart = advise(needs, replace(sources, run=other))
    assert "sort + large" not in {row.option.name for row in apart.decision.judgements}
    assert "is left out" in apart.notes[0]
