"""A user's own answers: they teach and are given, certify nothing, and go as they came, a source at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilotfish.cli.main import run
from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.errors import DataError, TaskError
from pilotfish.evals.given_answers import read_given_answers
from pilotfish.guarantees.forget import forget
from pilotfish.guarantees.learn import learn
from pilotfish.guarantees.pace import Pace
from pilotfish.guarantees.verify import recompute
from pilotfish.specialists.load import load
from pilotfish.store.answer_sources import AnswerSource
from pilotfish.store.base import TaskRecord
from pilotfish.store.home import Home, open_home
from pilotfish.tasks.find import find_tasks
from tools.faq import TASK, log, questions, reply

CLAIM = Claim(max_risk=0.2, confidence=0.8)
OPENING = "We are open from nine to five on working days; on Sundays and on public holidays the desk is closed."
ASKED = "when does the desk open"
NEAR = [f"{start} the desk {end}" for start in ("when is", "at what hour is") for end in ("open", "open today", "shut")]
OWN = (*((text, OPENING) for text in (ASKED, *NEAR)), ("whereabouts of my box", reply("parcel")))


@pytest.fixture
def place(tmp_path: Path) -> Home:
    log(tmp_path / "home", questions(300))
    found = open_home(tmp_path / "home")
    find_tasks(found)
    found.answers.put(TASK, AnswerSource(name="desk.csv", added_s=5.0, pairs=OWN))
    return found


def record(place: Home) -> TaskRecord:
    found = place.registry.task(TASK)
    assert found is not None
    return found


def texts(place: Home) -> set[str]:
    return {text for _, text in record(place).shape.style}


def found_texts(place: Home) -> set[str]:
    """Those of the task as the log shows it now, whatever serves."""
    return {text for task in find_tasks(place) if task.id == TASK for _, text in task.shape.style}


def test_they_are_given_though_the_reference_never_gave_them_and_certify_nothing(place: Home) -> None:
    (outcome,) = learn(place, CLAIM, Pace(first_after=180, growth=1.5), lambda: None)
    assert isinstance(outcome.verdict, Certificate)
    assert OPENING in texts(place)
    specialist = load(place.specialists / record(place).specialist_sha256[:16], None)
    found = specialist.predict([ASKED, "when will the desk open", OWN[-1][0]]).answers
    by_text = {text: value for value, text in record(place).shape.style}
    assert list(found) == [(by_text[text],) for text in (OPENING, OPENING, reply("parcel").strip())]
    assert "" not in outcome.verdict.details["request_ids"], "rows of the reference's alone"
    assert recompute(place, outcome.verdict.id, None).differences == []


def test_a_source_is_taken_back_with_what_it_alone_brought(place: Home) -> None:
    learn(place, CLAIM, Pace(first_after=180, growth=1.5), lambda: None)
    other = AnswerSource(name="other.csv", added_s=6.0, pairs=(("a", "Another text of the user's own."),))
    place.answers.put(TASK, other)
    assert forget(place, record(place), "", Pace(), source="desk.csv") == [OPENING]
    assert texts(place) == {reply(topic).strip() for topic in ("parcel", "refund", "password")}
    assert [source.name for source in place.answers.of(TASK)] == ["other.csv"]
    with pytest.raises(TaskError, match=r"no source of answers 'desk\.csv'") as caught:
        forget(place, record(place), "", Pace(), source="desk.csv")
    assert "'other.csv'" in str(caught.value.hint)


def test_what_was_forgotten_comes_back_with_a_later_source_only(place: Home) -> None:
    learn(place, CLAIM, Pace(first_after=180, growth=1.5), lambda: None)
    assert forget(place, record(place), "on Sundays", Pace()) == [OPENING]
    assert OPENING not in found_texts(place)
    place.answers.put(TASK, AnswerSource(name="desk.csv", added_s=9e9, pairs=OWN))
    assert OPENING in found_texts(place)


def test_a_file_of_questions_and_documents_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\nwhen?,at nine\n")
    assert read_given_answers(tmp_path / "a.csv") == [("when?", "at nine")]
    row = {"document": "The desk opens at nine.", "question": "when?", "answer": "at nine"}
    (tmp_path / "b.jsonl").write_text(json.dumps(row) + "\n")
    assert read_given_answers(tmp_path / "b.jsonl") == [("when?", "at nine"), ("The desk opens at nine.", "at nine")]
    (tmp_path / "c.jsonl").write_text(json.dumps({"answer": "at nine"}) + "\n")
    with pytest.raises(DataError, match=r"c\.jsonl, line 1 has no question or document"):
        read_given_answers(tmp_path / "c.jsonl")


def test_the_commands_take_a_file_and_give_it_back(tmp_path: Path, place: Home, capsys) -> None:
    path = tmp_path / "hours.jsonl"
    path.write_text("".join(json.dumps({"question": text, "answer": answer}) + "\n" for text, answer in OWN))
    home = ["--home", str(place.folder)]
    promise = ["--max-risk", "0.2", "--confidence", "0.8", "--encoder", "none", "--finetune", "never"]
    name = record(place).name
    assert run(["distil", name, "--answers", str(path), *promise, *home]) == 0
    assert "8 questions and documents of hours.jsonl, 2 answers" in capsys.readouterr().err
    assert run(["forget", name, "--source", "desk.csv", *home]) == 0
    assert "no answer came from it alone" in capsys.readouterr().out
    assert run(["forget", name, "--source", "hours.jsonl", *home]) == 0
    assert OPENING[:40] in capsys.readouterr().out
    assert run(["forget", name, "--source", "hours.jsonl", *home]) == 2
