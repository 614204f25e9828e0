import dataclasses
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load, save

from pilotfish.core.errors import SpecialistError
from pilotfish.specialists.card import read_folder, write_folder
from pilotfish.specialists.specialist import TENSORS, Evidence, Specialist, mix, vote
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import open_encoder
from tools.tiny_models import write_tiny_bert
from tools.tiny_tasks import examples, json_task, label_task, triage_examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoder):
    return distil(examples(300), label_task(), encoder, tmp_path_factory.mktemp("home")).folder


def test_it_answers_texts_it_has_not_seen(folder, encoder):
    later = examples(200, seed=1)
    found = Specialist.load(folder, encoder).predict([example.text for example in later])
    right = np.array([example.answer == answer for example, answer in zip(later, found.answers, strict=True)])
    assert right.mean() > 0.95
    assert found.certainty.dtype == found.scope.dtype == np.float64
    assert ((found.certainty > 1 / 3) & (found.certainty <= 1)).all()


def test_what_is_unlike_the_task_has_a_lower_scope(folder, encoder):
    specialist = Specialist.load(folder, encoder)
    inside = specialist.predict([example.text for example in examples(50, seed=2)]).scope
    outside = specialist.predict(["zyx 9#9#9#9 qqq", "@@@@ ;;;; $$$$ 77777777777"]).scope
    assert outside.max() < inside.mean()


def test_alone_or_together_the_scores_are_the_same_bits(folder, encoder):
    specialist = Specialist.load(folder, encoder)
    texts = [example.text for example in examples(60, seed=3)] + ["", "refund", "x" * 5000, "\ud83d"]
    together = specialist.predict(texts)
    given = specialist.predict(texts, encoder.encode(texts))
    assert (given.certainty == together.certainty).all()
    for row, text in enumerate(texts):
        alone = specialist.predict([text])
        assert alone.answers[0] == together.answers[row]
        assert alone.certainty[0] == together.certainty[row]
        assert alone.scope[0] == together.scope[row]


def test_no_texts_give_no_predictions(folder, encoder):
    assert Specialist.load(folder, encoder).predict([]).answers == []


def test_several_fields_share_one_certainty(tmp_path, encoder):
    fitted = distil(triage_examples(400), json_task(), encoder, tmp_path)
    specialist = Specialist.load(fitted.folder, encoder)
    later = triage_examples(100, seed=5)
    found = specialist.predict([example.text for example in later])
    right = np.array([example.answer == answer for example, answer in zip(later, found.answers, strict=True)])
    assert right.mean() > 0.8
    assert found.certainty[right].mean() > found.certainty[~right].mean() if (~right).any() else right.all()


def test_another_encoder_is_refused(folder, tmp_path):
    other = open_encoder(tmp_path, str(write_tiny_bert(tmp_path / "tiny", seed=9)))
    with pytest.raises(SpecialistError, match="another encoder"):
        Specialist.load(folder, other)


