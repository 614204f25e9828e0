"""A run file as options: the verdicts are compare's, places and prices are known or unknown, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.advice.needs import Needs, Stated
from pilotfish.advice.rule import decide
from pilotfish.advice.runs import margin_needed, read_run
from pilotfish.config.settings import LargeSettings, ModelSettings, Settings
from pilotfish.core.errors import UserError
from pilotfish.core.item import Item
from pilotfish.core.messages import Message, Price
from pilotfish.evals.report import report
from pilotfish.evals.run_file import AnswerRow, Head, ModelRow, RunFile
from pilotfish.evals.verdict import DEFAULT_MARGIN, Paired, Rule, compare

HEAD = Head(data="doors", data_sha256="d", prompts_sha256="p", scorer="exact", n_items=400, source="doors.jsonl")
# Name: kind, spec, scores: right on all but the first so many, then the fields of each answer.
MODELS = {
    "large": ("endpoint", "https://api.example/v1#large", 0, {"cost_usd": 0.004, "latency_s": 0.9}),
    "near": ("endpoint", "http://127.0.0.1:8080/v1#near", 2, {"latency_s": 0.2}),
    "far": ("endpoint", "https://api.example/v1#far", 60, {"prompt_tokens": 100, "completion_tokens": 50}),
    "tape": ("recording", "tape.jsonl#tape", 2, {}),
    "both": ("cascade", "http://127.0.0.1:8080/v1#near>https://api.example/v1#large@0.9", 0, {"latency_s": 0.4}),
}


def items(n: int = 400, *, clustered: bool = False) -> list[Item]:
    return [
        Item(
            id=f"i{i}",
            messages=[Message(role="user", content="x")],
            expected="",
            tags={},
            cluster=f"c{i // 40}" * clustered,
        )
        for i in range(n)
    ]


def write(path: Path, *, clustered: bool = False, n: int = 400) -> list[str]:
    with RunFile(path, HEAD) as file:
        for name, (kind, spec, n_wrong, fields) in MODELS.items():
            file.add_model(ModelRow(name=name, kind=kind, spec=spec, sha256=name, is_local=False))
            for i, item in enumerate(items(n, clustered=clustered)):
                more = {"is_escalated": i % 4 == 0} if kind == "cascade" else {}
                if kind == "cascade" and i % 4 == 0:
                    more["cost_usd"] = None
                row = AnswerRow(
                    model=name, item=item.id, cluster=item.cluster, score=float(i >= n_wrong), **fields, **more
                )
                file.add_answer(row)
    return list(MODELS)


HERE = Stated(is_local=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("run") / "run.jsonl"
    write(found)
    return found


def test_the_margin_of_advice_is_the_one_of_compare():
    assert Needs().margin == DEFAULT_MARGIN


@pytest.mark.parametrize("clustered", [False, True])
def test_the_verdicts_are_those_of_compare_clusters_included(tmp_path, clustered):
    names = write(tmp_path / "run.jsonl", clustered=clustered)
    run = read_run(tmp_path / "run.jsonl", Needs(margin=0.03), Settings())
    with RunFile(tmp_path / "run.jsonl", HEAD) as file:
        told = report(items(clustered=clustered), file, names, Rule(margin=0.03))
    assert [(c.candidate, c.verdict, c.lower) for c in run.comparisons] == [
        (c.candidate, c.verdict, c.lower) for c in told.comparisons
    ]
    words = {option.name: option.judged.word for option in run.options}
    # Ten passages tell less than 400 questions would.
    assert words["far"] == ("not enough data" if clustered else "worse")
    assert words["near"] == ("not enough data" if clustered else "non-inferior")


def test_where_requests_go_is_read_off_or_unknown(path):
    stated = {"tape": Stated(rent_usd_per_h=1.0)}
    found = {o.name: (o.where, o.is_own, o.shape) for o in read_run(path, Needs(), Settings()).options}
    assert found == {
        "large": ("remote", False, "large only"),
        # What listens on this machine may pass requests on: nobody has said that it does not.
        "near": ("unknown", False, "small only"),
        "far": ("remote", False, "small only"),
        "tape": ("unknown", False, "small only"),
        "both": ("remote", False, "cascade"),
    }
    told = {o.name: o for o in read_run(path, Needs(stated=stated | {"near": HERE}), Settings()).options}
    assert told["tape"].where == told["near"].where == "own"
    assert (told["both"].where, told["both"].is_own) == ("remote", True)
    models = {"far": ModelSettings(url="https://inside.example/v1", local=True)}
    configured = read_run(path, Needs(), Settings(models=models)).options
    assert next(o for o in configured if o.name == "far").where == "own"


def test_costs_are_measured_tokens_at_a_price_or_unknown(path):
    price = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, source="list 2026-11-22")
    prices = {"far": Stated(price=price), "near": HERE}
    found = {o.name: o for o in read_run(path, Needs(stated=prices), Settings()).options}
    assert found["large"].usd_per_call.measured.value == pytest.approx(0.004)
    assert found["far"].usd_per_call.measured.value == pytest.approx(300e-6)
    assert "list 2026-11-22" in found["far"].usd_per_call.measured.method
    assert found["tape"].usd_per_call.value is None
    # A quarter of the requests is passed on, at what the large model was measured to cost.
    assert (found["both"].paid_share, found["both"].usd_per_call.value) == (0.25, pytest.approx(0.004))
    unpriced = {o.name: o for o in read_run(path, Needs(), Settings()).options}["far"]
    assert unpriced.usd_per_call.value is None


def test_tokens_that_are_only_stated_make_an_estimate_in_its_own_place(path):
    prices = {"tape": Stated(price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0))}
    found = {o.name: o for o in read_run(path, Needs(stated=prices, tokens=(100.0, 50.0)), Settings()).options}
    assert found["tape"].usd_per_call.measured.value is None
    assert found["tape"].usd_per_call.estimate.value == pytest.approx(300e-6)
    assert decide([found["tape"]], Needs(), 10.0).of("tape").cost.is_estimate


def test_a_machine_answers_one_at_a_time_unless_it_was_measured_busier(path):
    found = {o.name: o for o in read_run(path, Needs(stated={"near": HERE}), Settings()).options}
    assert found["near"].capacity_per_h.measured.value == pytest.approx(3600 / 0.2)
    assert found["tape"].capacity_per_h.value is None
    stated = {"near": Stated(rent_usd_per_h=1.0, capacity_per_h=9000.0)}
    told = next(o for o in read_run(path, Needs(stated=stated), Settings()).options if o.name == "near")
    assert (told.capacity_per_h.is_estimate, told.capacity_per_h.value) == (True, 9000.0)


def test_the_reference_is_named_else_configured_else_the_first(path):
    assert read_run(path, Needs(), Settings()).reference == "large"
    assert read_run(path, Needs(), Settings(large=LargeSettings(model="far"))).reference == "far"
    assert read_run(path, Needs(), Settings(), "near").reference == "near"
    with pytest.raises(UserError, match="holds no model 'nobody'"):
        read_run(path, Needs(), Settings(), "nobody")


def test_the_margin_needed_is_where_the_verdict_turns():
    pair = Paired(candidate="a", baseline="b", scores=[1.0] * 380 + [0.0] * 20, baseline_scores=[1.0] * 400)
    (found,) = compare([pair], Rule())
    needed = margin_needed(found, 1, 0.05)
    words = [compare([pair], Rule(margin=needed + step))[0].verdict for step in (-1e-4, 1e-4)]
    assert words == ["worse", "non-inferior"]
    assert margin_needed(found, 5, 0.05) > needed


def test_a_command_names_what_was_asked(path):
    run = read_run(path, Needs(), Settings())
    far = next(o for o in run.options if o.name == "far")
    assert far.measure == f"pilotfish compare '{MODELS['large'][1]}' '{MODELS['far'][1]}' --on doors.jsonl"
