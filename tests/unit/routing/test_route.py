from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pilotfish.core.errors import DataError, SpecialistError
from pilotfish.core.outcome import Outcome, Tried
from pilotfish.guarantees.route_attempt import trails
from pilotfish.routing import fit
from pilotfish.routing.gain import Gain
from pilotfish.routing.learn import FEWEST, Material, learn
from pilotfish.routing.prompt import NAMES
from pilotfish.routing.reader import Frozen
from pilotfish.routing.replay import trail
from pilotfish.routing.route import Cost, Route, Step
from tools.outcomes import outcomes

READS = Gain(signals=("least logprob",), weights=(1.0,))


def tried(doubt, score=1.0, usd=1.0):
    return Tried(score=score, text="x", logprobs=(-doubt,), cost_usd=usd)


def asked(**models):
    return Outcome(request_id="r", prompt="Which one?", tried=models)


@pytest.fixture
def cascade() -> Route:
    steps = tuple(
        Step(model=name, gain=READS, reads_answer=True, cost=Cost(latency_s=0.5), further=Cost(latency_s=2.0))
        for name in ("tiny", "middle")
    )
    return Route(steps=steps, reference="large", threshold=0.3)


def test_a_cascade_stops_at_the_first_answer_that_is_good_enough(cascade):
    outcome = asked(tiny=tried(0.5), middle=tried(0.3), large=tried(0.0))
    assert cascade.first(outcome).model == "tiny"
    after = cascade.after(0, outcome, outcome.tried["tiny"])
    assert (after.model, after.why, after.need) == ("middle", "gain", 0.5)
    assert cascade.after(1, outcome, outcome.tried["middle"]).why == "kept"
    assert cascade.after(1, outcome, tried(0.31)).model == "large"


def test_whatever_cannot_be_told_goes_to_the_reference(cascade):
    outcome = asked(tiny=tried(0.1), middle=tried(0.1), large=tried(0.0))
    assert cascade.after(0, outcome, Tried(score=0.0)).why == "unknown"
    assert cascade.first(outcome, deadline_s=2.9).why == "deadline"
    assert cascade.first(outcome, deadline_s=3.1).model == "tiny"
    assert replace(cascade, threshold=None).first(outcome).model == "large"


def test_by_the_prompt_alone_only_one_model_is_asked():
    gain = Gain(reads_prompt=True, weights=(1.0, *[0.0] * (len(NAMES) - 1)))
    route = Route(
        steps=(Step(model="small", gain=gain, reads_answer=False, further=Cost(usd=0.02)),),
        reference="large",
        threshold=3.0,
        unit_usd=0.01,
    )
    short, long = (Outcome(request_id="r", prompt=text, tried={}) for text in ("Why?", "Why? " * 400))
    assert route.first(short).model == "small"
    assert route.first(long).model == "large"
    # A dear call must bring more: the need is per unit of cost.
    assert route.need(0, short) == pytest.approx(np.log1p(4) / 2)


def test_live_and_in_replay_the_same_is_decided(cascade):
    source = np.random.default_rng(0)
    for _ in range(50):
        outcome = asked(**{name: tried(float(source.random())) for name in ("tiny", "middle", "large")})
        choice, spent = cascade.first(outcome), 0.0
        for place, step in enumerate(cascade.steps):
            if choice.model == step.model:
                spent += 1.0
                choice = cascade.after(place, outcome, outcome.tried[step.model])
        found = trail(cascade, outcome)
        place = found.place(cascade.threshold)
        assert choice.model == ("tiny", "middle", "large")[place]
        assert found.cost(cascade.threshold) == spent + (choice.model == "large")
        assert found.place(None) == 2
        assert found.cost(None) == 1.0