def test_tampering_is_refused(folder, encoder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    content = bytearray((copy / TENSORS).read_bytes())
    content[-1] ^= 1
    (copy / TENSORS).write_bytes(content)
    with pytest.raises(SpecialistError, match="differs from its hash"):
        Specialist.load(copy, encoder)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", save({"columns": np.zeros(3, np.int32)})])
def test_a_file_with_a_right_hash_and_wrong_content_is_refused(folder, encoder, tmp_path, content):
    write_folder(tmp_path, read_folder(folder).card, {TENSORS: content})
    with pytest.raises(SpecialistError):
        Specialist.load(tmp_path, encoder)


def test_a_card_with_more_fields_than_the_tensors_is_refused(folder, encoder, tmp_path):
    checked = read_folder(folder)
    card = dataclasses.replace(checked.card, classes=(*checked.card.classes, ("x",)))
    write_folder(tmp_path, card, checked.contents)
    with pytest.raises(SpecialistError, match="incomplete"):
        Specialist.load(tmp_path, encoder)


def test_the_folder_is_plain_and_small(folder):
    assert sorted(path.name for path in folder.iterdir()) == [TENSORS, "specialist.json"]
    json.loads((folder / "specialist.json").read_text())
    tensors = load((folder / TENSORS).read_bytes())
    assert tensors["exemplars"].dtype == tensors["0.sparse"].dtype == np.float16


def test_near_exemplars_count_more():
    similarities = np.array([[0.9, 0.5, 0.5], [0.7, 0.7, 0.7]])
    labels = np.array([[1, 0, 0], [1, 0, 0]], np.int16)
    np.testing.assert_allclose(vote(similarities, labels, 3, 1e3), [[2 / 3, 1 / 3, 0], [2 / 3, 1 / 3, 0]], atol=1e-3)
    np.testing.assert_allclose(vote(similarities, labels, 3, 0.01)[0], [0, 1, 0], atol=1e-9)


def test_the_mixture_is_a_distribution_that_follows_its_weights():
    evidence = Evidence(
        dense=np.array([[3.0, 0.0]]),
        sparse=np.array([[0.0, 3.0]]),
        similarities=np.array([[0.5]]),
        labels=np.array([[0]], np.int16),
    )
    dense = mix(evidence, np.array([1.0, 0.0, 0.0, 0.1]))
    sparse = mix(evidence, np.array([0.0, 1.0, 0.0, 0.1]))
    np.testing.assert_allclose(dense, 1 / (1 + np.exp([[-3.0, 3.0]])))
    np.testing.assert_allclose(sparse, dense[:, ::-1])
    np.testing.assert_allclose(mix(evidence, np.array([0.0, 0.0, 1.0, 0.1])), [[1.01 / 1.02, 0.01 / 1.02]], atol=1e-4)


def test_the_first_tier_answers_without_the_encoder(folder, encoder, monkeypatch):
    specialist = Specialist.load(folder, encoder)
    monkeypatch.setattr(type(encoder), "encode", None)
    later = examples(200, seed=1)
    found = specialist.predict_first([example.text for example in later])
    right = np.array([example.answer == answer for example, answer in zip(later, found.answers, strict=True)])
    assert right.mean() > 0.9
    assert ((found.certainty > 1 / 3) & (found.certainty <= 1)).all()
    assert specialist.predict_first([]).answers == []


def test_the_first_tiers_scores_are_the_same_bits_alone_or_together(folder, encoder):
    specialist = Specialist.load(folder, encoder)
    texts = [example.text for example in examples(60, seed=3)] + ["", "refund", "x" * 5000, "\ud83d"]
    together = specialist.predict_first(texts)
    for row, text in enumerate(texts):
        alone = specialist.predict_first([text])
        assert alone.answers[0] == together.answers[row]
        assert (alone.certainty[0], alone.scope[0]) == (together.certainty[row], together.scope[row])


def test_the_first_tiers_scope_is_the_share_of_known_ngrams(folder, encoder):
    specialist = Specialist.load(folder, encoder)
    scope = specialist.predict_first(["refund please", "", "qqqq wwww", "refund qqqq"]).scope
    assert scope[1] == 0.0
    assert scope[2] < scope[3] < scope[0] <= 1.0


def test_a_folder_from_before_the_first_tier_is_read_and_has_none(folder, encoder, tmp_path):
    checked = read_folder(folder)
    tensors = load(checked.contents[TENSORS])
    old = {name: tensor for name, tensor in tensors.items() if not name.endswith(".alone")}
    assert len(old) == len(tensors) - 1
    write_folder(tmp_path, checked.card, {TENSORS: save(old)})
    specialist = Specialist.load(tmp_path, encoder)
    texts = [example.text for example in examples(20, seed=4)]
    assert (specialist.predict(texts).certainty == Specialist.load(folder, encoder).predict(texts).certainty).all()
    with pytest.raises(SpecialistError, match="no first tier"):
        specialist.predict_first(texts)
