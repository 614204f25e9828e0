from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilotfish.core.errors import ConfigError, ModelConnectionError, ModelStatusError, StoreError
from pilotfish.core.messages import Price
from pilotfish.evals.candidates import Candidate, Place, candidate, distinct
from pilotfish.evals.load_shape import LoadShape
from pilotfish.evals.perturb import prompts_sha
from pilotfish.evals.report import Report, Stated, report
from pilotfish.evals.run import Options, run
from pilotfish.evals.run_file import AnswerRow, Head, ModelRow, RunFile, read_rows
from pilotfish.evals.verdict import Rule
from pilotfish.routing.policy import Gates, Policy
from pilotfish.scoring.scorers import Score, scorer
from tools.compared import items
from tools.upstream import Reply, upstream

EXACT = scorer("exact")


def head(n: int, **fields: str) -> Head:
    found = Head(data="doors", data_sha256="d", prompts_sha256=prompts_sha(items(n)), scorer="exact", n_items=n)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def asked(path: Path, n: int, *models: str, options: Options | None = None) -> list[AnswerRow]:
    with RunFile(path, head(n)) as file:
        run(items(n), [candidate(model, Place()) for model in models], EXACT, file, options or Options())
        return list(file.answers.values())


def reported(path: Path, n: int, *models: str, options: Options | None = None, rule: Rule | None = None) -> Report:
    asked(path, n, *models, options=options)
    with RunFile(path, head(n)) as file:
        return report(items(n), file, [candidate(model, Place()).name for model in models], rule or Rule())


def test_repeats_are_judged_by_pass_at_k_of_the_items(tmp_path):
    """One item is right in one of three tries (pass@2 is 2/3, pass^2 is 0), one in all."""
    with RunFile(tmp_path / "run.jsonl", head(2)) as file:
        file.add_model(ModelRow(name="m", kind="function", spec="", sha256="", is_local=True))
        for repeat in range(3):
            file.add_answer(AnswerRow(model="m", item="i0", repeat=repeat, score=float(repeat == 1)))
            file.add_answer(AnswerRow(model="m", item="i1", repeat=repeat, score=1.0))
        (model,) = report(items(2), file, ["m"], Rule()).models
    assert {k: figure.value for k, figure in model.pass_any.items()} == pytest.approx({1: 2 / 3, 2: 5 / 6, 3: 1.0})
    assert {k: figure.value for k, figure in model.pass_all.items()} == pytest.approx({1: 2 / 3, 2: 0.5, 3: 0.5})
    assert model.pass_any[1].value == pytest.approx(model.quality.value)
    assert model.pass_any[3].n == 2


TIMES = [
    {"ttft_s": 0.1, "latency_s": 1.1, "completion_tokens": 11},  # TPOT 100 ms
    {"ttft_s": 0.3, "latency_s": 0.5, "completion_tokens": 11},  # 20 ms
    {"ttft_s": 0.1, "latency_s": 0.1, "completion_tokens": 1},  # undefined for one token
    {"latency_s": 0.2, "completion_tokens": 0},  # no text, so no first token
    {"failure": "timeout"},
]


@pytest.mark.parametrize(
    ("limits_s", "met"),
    [
        ({"ttft": 0.2}, 2),
        ({"tpot": 0.05}, 2),
        ({"end_to_end": 0.5}, 3),
        ({"ttft": 0.2, "tpot": 0.05}, 1),
        ({"ttft": 1.0, "tpot": 0.1, "end_to_end": 2.0}, 3),
    ],
)
def test_goodput_is_the_share_of_all_requests_that_keep_within_all_limits(tmp_path, limits_s, met):
    with RunFile(tmp_path / "run.jsonl", head(5)) as file:
        file.add_model(ModelRow(name="m", kind="endpoint", spec="", sha256="", is_local=False))
        for number, times in enumerate(TIMES):
            counts = {} if "failure" in times else {"prompt_tokens": 3}
            file.add_answer(AnswerRow(model="m", item=f"i{number}", **counts, **times))
        (model,) = report(items(5), file, ["m"], Rule(), stated=Stated(limits_s=limits_s)).models
    assert (model.goodput.value, model.goodput.n) == (met / 5, 5)
    assert model.latency["tpot"]["p50"].value == pytest.approx(0.06)
    assert model.prompt_tokens.value is None, "one request has no counts, so there is no mean"


