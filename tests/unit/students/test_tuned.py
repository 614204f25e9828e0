from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pilotfish.core.errors import SpecialistError
from pilotfish.specialists.card import read_folder
from pilotfish.specialists.specialist import Specialist
from pilotfish.students import tuned
from pilotfish.students.distil import distil
from pilotfish.students.recipe import Recipe
from pilotfish.students.tuned import distil_tuned
from tools.tiny_tasks import json_task, triage_examples
from tools.tuning import RECIPE, in_order, order_task, tuning

ROWS = in_order(120)
QUICK = dataclasses.replace(RECIPE, n_layers=1, n_epochs=2, batch=32)


@pytest.fixture(scope="module")
def learn(encoder_folder, encoder):
    def run(home, rows=ROWS, task=None, *, is_worth=lambda _: True, **options):
        plan = tuning(encoder_folder, QUICK, **options.pop("tuning", {}))
        return distil_tuned(rows, task or order_task(), encoder, home, plan, is_worth=is_worth, **options)

    return run


@pytest.fixture(scope="module")
def fitted(learn, tmp_path_factory):
    return learn(tmp_path_factory.mktemp("home"))


def test_the_folder_holds_its_own_encoder_and_needs_no_other(fitted, encoder):
    card = read_folder(fitted.folder).card
    assert card.students[0] == "cosine head, last layer fine-tuned"
    assert set(card.files) == {"model.safetensors", "model.int8.onnx", "tokenizer.json", "encoder.json"}
    assert 0 <= card.scores["int8_cosine_distance"] < tuned.MAX_DISTANCE
    assert 1 <= card.scores["epochs"] <= 2
    assert not card.shares_encoder
    texts = [row.text for row in ROWS[:20]]
    alone, beside = (Specialist.load(fitted.folder, other).predict(texts) for other in (None, encoder))
    assert alone.answers == beside.answers
    # What the shared encoder says of the texts means nothing to it.
    given = Specialist.load(fitted.folder, encoder).predict(texts, encoder.encode(texts))
    assert (given.certainty == alone.certainty).all()


def test_a_changed_encoder_is_not_loaded(learn, tmp_path):
    folder = learn(tmp_path).folder
    graph = folder / "model.int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\x00")
    with pytest.raises(SpecialistError, match="differs from its hash"):
        Specialist.load(folder, None)


def test_nothing_is_left_behind_but_the_specialist(learn, tmp_path, fitted):
    again = learn(tmp_path)
    assert again.sha256 == fitted.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tuning", again.folder.name]
    assert list((tmp_path / ".tuning").iterdir()) == []


def test_its_scores_are_out_of_fold_and_decide_before_the_last_run(learn, tmp_path, fitted):
    seen, stages = [], []
    found = learn(
        tmp_path,
        is_worth=seen.append,
        progress=lambda stage, done, total: stages.append(stage.partition(":")[0]),
    )
    assert found is None
    assert list((tmp_path / ".tuning").iterdir()) == []
    assert [path for path in tmp_path.iterdir() if path.name != ".tuning"] == []
    assert list(dict.fromkeys(stages)) == ["lower layers", "fine-tune 1/3", "fine-tune 2/3"]
    (scored,) = seen
    assert np.array_equal(scored.certainty, fitted.out_of_fold.certainty)
    assert len(scored.certainty) == len(scored.answers) == len(ROWS)
    assert scored.first is not None


def test_scores_of_noise_are_those_of_chance(learn, tmp_path):
    rng = np.random.default_rng(0)
    noise = [dataclasses.replace(row, answer=(str(rng.choice(["q", "z"])),)) for row in in_order(150, seed=3)]
    seen = []
    learn(tmp_path, noise, is_worth=seen.append)
    assert 0.3 < seen[0].disagreement.mean() < 0.7


def test_an_interrupted_run_is_taken_up_and_ends_alike(learn, tmp_path, fitted):
    steps = []

    def interrupt(stage, done, total):
        steps.append(stage)
        if stage.startswith("fine-tune 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, progress=interrupt)
    (kept,) = (tmp_path / ".tuning").iterdir()
    assert not list(kept.glob("*.partial"))
    resumed = []
    again = learn(tmp_path, progress=lambda stage, done, total: resumed.append(stage.partition(":")[0]))
    assert set(resumed) == {"fine-tune 3/3", "encode"}
    assert again.sha256 == fitted.sha256


@pytest.mark.parametrize(("least", "n_steps"), [(100, 4), (1000, 2 * 4)])
def test_of_many_classes_and_texts_the_last_run_takes_one_epoch(learn, tmp_path, monkeypatch, least, n_steps):
    monkeypatch.setattr(tuned, "FEW_CLASSES", 1)
    monkeypatch.setattr(tuned, "MIN_AVERAGED", least)
    steps = {}
    found = learn(tmp_path, progress=lambda stage, done, total: steps.update({stage.partition(":")[0]: total}))
    assert steps["fine-tune 3/3"] == n_steps
    assert steps["fine-tune 1/3"] == 2 * 2
    assert read_folder(found.folder).card.students[0] == "cosine head, last layer fine-tuned"


def test_fewer_rows_take_more_epochs():
    assert [Recipe().epochs(n) for n in (100, 770, 1350, 2113, 10_000)] == [8, 8, 5, 3, 3]
    assert Recipe(n_epochs=2).epochs(100) == 2


def test_what_was_begun_on_other_rows_is_removed(learn, tmp_path):
    stale = tmp_path / ".tuning" / f"{order_task().id}-old"
    other = tmp_path / ".tuning" / f"{json_task().id}-old"
    for kept in (stale, other):
        kept.mkdir(parents=True)
    learn(tmp_path, is_worth=lambda _: False)
    assert (stale.exists(), other.exists()) == (False, True)


def test_it_is_told_what_it_will_cost(learn, tmp_path):
    said = []
    learn(tmp_path, is_worth=lambda _: False, tuning={"announce": said.append})
    assert len(said) == 1
    assert "120 texts, last layer, at most" in said[0]


def test_too_few_texts_and_a_single_answer_are_left_alone(learn, tmp_path):
    assert learn(tmp_path, ROWS[: tuned.MIN_TEXTS // 2]) is None
    assert learn(tmp_path, [dataclasses.replace(row, answer=("q",)) for row in ROWS]) is None
    assert not (tmp_path / ".tuning").exists()


def test_a_graph_that_parts_from_torch_is_an_error(learn, tmp_path, monkeypatch):
    monkeypatch.setattr(tuned, "MAX_DISTANCE", -1.0)
    with pytest.raises(SpecialistError, match="written wrongly"):
        learn(tmp_path)


def test_all_fields_of_an_object_share_the_layers(learn, tmp_path):
    rows = triage_examples(200)
    found = learn(tmp_path, rows, json_task())
    assert len(found.classes) == 2
    said = Specialist.load(found.folder, None).predict([row.text for row in rows]).answers
    assert np.mean([a == row.answer for a, row in zip(said, rows, strict=True)]) > 0.8


def test_the_shared_encoder_of_another_specialist_is_not_its_own(fitted, encoder, tmp_path):
    frozen = distil(ROWS, order_task(), encoder, tmp_path)
    with pytest.raises(SpecialistError, match="learnt on another encoder than none"):
        Specialist.load(frozen.folder, None)
    assert frozen.sha256 != fitted.sha256
