"""Questions known word for word: when they are answered without the students, and how that is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pilotfish.core.example import Example
from pilotfish.core.task import NO_PAST_ANSWER, Task
from pilotfish.scoring.answers import parse
from pilotfish.specialists.encoder import Encoder
from pilotfish.specialists.load import load
from pilotfish.specialists.retriever import CERTAIN, Retriever
from pilotfish.students.distil import Fitted, distil
from pilotfish.tasks.shapes import Given, settle_shape
from tools.faq import ONE_OFF, questions, reply

ALIKE = [("how do I track it", reply("parcel"))] * 3
MIXED = [("how do I pay", reply("parcel")), ("How do I  pay", reply("refund")), ("how do I pay", reply("refund"))]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Fitted:
    pairs = [*questions(200), *ALIKE, *MIXED]
    shape = settle_shape([Given(text=text, answer=answer) for text, answer in pairs])
    task = Task(id="0" * 16, name="desk", instructions_id="1" * 16, instructions="Answer.", shape=shape)
    rows = [Example(text=text, answer=parse(shape, answer), time_s=float(n)) for n, (text, answer) in enumerate(pairs)]
    return distil(rows, task, encoder, tmp_path_factory.mktemp("specialists"))


@pytest.fixture(scope="module")
def specialist(fitted: Fitted, encoder: Encoder) -> Retriever:
    found = load(fitted.folder, encoder)
    assert isinstance(found, Retriever)
    return found


class Silent:
    """An encoder that must not be asked."""

    def encode(self, texts: list[str]) -> None:
        raise AssertionError(texts)


def test_a_question_always_answered_alike_is_not_encoded(
    specialist: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = specialist.predict(["HOW do I\ntrack it"])
    value = parse(specialist.card.shape, reply("parcel"))
    assert said.answers == [value]
    assert (said.certainty[0], said.scope[0]) == (CERTAIN, CERTAIN)
    monkeypatch.setattr(specialist, "_encoder", Silent())
    assert specialist.predict(["how do i track it"]).answers == [value]
    assert specialist.predict_first(["how do i track it"]).certainty[0] == CERTAIN


def test_together_and_alone_give_the_same(specialist: Retriever) -> None:
    texts = ["how do I pay", "how do I track it", f"{ONE_OFF} 12", "refund please now"]
    for predict in (specialist.predict, specialist.predict_first):
        together, alone = predict(texts), [predict([text]) for text in texts]
        assert together.answers == [one.answers[0] for one in alone]
        assert (together.certainty == np.array([one.certainty[0] for one in alone])).all()
        assert (together.scope == np.array([one.scope[0] for one in alone])).all()
        assert together.certainty[0] < CERTAIN


def test_what_is_answered_anew_each_time_has_no_certainty(specialist: Retriever) -> None:
    said = specialist.predict([f"{ONE_OFF} {n}" for n in range(20)])
    is_none = np.array([answer == (NO_PAST_ANSWER,) for answer in said.answers])
    assert is_none.mean() > 0.9
    assert (said.certainty[is_none] == 0).all()


def test_a_known_question_is_scored_by_what_the_others_were_answered(fitted: Fitted) -> None:
    scores = fitted.out_of_fold
    assert scores.first is not None
    for tier in (scores, scores.first):
        assert tier.certainty[-6:-3].tolist() == [CERTAIN] * 3
        assert tier.disagreement[-6:-3].tolist() == [0.0] * 3
        # The first of the mixed ones sees two that agree with one another, and not with it.
        assert (tier.certainty[-3], tier.disagreement[-3]) == (CERTAIN, 1.0)
        assert (tier.certainty[-2:] < CERTAIN).all()


def test_folders_name_the_answers_but_no_question(fitted: Fitted) -> None:
    written = b"".join(path.read_bytes() for path in Path(fitted.folder).iterdir())
    assert reply("refund").strip().encode() in written
    assert b"track it" not in written