def test_goodput_of_what_a_model_does_not_have_is_no_figure(tmp_path):
    asked(tmp_path / "run.jsonl", 3, "tools.compared:right")
    with RunFile(tmp_path / "run.jsonl", head(3)) as file:
        for limits_s in ({"ttft": 1.0}, {"tpot": 1.0}):
            (model,) = report(items(3), file, ["right"], Rule(), stated=Stated(limits_s=limits_s)).models
            assert model.goodput.value is None
            assert "answers come whole" in model.goodput.why_none
        (model,) = report(items(3), file, ["right"], Rule(), stated=Stated(limits_s={"end_to_end": 9.0})).models
        assert model.goodput.value == 1.0


def test_every_item_is_asked_once_of_every_model(tmp_path):
    rows = asked(tmp_path / "run.jsonl", 6, "tools.compared:right", "dull=tools.compared:unsure")
    assert [(row.model, row.item) for row in rows] == [(m, f"i{i}") for m in ("right", "dull") for i in range(6)]
    assert [row.score for row in rows] == [1.0] * 6 + [1.0, 0.0, 0.0] * 2
    assert all(row.latency_s is not None and row.ttft_s is None and row.time_s > 1e9 for row in rows)
    assert [row.certainty for row in rows[6:8]] == [0.3, 0.9]


def test_what_is_answered_is_not_asked_again_and_another_model_joins(tmp_path):
    path = tmp_path / "run.jsonl"
    before = asked(path, 5, "tools.compared:right")
    both = asked(path, 5, "tools.compared:right", "tools.compared:unsure")
    assert both[:5] == before
    assert len(both) == 10
    assert len([line for line in path.read_text().splitlines() if '"answer"' in line[:20]]) == 10


def test_repeats_and_variants_have_rows_of_their_own(tmp_path):
    options = Options(repeats=2, variants=("case", "names"))
    found = reported(tmp_path / "run.jsonl", 6, "tools.compared:lower_only", options=options)
    (model,) = found.models
    assert (model.quality.value, model.quality.n) == (1.0, 6)
    assert model.stability == {"repeats": 2.0, "items_that_flip": 0.0, "between_run_sd": 0.0}
    by_case, by_names = found.robustness
    assert (by_case.n, by_case.quality.value, by_case.quality_before.value) == (6, pytest.approx(1 / 3), 1.0)
    assert [flip.item for flip in by_names.flips] == ["i1", "i2", "i4", "i5"]
    assert by_names.flips[0].perturbed_answer == "red"


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "run.jsonl"
    code = (
        "import sys\nsys.path.insert(0, sys.argv[2])\nfrom pathlib import Path\n"
        "from unit.evals.test_run import asked\nasked(Path(sys.argv[1]), 300, 'tools.compared:slow')"
    )
    tests = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tests)])}
    process = subprocess.Popen([sys.executable, "-c", code, str(path), str(tests)], env=environment)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not path.exists() or path.read_bytes().count(b'"row":"answer"') < 20):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with RunFile(path, head(300)):
        pass  # once the lock is free, the model's own process has gone too
    killed = [row for row in read_rows(path) if isinstance(row, AnswerRow)]
    assert 20 <= len(killed) < 300
    path.write_bytes(path.read_bytes() + b'{"row":"answer","model":"slow","item":"i29')  # a line torn by the kill
    with RunFile(path, head(300)) as file:
        assert file.n_found == len(killed)
        run(items(300)[:30], [candidate("tools.compared:slow", Place())], EXACT, file, Options())
        assert list(file.answers.values())[: len(killed)] == killed
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    said = [line["item"] for line in lines if line.get("row") == "answer"]
    assert len(said) == len(set(said)) == max(30, len(killed))


@pytest.mark.parametrize(
    ("field", "named"),
    [("data_sha256", "other data"), ("prompts_sha256", "other prompts"), ("scorer", "another scorer")],
)
def test_a_file_of_something_else_is_refused(tmp_path, field, named):
    asked(tmp_path / "run.jsonl", 3, "tools.compared:right")
    with pytest.raises(ConfigError, match=named):
        RunFile(tmp_path / "run.jsonl", head(3, **{field: "changed"}))


def test_another_model_under_the_same_name_is_refused(tmp_path):
    with RunFile(tmp_path / "run.jsonl", head(1)) as file:
        row = ModelRow(name="m", kind="function", spec="a:b", sha256="1", is_local=True)
        file.add_model(row)
        file.add_model(row)
        with pytest.raises(ConfigError, match="'m' is another model now"):
            file.add_model(ModelRow(name="m", kind="function", spec="a:b", sha256="2", is_local=True))


