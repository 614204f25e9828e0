from __future__ import annotations

import csv
import dataclasses
import json
import pickle
import random
from dataclasses import replace

import pytest

from pilotfish.cli.main import EXIT_NO, EXIT_USER
from pilotfish.core.errors import DataError
from pilotfish.core.outcome import Outcome, Tried
from pilotfish.evals.outcomes import read_outcomes, to_row
from pilotfish.guarantees import route_attempt
from pilotfish.guarantees.route_attempt import split
from pilotfish.routing import learn
from pilotfish.specialists.encoder import Encoder
from pilotfish.students import outcome_reader
from tools.outcomes import outcomes, write
from tools.tuning import RECIPE


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return write(tmp_path_factory.mktemp("outcomes") / "words.jsonl", outcomes(700, gap=0.15))


def test_a_route_is_learnt_certified_judged_and_simulated(pilotfish, found, tmp_path):
    route = tmp_path / "route.json"
    made = pilotfish("route", "train", found, "--out", route, "--margin", "0.05", "--json")
    assert made.code == 0, made.err
    assert made.json["verdict"]["claim"] == {"max_risk": 0.05, "confidence": 0.95, "per": "loss"}
    assert made.json["attempts"] == 1
    told = {signal["name"]: signal for signal in made.json["learnt"][0]["signals"]}
    assert told["least logprob"]["is_used"]
    assert told["samples disagree"]["why_not"] == "known for 0 of 280"
    again = pilotfish("route", "train", found, "--out", route, "--margin", "0.05", "--json")
    assert again.json["verdict"]["delta_spent"] == pytest.approx(made.json["verdict"]["delta_spent"] / 4)

    page = tmp_path / "page.html"
    judged = pilotfish("route", "evaluate", route, "--on", found, "--margin", "0.05", "--html", page)
    assert judged.code == 0, judged.err
    assert judged.out.startswith("Route: small keeps")
    for control in ("prompt length", "random at equal cost", "oracle", "always small", "convex hull", "best single"):
        assert control in judged.out
    assert "<svg" in page.read_text()
    # What it has learnt by heart proves nothing of it.
    assert "280 outcomes taught the route and are left out." in judged.out
    known, _ = split(read_outcomes([found]))
    assert len(known) == len(made.json["taught"]) == 280
    alone = pilotfish("route", "evaluate", route, "--on", write(tmp_path / "known.jsonl", known))
    assert alone.code == EXIT_USER
    assert "All 280 outcomes taught this route" in alone.err

    month = pilotfish("route", "simulate", route, "--on", found, "--requests", 10_000, "--budget", 7, "--json")
    assert month.code == 0, month.err
    assert month.json["learning_usd"] == pytest.approx(700 * 0.021)
    lines = {line["name"]: line for line in month.json["lines"]}
    assert lines["always large"]["usd"]["value"] == pytest.approx(200.0)
    assert lines["this route"]["usd"]["value"] < 200.0
    assert lines["at most 7 USD a day"]["usd"]["value"] <= 210.0


def test_a_small_model_that_is_as_good_is_advised_alone(pilotfish, tmp_path):
    file = write(tmp_path / "same.jsonl", outcomes(400, gap=0.0))
    said = pilotfish("route", "evaluate", "--on", file, "--small", "small", "--reference", "large")
    assert said.code == 0
    assert said.out.startswith("Use small for everything")


def test_a_few_requests_without_a_loss_prove_nothing(pilotfish, tmp_path):
    rows = [
        replace(one, tried={name: replace(tried, score=1.0) for name, tried in one.tried.items()})
        for one in outcomes(200)
    ]
    few, many = write(tmp_path / "few.jsonl", rows[:20]), write(tmp_path / "many.jsonl", rows)
    said = pilotfish("route", "evaluate", "--on", few, "--small", "small", "--reference", "large")
    assert said.code == EXIT_NO
    assert "20 outcomes to learn from; 50 are the fewest" in said.out
    said = pilotfish("route", "evaluate", "--on", many, "--small", "small", "--reference", "large")
    # Not 0: so many requests without a loss say "at most 1.5 points", and no more.
    assert "at most 1.5 with 95 % confidence" in said.out


