import dataclasses

import numpy as np
import pytest

from pilotfish.core.errors import UserError
from pilotfish.core.example import Example
from pilotfish.core.task import AnswerShape
from pilotfish.specialists.card import read_folder
from pilotfish.specialists.specialist import TENSORS, Specialist
from pilotfish.students.distil import distil
from tools.tiny_tasks import examples, label_task


def test_a_folder_is_named_after_its_identity_and_describes_itself(tmp_path, encoder):
    given = examples(200)
    seen = []
    fitted = distil(given, label_task(), encoder, tmp_path, progress=lambda *stage: seen.append(stage))
    assert fitted.folder == tmp_path / fitted.sha256[:16]
    assert [path.name for path in tmp_path.iterdir()] == [fitted.folder.name]
    card = read_folder(fitted.folder).card
    assert (card.task_name, card.n_examples, card.encoder_sha256) == ("intent", 200, encoder.sha256)
    assert card.classes == (("card_lost", "greeting", "refund"),)
    assert fitted.seconds > 0
    assert {stage for stage, _, _ in seen} == {"encode", "fit"}
    assert all(done <= total for _, done, total in seen)


def test_equal_input_gives_an_equal_folder_and_mends_a_broken_one(tmp_path, encoder):
    given = examples(100)
    first = distil(given, label_task(), encoder, tmp_path)
    (first.folder / TENSORS).write_bytes(b"broken")
    second = distil(given, label_task(), encoder, tmp_path, embeddings=encoder.encode([e.text for e in given]))
    assert second.sha256 == first.sha256
    Specialist.load(second.folder, encoder)
    assert distil(given[1:], label_task(), encoder, tmp_path).sha256 != first.sha256


def test_out_of_fold_scores_are_those_of_texts_not_learnt(tmp_path, encoder):
    rng = np.random.default_rng(0)
    noise = [
        Example(text=f"{''.join(rng.choice(list('abcdefgh'), 12))}", answer=(str(rng.choice(["a", "b"])),), time_s=0)
        for _ in range(200)
    ]
    repeated = [example for example in noise for _ in range(3)]
    fitted = distil(repeated, label_task(("a", "b")), encoder, tmp_path)
    scores = fitted.out_of_fold
    assert len(scores.certainty) == len(scores.scope) == len(scores.disagreement) == 600
    assert 0.3 < scores.disagreement.mean() < 0.7
    assert (scores.certainty[::3] == scores.certainty[1::3]).all()
    # A text that were its own neighbour would be as near as rounding allows, 2e-7.
    assert scores.scope.max() < 1 - 2e-6
    first = scores.first
    assert len(first.certainty) == len(first.scope) == len(first.disagreement) == 600
    assert 0.3 < first.disagreement.mean() < 0.7
    assert (first.certainty[::3] == first.certainty[1::3]).all()
    # Half of the n-grams of such noise occur in no other text, and a text's own do not count.
    assert first.scope.mean() < 0.9


def test_texts_that_differ_in_digits_are_in_one_fold(tmp_path, encoder):
    rows = [Example(text=f"{word} order {n}", answer=(word,), time_s=0) for n in range(20) for word in ("abc", "xyz")]
    rows += [Example(text=f"filler {word}", answer=("abc",), time_s=0) for word in "abcdefgh"]
    fitted = distil(rows, label_task(("abc", "xyz")), encoder, tmp_path)
    assert fitted.out_of_fold.disagreement[1:40:2].all()


def test_an_unlisted_or_missing_answer_teaches_nothing_and_disagrees(tmp_path, encoder):
    given = examples(200)
    odd = [dataclasses.replace(given[0], text=f"hello odd {n}", answer=a) for n, a in enumerate([None, ("new",)] * 5)]
    fitted = distil([*given, *odd], label_task(), encoder, tmp_path)
    assert fitted.out_of_fold.disagreement[-10:].tolist() == [1.0] * 10
    assert "new" not in read_folder(fitted.folder).card.classes[0]


def test_the_usual_answer_of_a_repeated_text_is_learnt(tmp_path, encoder):
    given = examples(200)
    disputed = [dataclasses.replace(given[0], text="what now", answer=(a,)) for a in ["refund"] * 3 + ["greeting"]]
    fitted = distil([*given, *disputed], label_task(), encoder, tmp_path)
    assert Specialist.load(fitted.folder, encoder).predict(["WHAT   now"]).answers == [("refund",)]


def test_one_class_and_rare_classes_can_be_learnt(tmp_path, encoder):
    alike = [dataclasses.replace(example, answer=("refund",)) for example in examples(40)]
    fitted = distil(alike, label_task(), encoder, tmp_path)
    assert set(Specialist.load(fitted.folder, encoder).predict(["a", "refund"]).answers) == {("refund",)}
    rare = [*alike, dataclasses.replace(alike[0], text="unique words", answer=("greeting",))]
    fitted = distil(rare, label_task(), encoder, tmp_path)
    assert fitted.out_of_fold.disagreement[-1] == 1
    assert Specialist.load(fitted.folder, encoder).predict(["refund"]).answers == [("refund",)]


@pytest.mark.parametrize("n", [0, 1, 7])
def test_too_few_texts_are_refused_in_numbers(tmp_path, encoder, n):
    given = [Example(text=chr(97 + index), answer=("refund",), time_s=0) for index in range(n)]
    with pytest.raises(UserError, match=f"{n} different texts .* 8 are needed"):
        distil(given * 9, label_task(), encoder, tmp_path)


def test_eight_texts_are_enough(tmp_path, encoder):
    given = [Example(text=f"{chr(97 + n)} word", answer=(("refund", "greeting")[n % 2],), time_s=0) for n in range(8)]
    noise = [Example(text=f"noise {chr(97 + n)}", answer=None, time_s=0) for n in range(20)]
    fitted = distil([*noise, *given], label_task(), encoder, tmp_path)
    assert Specialist.load(fitted.folder, encoder).predict(["a word"]).answers[0][0] in ("refund", "greeting")


def test_open_answers_are_refused(tmp_path, encoder):
    task = dataclasses.replace(label_task(), shape=AnswerShape(kind="text", why_open="prose"))
    with pytest.raises(UserError, match="cannot be learnt: prose"):
        distil(examples(50), task, encoder, tmp_path)