def test_a_file_in_use_or_of_another_kind_is_refused(tmp_path):
    with RunFile(tmp_path / "run.jsonl", head(1)), pytest.raises(StoreError, match="Another process"):
        RunFile(tmp_path / "run.jsonl", head(1))
    (tmp_path / "other.jsonl").write_text('{"input": "a", "output": "b"}\n')
    with pytest.raises(StoreError, match="is no run file"):
        RunFile(tmp_path / "other.jsonl", head(1))


def test_an_endpoint_is_timed_from_first_text_to_end_and_billed(tmp_path):
    def reply(asked_for):
        assert asked_for.json["temperature"] == 0
        return Reply(text=asked_for.json["messages"][-1]["content"].split()[-1], delay_s=0.02, pace_s=0.01)

    with upstream(reply) as server:
        spec = f"far={server.url}#tiny"
        price = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0, source="a list, 2026-11-01")
        place = Place(prices={"far": price})
        with RunFile(tmp_path / "run.jsonl", head(4)) as file:
            run(items(4), [candidate(spec, place)], EXACT, file, Options(shape=LoadShape(clients=2, warm_up=1)))
            found = report(items(4), file, ["far"], Rule())
        assert len(server.asked) == 5
    (model,) = found.models
    assert model.quality.value == 1.0
    row = next(row for row in read_rows(tmp_path / "run.jsonl") if isinstance(row, AnswerRow))
    assert 0.02 < row.ttft_s < row.latency_s
    assert len(row.gaps_ms) == len(row.answer) - 1
    assert 8 < row.gaps_ms[0] < 40
    assert row.cost_usd == pytest.approx((11 * 1 + 3 * 2) / 1e6)
    assert model.latency["tpot"]["p50"].value == pytest.approx((row.latency_s - row.ttft_s) / 2, rel=0.5)
    assert model.money.usd_per_correct.value == pytest.approx(17e-6)
    assert "a list, 2026-11-01" in model.money.price
    assert model.memory.why_none == "n/a: not on this machine"
    assert model.output_tokens_per_s.value > 0


def failing(tmp_path: Path, *replies: Reply, timeout_s: float = 5.0) -> list[AnswerRow]:
    with upstream(replies) as server:
        place = Place()
        with RunFile(tmp_path / "run.jsonl", head(3)) as file:
            run(items(3), [candidate(f"{server.url}#m", place)], EXACT, file, Options(timeout_s=timeout_s))
            return list(file.answers.values())


def test_failures_are_rows_that_count_as_wrong(tmp_path):
    rows = failing(tmp_path, Reply(text="red"), Reply(status=500, body=b"{}"), Reply(hangs=True), timeout_s=0.3)
    assert [(row.failure, row.score) for row in rows] == [("", 1.0), ("error", 0.0), ("timeout", 0.0)]
    assert "HTTP 500" in rows[1].error


@pytest.mark.parametrize(
    ("reply", "error"), [(Reply(status=401, body=b"{}"), ModelStatusError), (Reply(closes=True), ModelConnectionError)]
)
def test_a_model_that_refuses_everything_stops_the_run_before_it_fills_the_file(tmp_path, reply, error):
    with pytest.raises(error):
        failing(tmp_path, reply)
    assert not [row for row in read_rows(tmp_path / "run.jsonl") if isinstance(row, AnswerRow)]