@pytest.mark.parametrize(("n", "is_shown"), [(40, False), (400, True)])
def test_another_single_model_is_advised_only_where_enough_requests_show_it(pilotfish, tmp_path, n, is_shown):
    rows = [
        replace(one, tried={**one.tried, "cheap": replace(one.tried["large"], cost_usd=0.01)}) for one in outcomes(n)
    ]
    file = write(tmp_path / "three.jsonl", rows)
    said = pilotfish("route", "evaluate", "--on", file, "--small", "small", "--reference", "large")
    assert said.out.startswith("Use cheap for everything") is is_shown


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--models", "small>small"), "Name two different models or more"),
        (("--models", "large"), "Name two different models or more"),
        (("--models", "smal>large"), "No outcome has the model 'smal'. Known models: large, small."),
        (("--models", "small>large", "--small", "small"), "Leave out --small and --reference"),
    ],
)
def test_a_cascade_that_cannot_be_is_refused_before_anything_is_learnt(pilotfish, found, tmp_path, flags, why):
    for command in (("train", found, "--out", tmp_path / "r.json"), ("evaluate", "--on", found)):
        said = pilotfish("route", *command, *flags)
        assert said.code == EXIT_USER
        assert why in said.err
    assert not (tmp_path / "r.json").exists()


def test_a_route_is_judged_on_its_own_models_and_says_where_it_does_not_know_what_taught_it(pilotfish, found, tmp_path):
    route = tmp_path / "route.json"
    assert pilotfish("route", "train", found, "--out", route, "--margin", "0.05").code == 0
    said = pilotfish("route", "evaluate", route, "--on", found, "--small", "tiny")
    assert said.code == EXIT_USER
    assert "A route names its own models" in said.err
    others = [replace(one, tried={"a": one.tried["small"], "b": one.tried["large"]}) for one in outcomes(30)]
    for command in ("evaluate", "simulate"):
        said = pilotfish("route", command, route, "--on", write(tmp_path / "others.jsonl", others))
        assert said.code == EXIT_USER
        assert "all models of the route: small, large. Known models: a, b." in said.err
    kept = json.loads(route.read_text())
    del kept["taught"]
    route.write_text(json.dumps(kept))
    for command in ("evaluate", "simulate"):
        assert "does not say what taught the route" in pilotfish("route", command, route, "--on", found).out


def test_a_page_is_never_written_over_what_the_command_reads_or_writes(pilotfish, tmp_path):
    file = write(tmp_path / "words.jsonl", outcomes(60))
    before, route = file.read_bytes(), tmp_path / "route.json"
    for command in (("evaluate", "--on", file, "--html", file), ("train", file, "--out", route, "--html", route)):
        said = pilotfish("route", *command)
        assert said.code == EXIT_USER
        assert "would write over" in said.err
    assert file.read_bytes() == before
    assert not route.exists()


def test_noise_is_not_routed_and_a_refusal_keeps_nothing(pilotfish, tmp_path):
    file = write(tmp_path / "noise.jsonl", outcomes(320, tells=False))
    said = pilotfish("route", "evaluate", "--on", file)
    assert said.code == EXIT_NO
    assert said.out.startswith("Do not route")
    refused = pilotfish("route", "train", file, "--out", tmp_path / "r.json")
    assert refused.code == EXIT_NO
    assert "Not certified, so everything goes to large." in refused.out
    assert "like the 128 that teach" in refused.out
    assert "there are 192 others" in refused.out
    assert json.loads((tmp_path / "r.json").read_text())["route"]["threshold"] is None
    month = pilotfish("route", "simulate", tmp_path / "r.json", "--on", file)
    assert month.code == EXIT_NO
    assert month.out.startswith("Without a certificate everything goes to large")
    poor = pilotfish("route", "simulate", tmp_path / "r.json", "--on", file, "--budget", 0.01)
    assert poor.code == EXIT_USER
    assert "A day costs at least" in poor.err


def test_what_is_learnt_to_be_judged_pays_for_every_kind_that_was_tried(pilotfish, tmp_path, monkeypatch):
    monkeypatch.setattr(learn, "PROMPT_FROM", 50)
    rows = outcomes(120)
    learnt = learn.learn(learn.Material(outcomes=rows, smaller="small", larger="large"))
    assert learnt.n_tried == 3
    said = pilotfish("route", "evaluate", "--on", write(tmp_path / "words.jsonl", rows), "--json").json
    assert said["rankings"][0]["p_better_than_chance"] == learnt.p


def test_layouts_of_others_are_read(tmp_path):
    wide = tmp_path / "routerbench.csv"
    with wide.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["sample_id", "prompt", "eval_name", "a", "b", "a|model_response", "a|total_cost", "b|total_cost"]
        )
        table.writerow(["s-1", "Why?", "mmlu", "0.0", "1.0", "No.", "0.001", "0.02"])
    [row] = read_outcomes([wide])
    assert (row.task, row.tried["a"].text, row.tried["b"].cost_usd) == ("mmlu", "No.", 0.02)
    plain = tmp_path / "routellm.csv"
    plain.write_text(",prompt,weak,strong,weak_response\n0,Why?,False,True,No.\n1,How?,True,True,So.\n")
    assert [(o.tried["weak"].score, o.tried["strong"].score) for o in read_outcomes([plain])] == [(0, 1), (1, 1)]
    long = tmp_path / "llmrouter.jsonl"
    lines = [
        {"task_name": "t", "query": "Why?", "model_name": name, "performance": score, "output_tokens": 7}
        for name, score in (("a", 0.5), ("b", 1.0))
    ]
    long.write_text("".join(json.dumps(line) + "\n" for line in lines))
    [row] = read_outcomes([long])
    assert {name: tried.score for name, tried in row.tried.items()} == {"a": 0.5, "b": 1.0}
    assert (row.task, row.tried["a"].output_tokens) == ("t", 7)