def test_a_learnt_route_survives_its_file_and_needs_no_library(tmp_path):
    found = outcomes(200)
    learnt = learn(Material(outcomes=found, smaller="small", larger="large"))
    assert {"mean logprob", "least logprob"} <= {worth.name for worth in learnt.worths if worth.is_used}
    assert learnt.kind == "answer"
    assert learnt.apgr > 0.6
    assert learnt.p < 0.01
    route = Route(steps=(Step(model="small", gain=learnt.gain, reads_answer=True),), reference="large", threshold=0.2)
    path = tmp_path / "route.json"
    path.write_text(json.dumps(route.to_json()))
    again = Route.from_json(json.loads(path.read_text()))
    assert again == route
    assert again.id == route.id
    code = (
        "import json, sys; from pilotfish.routing.route import Route; "
        f"Route.from_json(json.load(open({str(path)!r}))); assert not {{'numpy', 'sklearn'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("change", [{"format": 99}, {"steps": [{}]}, {"reference": None, "steps": 3}])
def test_what_is_no_route_says_so(cascade, change):
    with pytest.raises(SpecialistError):
        Route.from_json(cascade.to_json() | change)


def test_a_route_learnt_from_other_features_of_the_prompt_is_not_taken_up():
    gain = Gain(reads_prompt=True, weights=(1.0,) * (len(NAMES) - 1))
    row = Route(steps=(Step(model="small", gain=gain, reads_answer=False),), reference="large").to_json()
    with pytest.raises(SpecialistError, match="other features"):
        Route.from_json(row)


def test_nothing_is_learnt_from_too_few_or_from_noise():
    few = learn(Material(outcomes=outcomes(FEWEST - 1), smaller="small", larger="large"))
    assert few.gain is None
    assert "49 outcomes" in few.why_none
    noise = learn(Material(outcomes=outcomes(300, tells=False), smaller="small", larger="large"))
    assert noise.gain is None
    assert "no better than chance" in noise.why_none


@pytest.mark.parametrize("n", [280, 1000], ids=["a line", "trees too"])
@pytest.mark.parametrize(("every", "is_used"), [(40, True), (10, False)], ids=["2.5 % unknown", "10 % unknown"])
def test_a_signal_that_a_few_answers_lack_is_used_and_these_go_to_the_reference(n, every, is_used):
    rows = outcomes(n)
    for i in range(0, n, every):
        rows[i] = replace(rows[i], tried=rows[i].tried | {"small": replace(rows[i].tried["small"], logprobs=())})
    learnt = learn(Material(outcomes=rows, smaller="small", larger="large"))
    told = {worth.name: worth for worth in learnt.worths}["least logprob"]
    assert told.is_used is is_used
    assert is_used or told.why_not == f"known for {n - n // every:,} of {n:,}"
    if is_used:
        assert learnt.gain is not None
        assert "least logprob" in learnt.gain.signals
        assert [i for i, need in enumerate(learnt.needs) if np.isinf(need)] == list(range(0, n, every))
        assert learnt.gain(rows[0], rows[0].tried["small"]) is None


def test_exported_trees_and_heads_say_what_the_library_says():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 3)).astype(np.float32).astype(np.float64)
    gains = np.where(rows[:, 0] > 0.3, 0.6, -0.1) + 0.1 * rng.normal(size=400)
    trees = fit.forest(rows, gains)
    said = np.array([sum(tree(row) for tree in trees) for row in rows.tolist()])
    assert np.corrcoef(said, gains)[0, 1] > 0.9
    # Trees cut at random places, so they say less than the 0.7 that there is, never more.
    assert 0.4 < said[rows[:, 0] > 0.3].mean() - said[rows[:, 0] <= 0.3].mean() < 0.7
    embeddings = rng.normal(size=(300, 8))
    right = (embeddings[:, 0] > 0).astype(float)
    heads = fit.heads(embeddings, right.tolist(), [1.0] * 300, "abc")
    assert heads([3.0] + [0.0] * 7) < 0.1 < heads([-3.0] + [0.0] * 7)


def embedded(embeddings):
    """Outcomes in which the small model fails on one side of the first axis, whatever the prompts look like."""
    wrong = np.random.default_rng(1).random(len(embeddings)) < np.where(embeddings[:, 0] > 0, 0.5, 0.02)
    return [
        Outcome(
            request_id=str(i),
            prompt=f"Which of {i}?",
            tried={"small": Tried(score=float(not bad)), "large": Tried(score=1.0)},
        )
        for i, bad in enumerate(wrong)
    ]


def test_an_encoder_that_tells_nothing_out_of_fold_takes_no_part():
    embeddings = np.random.default_rng(4).normal(size=(800, 6))
    rows, others = embedded(embeddings), embeddings[::-1]
    learnt = learn(Material(outcomes=rows, smaller="small", larger="large", reader=Frozen(rows, others, "e")))
    worth = {worth.name: worth for worth in learnt.worths}["encoder"]
    assert not worth.is_used
    assert worth.why_not.startswith("not better than chance")
    assert learnt.gain is None


def test_from_800_outcomes_on_trees_and_the_heads_of_an_encoder_take_part():
    embeddings = np.random.default_rng(4).normal(size=(800, 6))
    rows = embedded(embeddings)
    material = Material(outcomes=rows, smaller="small", larger="large", reader=Frozen(rows, embeddings, "e"))
    learnt = learn(material)
    assert {worth.name: worth.is_used for worth in learnt.worths}["encoder"]
    assert learnt.kind == "prompt"
    assert learnt.apgr > 0.6
    assert learnt.gain.trees
    sure, unsure = ([side * 2.0] + [0.0] * 5 for side in (-1.0, 1.0))
    assert learnt.gain(rows[0], None, sure) < learnt.gain(rows[0], None, unsure)
    assert learnt.gain(rows[0], None) is None
    step = Step(model="small", gain=learnt.gain, reads_answer=False)
    route = Route(steps=(step,), reference="large", threshold=1.0)
    assert route.first(rows[0], sure).model == "small"
    assert route.first(rows[0]).why == "unknown"
    assert Route.from_json(json.loads(json.dumps(route.to_json()))) == route
    with pytest.raises(DataError, match="embeddings of another encoder"):
        trails(route, rows)