def test_a_cascade_pays_for_both_and_says_how_often_it_went_on(tmp_path):
    place = Place(gate=lambda least: Policy(Gates(min_certainty=least, min_scope=-1)))
    found = candidate("c=tools.compared:unsure>tools.compared:right@0.8", place)
    with RunFile(tmp_path / "run.jsonl", head(6)) as file:
        run(items(6), [found], EXACT, file, Options())
        rows = list(file.answers.values())
        (model,) = report(items(6), file, ["c"], Rule()).models
    assert [row.is_escalated for row in rows] == [True, False] * 3
    assert [row.score for row in rows] == [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    assert model.escalated.value == 0.5


def test_an_endpoint_that_goes_first_is_asked_how_certain_it_is_and_defers_where_it_does_not_say(tmp_path):
    place = Place(gate=lambda least: Policy(Gates(min_certainty=least, min_scope=-1)))
    with upstream([Reply(text="red")]) as first, upstream([Reply(text="green")]) as second:
        found = candidate(f"{first.url}#small>{second.url}#large@0.5", place)
        with RunFile(tmp_path / "run.jsonl", head(2)) as file:
            run(items(2), [found], EXACT, file, Options())
            rows = list(file.answers.values())
        assert [asked.json.get("logprobs") for asked in (*first.asked, *second.asked)] == [True, True, None, None]
        assert [asked.json["model"] for asked in (first.asked[0], second.asked[0])] == ["small", "large"]
    assert [(row.answer, row.is_escalated, row.prompt_tokens) for row in rows] == [("green", True, 22)] * 2


def test_a_cascade_whose_first_is_broken_answers_all_the_same(tmp_path):
    place = Place(gate=lambda least: Policy(Gates(min_certainty=least, min_scope=-1)))
    with upstream([Reply(status=500, body=b"{}")]) as first:
        found = candidate(f"{first.url}#small>tools.compared:right@0.5", place)
        with RunFile(tmp_path / "run.jsonl", head(2)) as file:
            run(items(2), [found], EXACT, file, Options())
            rows = list(file.answers.values())
    assert [(row.score, row.is_escalated, row.failure) for row in rows] == [(1.0, True, "")] * 2


def test_a_failure_that_a_scorer_sees_counts_as_wrong(tmp_path):
    def judged(item, answer):
        return Score(0.7, "refusal" if item.id == "i0" else "", "")

    with RunFile(tmp_path / "run.jsonl", head(2)) as file:
        run(items(2), [candidate("tools.compared:right", Place())], judged, file, Options())
        (model,) = report(items(2), file, ["right"], Rule()).models
    assert model.failures["refusal"] == 1
    assert model.quality.value == pytest.approx(0.35)


def test_a_local_model_is_measured_and_energy_is_honest(tmp_path):
    options = Options(estimate_watts=10.0)
    (model,) = reported(tmp_path / "run.jsonl", 5, "tools.compared:slow", options=options).models
    assert model.memory.value > 1e7
    assert model.load_s.value is not None
    for energy in model.energy:
        assert energy.total_j.value is not None or "not measured" in energy.total_j.why_none
    assert model.energy_estimate.total_j.method.startswith("tdp_estimate")
    assert model.energy_estimate.j_per_request.value >= 0.1


def test_energy_of_a_run_whose_part_was_killed_is_not_divided_by_all_its_answers(tmp_path):
    path = tmp_path / "run.jsonl"
    asked(path, 3, "tools.compared:right", options=Options(estimate_watts=10.0))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"row":"session"' not in line))
    rows = asked(path, 3, "tools.compared:right", options=Options(repeats=2, estimate_watts=10.0))
    assert len(rows) == 6
    options = Options(repeats=2, estimate_watts=10.0)
    (model,) = reported(path, 3, "tools.compared:right", options=options).models
    assert model.energy_estimate is None
    assert model.requests_per_s.n == 3


def test_clusters_and_slices_come_from_the_items(tmp_path):
    tagged = [
        dataclasses.replace(i, tags={"kind": "even" if n % 2 else "odd"}, cluster=str(n // 2))
        for n, i in enumerate(items(8))
    ]
    with RunFile(tmp_path / "run.jsonl", head(8)) as file:
        models = [candidate(f"tools.compared:{name}", Place()) for name in ("right", "unsure")]
        run(tagged, models, EXACT, file, Options())
        found = report(tagged, file, ["right", "unsure"], Rule())
    assert [(row.value, row.n) for row in found.slices] == [("even", 4), ("odd", 4)]
    assert found.is_clustered
    assert "clusters" in found.models[0].quality.method
    assert found.macros[0].quality["right"] == 1.0
    assert found.n_disagreements == 5
    assert found.disagreements[0].answers["unsure"][0] == "red"


def test_a_model_is_opened_only_when_its_turn_comes(tmp_path):
    def opened():
        raise AssertionError("nothing is left to ask")

    path = tmp_path / "run.jsonl"
    asked(path, 3, "tools.compared:right")
    found = candidate("tools.compared:right", Place())
    with RunFile(path, head(3)) as file:
        run(items(3), [dataclasses.replace(found, open=opened)], EXACT, file, Options())


def test_candidates_need_names_of_their_own():
    one = Candidate(name="a", kind="function", spec="x:y", sha256="", open=lambda: None)
    with pytest.raises(ConfigError, match="Two models are called 'a'"):
        distinct([one, one])