def test_our_own_layout_comes_back_as_it_went(tmp_path):
    outcome = Outcome(
        request_id="1",
        prompt="Why?",
        tried={
            "m": Tried(
                score=0.5,
                text="So.",
                logprobs=(-0.5,),
                tokens=("So.",),
                samples=("No.",),
                verifier=0.9,
                verified_by="v",
            )
        },
        task="t",
        split="train",
        probability=0.25,
        tags={"team": "x"},
        tests="assert True",
    )
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(to_row(outcome)) + "\n")
    assert read_outcomes([path]) == [outcome]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"prompt": "p", "answers": {"a": {"score": 2}}}', "must lie in 0..1"),
        ('{"prompt": "p", "answers": {"a": {"score": 1, "sore": 1}}}', "unknown field 'sore'"),
        ('{"prompt": "p", "answers": {"a": {"score": 1}}, "probability": 0}', "'probability'"),
        ('{"prompt": "p", "a": 1}', "column of scores"),
        ('{"text": "p"}', "no layout has the columns"),
        ('{"prompt": "p", "answers": {"a": {"score": 1, "text": 7}}}', "'text' of 'a' must be text, but is '7'"),
        ('{"prompt": "p", "answers": {"a": {"score": 1, "logprobs": "-1"}}}', "'logprobs' of 'a' must be a list of n"),
        ('{"prompt": "p", "answers": {"a": {"score": 1, "logprobs": ["x"]}}}', "'logprobs' of 'a' must be a list of n"),
        ('{"prompt": "p", "answers": {"a": {"score": 1, "cost_usd": "low"}}}', "'cost_usd' of 'a' must be a number"),
        ('{"prompt": "p", "answers": {"a": {"score": 1, "cost_usd": -1}}}', "at least 0, but is '-1'"),
        ('{"prompt": "p", "scores": {"a": 1}, "responses": "x"}', "must be objects of one text"),
        ('{"prompt": "p", "a": 1, "b": 2}', "here 'a' alone has one, and 'b': '2' is none"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(pilotfish, tmp_path, line, why):
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    said = pilotfish("route", "evaluate", "--on", path)
    assert said.code == EXIT_USER
    assert "rows.jsonl, line 1" in said.err
    assert why in said.err


def test_one_id_of_two_prompts_is_refused_rather_than_joined(pilotfish, tmp_path):
    for day in (1, 2):
        rows = [replace(one, request_id=str(i)) for i, one in enumerate(outcomes(3, seed=day))]
        write(tmp_path / f"day{day}.jsonl", rows)
    said = pilotfish("route", "evaluate", "--on", tmp_path / "day1.jsonl", "--on", tmp_path / "day2.jsonl")
    assert said.code == EXIT_USER
    assert "3 of 6 rows cannot be read. day2.jsonl, line 1: the id '0' also stands for another prompt" in said.err


def test_a_table_that_holds_what_is_no_score_among_scores_is_refused(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("prompt,a,b,c\nWhy?,1,0,1\nHow?,1,0,2\nWho?,1,0,\nWhat?,1,0,none\n")
    with pytest.raises(DataError, match=r"1 of 4 rows .*line 3: the score of 'c' must lie in 0..1, as in other rows"):
        read_outcomes([table])
    table.write_text("prompt,a,b,words\nWhy?,1,0,17\nHow?,1,0,20\n")
    assert [sorted(outcome.tried) for outcome in read_outcomes([table])] == [["a", "b"]] * 2


def test_prices_need_a_model_that_is_there_and_count_the_characters_of_a_text(pilotfish, tmp_path):
    rows = [replace(one, tried={k: replace(v, cost_usd=None) for k, v in one.tried.items()}) for one in outcomes(60)]
    file = write(tmp_path / "texts.jsonl", rows)
    prices = ("--price", "small=1/1@here", "--price", "large=10/10@here")
    said = pilotfish("route", "evaluate", "--on", file, *prices, "--json")
    assert said.json["cost_unit"] == "USD a request"
    characters = sum(round(len(one.prompt) / 4) + round(len("It is so.") / 4) for one in rows) / 60
    assert said.json["singles"]["large"]["cost"] == pytest.approx(characters * 10 / 1e6)
    said = pilotfish("route", "evaluate", "--on", file, "--price", "smal=1/1@here")
    assert said.code == EXIT_USER
    assert "No outcome has the model 'smal'. Known models: large, small." in said.err


def test_a_pickle_is_never_opened(pilotfish, tmp_path):
    path = tmp_path / "routerbench_0shot.pkl"
    path.write_bytes(pickle.dumps([]))
    said = pilotfish("route", "evaluate", "--on", path)
    assert said.code == EXIT_USER
    assert "may run any code" in said.err


def test_three_models_make_a_cascade(pilotfish, tmp_path):
    rows = [
        Outcome(
            request_id=one.request_id,
            prompt=one.prompt,
            tried={"tiny": one.tried["small"], "middle": other.tried["small"], "large": one.tried["large"]},
        )
        for one, other in zip(outcomes(500, gap=0.3), outcomes(500, seed=1, gap=0.1), strict=True)
    ]
    file, route = write(tmp_path / "three.jsonl", rows), tmp_path / "route.json"
    said = pilotfish("route", "train", file, "--out", route, "--models", "tiny>middle>large", "--margin", "0.1")
    assert said.code == 0, said.out + said.err
    judged = pilotfish("route", "evaluate", route, "--on", file, "--margin", "0.1", "--json")
    assert judged.json["reached"]["loss"]["value"] < 0.1
    assert 0.0 < judged.json["reached"]["kept"] <= 1.0
    cascades = judged.json["cascade"]["cascades"]
    assert [one["models"] for one in cascades] == [
        ["tiny", "middle", "large"],
        ["tiny", "large"],
        ["middle", "large"],
    ]
    assert all(sum(shares) == pytest.approx(1.0) for shares in cascades[0]["answered"] if shares)
    unlearnt = pilotfish("route", "evaluate", "--on", file, "--models", "tiny>middle>large")
    assert "Score at equal cost (USD a request)" in unlearnt.out
    assert "tiny > middle > large" in unlearnt.out
    assert "the route's first step *" in unlearnt.out
    assert "the reference answers" not in unlearnt.out
    month = pilotfish("route", "simulate", route, "--on", file, "--requests", 1000, "--budget", 0.5, "--json")
    assert [line["name"] for line in month.json["lines"]] == [
        "this route",
        "at most 0.5 USD a day",
        "always tiny",
        "always middle",
        "always large",
    ]


def test_an_encoder_learns_from_the_outcomes_and_stays_beside_its_route(pilotfish, workshop, tmp_path, monkeypatch):
    monkeypatch.setenv("PILOTFISH_CACHE", str(workshop / "cache"))
    for module in (learn, route_attempt):
        monkeypatch.setattr(module, "ENCODER_FROM", 100)
    monkeypatch.setattr(learn, "PROMPT_FROM", 100)
    monkeypatch.setattr(outcome_reader, "RECIPE", dataclasses.replace(RECIPE, n_layers=1, batch=4, n_epochs=6))
    source = random.Random(0)
    rows = []
    for i in range(400):
        is_hard = source.random() < 0.3
        prompt = " ".join(source.sample("bcdefgh" if is_hard else "nopqrst", 4))
        tried = {"small": Tried(score=float(not is_hard)), "large": Tried(score=1.0)}
        rows.append(Outcome(request_id=str(i), prompt=prompt, tried=tried))
    file, route, home = write(tmp_path / "o.jsonl", rows), tmp_path / "route.json", tmp_path / "home"
    asked = ("--finetune", "--encoder", workshop / "tiny-bert", "--margin", "0.1", "--json")
    made = pilotfish("route", "train", file, "--out", route, *asked)
    assert made.code == 0, made.err
    told = {signal["name"]: signal for signal in made.json["learnt"][0]["signals"]}
    assert told["encoder"]["is_used"]
    assert told["encoder"]["apgr"] > 0.7
    # The route's own encoder is all that stays, and all that reading the route takes.
    assert {path.name for path in tmp_path.iterdir()} == {"o.jsonl", "route.json", "route.encoder"}
    judged = pilotfish("route", "evaluate", route, "--on", file, "--json")
    assert judged.code == 0, judged.err
    adopted = pilotfish("route", "adopt", route, "--home", home)
    assert adopted.code == 0, adopted.err
    [own] = (home / "encoders").iterdir()
    sha256 = made.json["route"]["steps"][0]["gain"]["heads"]["encoder_sha256"]
    assert Encoder.load(own).sha256 == sha256

    (tmp_path / "route.encoder" / "encoder.json").unlink()
    spoilt = pilotfish("route", "train", file, "--out", route)
    assert spoilt.code == EXIT_USER
    assert "holds something else" in spoilt.err
