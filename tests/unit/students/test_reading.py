"""Questions of passages: learnt on a tiny encoder whose layers are fine-tuned, loaded from the folder, asked anew."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from pilotfish.core.certificate import Claim
from pilotfish.core.errors import SpecialistError
from pilotfish.core.task import Field
from pilotfish.guarantees.fitting import fit
from pilotfish.scoring.answers import render
from pilotfish.specialists import reader
from pilotfish.specialists.card import read_folder
from pilotfish.specialists.load import load
from pilotfish.specialists.reader import Reader, Reading, best_value, read
from pilotfish.students import reading
from pilotfish.students.reading import distil_reading
from tools.tuning import READING, question_examples, questions, reading_task, tuning

PAIRS = questions(160)
TASK = reading_task(PAIRS)
ROWS = question_examples(PAIRS, TASK)
N_HELD_OUT = 24


@pytest.fixture(scope="module")
def learn(encoder_folder, encoder):
    def run(home, rows=ROWS, *, recipe=READING, progress=None):
        return distil_reading(
            rows, TASK, home, tuning(encoder_folder, recipe), is_worth=lambda _: True, progress=progress
        )

    return run


@pytest.fixture(scope="module")
def fitted(learn, tmp_path_factory):
    return learn(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def specialist(fitted):
    return load(fitted.folder, None)


def test_it_answers_questions_it_has_not_seen(specialist):
    assert isinstance(specialist, Reader)
    later = questions(60, seed=1)
    found = specialist.predict([text for text, _ in later])
    written = [render(TASK.shape, values, text) for values, (text, _) in zip(found.answers, later, strict=True)]
    assert sum(said == answer for said, (_, answer) in zip(written, later, strict=True)) >= 54
    assert ((found.certainty > 0) & (found.certainty <= 1)).all()
    alone = [specialist.predict([text]) for text, _ in later[:5]]
    assert [float(one.certainty[0]) for one in alone] == found.certainty[:5].tolist()
    assert [float(one.scope[0]) for one in alone] == found.scope[:5].tolist()


def test_the_same_words_with_another_question_have_another_answer(specialist):
    passage = PAIRS[0][0].partition("\n")[0]
    words = passage.split()
    asked = [f"{passage}\n\nQuestion: {word} or zuzu?" for word in words]
    found = specialist.predict(asked).answers
    assert sum(answer == (f'"{word}"',) for answer, word in zip(found, words, strict=True)) >= 6


def test_scores_are_those_of_the_latest_examples_which_taught_nothing(fitted, specialist):
    scores = fitted.out_of_fold
    assert len(scores.certainty) == len(scores.scope) == len(scores.disagreement) == len(scores.answers) == N_HELD_OUT
    said = specialist.predict([row.text for row in ROWS[-N_HELD_OUT:]])
    assert said.answers == list(scores.answers)
    assert said.certainty.tolist() == scores.certainty.tolist()
    assert np.allclose(said.scope, scores.scope, atol=2e-3)
    assert read_folder(fitted.folder).card.n_examples == len(ROWS)


def test_a_held_out_text_that_came_before_is_not_learnt_either(learn, tmp_path, monkeypatch):
    """Else the scores would be those of texts it knows."""
    taught = []

    def look_and_stop(drill, *_, **__):
        taught.extend(drill.rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(reading.finetune_spans, "point", look_and_stop)
    again = [dataclasses.replace(row, time_s=200.0 + row.time_s) for row in ROWS[:10]]
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, [*ROWS, *again])
    # Of 170 examples 25 are held out: the ten that come again, and the 15 before them.
    assert taught == list(range(10, len(ROWS) - 15))


def test_an_interrupted_run_is_taken_up_and_ends_alike(learn, tmp_path, fitted):
    def interrupt(stage, done, total):
        if stage.startswith("fine-tune") and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, progress=interrupt)
    steps = []
    again = learn(tmp_path, progress=lambda stage, done, total: steps.append(stage.partition(":")[0]))
    assert "lower layers" not in steps
    assert again.sha256 == fitted.sha256
    assert list((tmp_path / ".tuning").iterdir()) == []


def test_an_answer_that_stands_in_no_passage_teaches_nothing(learn, tmp_path):
    astray = [dataclasses.replace(row, answer=('"elsewhere"',)) for row in ROWS[:60]]
    assert learn(tmp_path, [*astray, *ROWS[60:]]) is None


def test_a_graph_that_says_something_else_is_refused(learn, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_DISTANCE", -1.0)
    with pytest.raises(SpecialistError, match="cosine distance"):
        learn(tmp_path, recipe=dataclasses.replace(READING, n_epochs=1))


def test_a_long_passage_is_read_in_windows_that_overlap(specialist, encoder):
    words = [text.partition("\n")[0] for text, _ in questions(12, seed=4)]
    text = f"{' '.join(words)}\n\nQuestion: {words[-1].split()[-1]} or zuzu?"
    found = read(text, "last", specialist._own)
    assert len(found.windows) > 3
    assert max(len(window.tokens) for window in found.windows) <= 64
    seen = [set(window.words[:, 0].tolist()) for window in found.windows]
    assert set().union(*seen) == set(range(96))
    assert all(one & other for one, other in itertools.pairwise(seen))
    assert specialist.predict([text]).answers == [(f'"{words[-1].split()[-1]}"',)]


@pytest.mark.parametrize("text", ["", "no passage?", "?\n", "\n\n", "\ud800 \n\nQuestion: \ud800 or ba?"])
def test_what_holds_no_passage_is_answered_with_nothing(specialist, text):
    found = specialist.predict([text])
    assert found.certainty[0] < 1


def scored(text, per_word, nothing):
    """What a window says: as much of a beginning as of an end of each word."""
    words = reader.Words.of(text)
    places = np.array([[n, n + 1, n + 1] for n in range(len(words))])
    window = reader.Window(tokens=(), marks=np.zeros((0, 0), np.float32), words=places)
    return Reading(words=words, windows=[window]), [np.array([[nothing] * 2, *([x] * 2 for x in per_word)], np.float32)]


def test_a_value_is_as_certain_as_its_places_together():
    value, certainty = best_value(*scored("ada bo ada cy", [1, 1.2, 1, -9], -9))
    assert value == '"ada"'
    likeliest, _ = best_value(*scored("ada bo eve cy", [1, 1.2, 1, -9], -9))
    assert likeliest == '"bo"'
    spans = {(i, j): np.exp(s) for i, j, s in [(0, 0, 2), (0, 1, 2.2), (0, 2, 2), (1, 1, 2.4), (1, 2, 2.2), (2, 2, 2)]}
    assert certainty == pytest.approx((spans[0, 0] + spans[2, 2]) / sum(spans.values()), abs=1e-3)


def test_no_answer_is_deferred_unless_the_reference_has_a_way_to_say_so():
    found = scored("ada bo", [-5, -5], 5)
    assert best_value(*found) == ("", pytest.approx(1.0))
    assert reader.answer(*found, TASK.shape) == ("null", 0.0)
    says = dataclasses.replace(TASK.shape, fields=(Field(name="", source="span", nothing="none"),))
    assert reader.answer(*found, says) == ("null", pytest.approx(1.0))


def test_it_is_kept_where_that_lets_expect_more_than_tags_do(encoder_folder, encoder, tmp_path):
    said = []
    options = {"tuning": tuning(encoder_folder, READING, announce=said.append)}
    found = fit(
        TASK, ROWS, Claim(max_risk=0.2), number=1, encoder=encoder, folder=tmp_path, n_calibration=300, **options
    )
    assert isinstance(load(found.fitted.folder, encoder), Reader)
    assert found.looked_at == tuple(range(len(ROWS) - N_HELD_OUT, len(ROWS)))
    assert len(said) == 1
