from __future__ import annotations

import pytest

from pilotfish.store.build import open_writer
from pilotfish.store.home import open_home
from pilotfish.tasks.find import find_tasks, newest
from tools.log_rows import instructions_row, request_row
from tools.served_home import sentences
from tools.traffic import many_words

PROMPT = "Classify the colour that the following sentence names. Sentence: "


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home"


def _log(folder, pairs, *, start=0, key="a" * 16, instructions="Name the colour.", **fields):
    open_home(folder)
    writer = open_writer(folder)
    writer.append(instructions_row(key, text=instructions))
    for number, (text, answer) in enumerate(pairs, start):
        values = {"time_s": float(number), "instructions_id": key, "task_id": key, "input": text}
        writer.append(request_row(f"{key[0]}{number}", **(values | {"reference_answer": answer} | fields)))
    writer.close()
    return open_home(folder)


def test_what_recurs_is_found_and_written_down(folder):
    place = _log(folder, sentences(60))
    (task,) = find_tasks(place)
    assert (task.n_requests, task.shape.kind, task.mode) == (60, "label", "observe")
    (record,) = place.registry.tasks()
    assert (record.task_id, record.name, record.shape) == (task.id, task.name, task.shape)
    assert record.instructions == "Name the colour."


def test_looking_again_changes_nothing(folder):
    place = _log(folder, sentences(60))
    first = find_tasks(place)
    version = place.registry.version()
    assert find_tasks(place) == first
    assert place.registry.version() == version


@pytest.mark.parametrize("n", [0, 1, 19])
def test_what_does_not_recur_is_no_task(folder, n):
    place = _log(folder, sentences(n))
    assert find_tasks(place) == []
    assert place.registry.tasks() == []


def test_a_log_without_answers_has_tasks_that_are_open(folder):
    (task,) = find_tasks(_log(folder, sentences(30), reference_answer=None))
    assert not task.shape.is_closed
    assert "0 answers so far" in task.shape.why_open


def test_failed_requests_and_those_without_text_do_not_count(folder):
    place = _log(folder, sentences(30))
    place = _log(folder, sentences(30), start=100, status=500)
    place = _log(folder, sentences(30), start=200, input=None)
    assert len(newest(place.log)) == 30
    assert find_tasks(place)[0].n_requests == 30


def test_prompts_that_carry_their_instructions_are_told_apart(folder):
    carried = [(PROMPT + text, answer) for text, answer in many_words(80)]
    place = _log(folder, carried, instructions="")
    (task,) = find_tasks(place)
    (template,) = place.registry.templates()
    assert template.prefix == PROMPT
    assert task.id == template.task_id != "a" * 16
    assert task.n_requests == 80


def test_a_template_once_learnt_stays(folder):
    """Its rows may leave the log; requests of the task are still recognised."""
    place = _log(folder, [(PROMPT + text, answer) for text, answer in many_words(80)], instructions="")
    find_tasks(place)
    templates = place.registry.templates()
    place.log.prune(1e9)
    assert find_tasks(place) == []
    assert place.registry.templates() == templates


def test_a_task_keeps_its_name_and_what_was_decided(folder):
    place = _log(folder, sentences(60))
    (task,) = find_tasks(place)
    place.registry.update_task(task.id, mode="shadow", is_held=True)
    place = _log(folder, sentences(60), start=100)
    (again,) = find_tasks(place)
    record = place.registry.task(task.id)
    assert (again.name, again.mode, again.n_requests) == (task.name, "shadow", 120)
    assert (record.mode, record.is_held) == ("shadow", True)


def test_two_tasks_that_would_have_one_name(folder):
    _log(folder, sentences(60))
    place = _log(folder, sentences(60, seed=1), key="b" * 16)
    names = [task.name for task in find_tasks(place)]
    assert len(set(names)) == 2
    first, second = find_tasks(_log(folder, sentences(60, seed=2), key="b" * 16, start=500))
    assert {first.name, second.name} == set(names)


def test_the_shape_follows_the_answers_until_a_certificate_holds_it(folder):
    """A demoted task may be promoted again, with the specialist that answers in the old shape."""
    place = _log(folder, sentences(60))
    (task,) = find_tasks(place)
    _log(folder, [(f"sky {number}", "violet") for number in range(30)], start=100)
    assert "violet" in find_tasks(place)[0].shape.fields[0].values
    known = place.registry.task(task.id)
    assert "violet" in known.shape.fields[0].values
    place.registry.update_task(task.id, certificate_id="c", mode="observe")
    _log(folder, [(f"sun {number}", "orange") for number in range(30)], start=200)
    assert "orange" in find_tasks(place)[0].shape.fields[0].values
    assert place.registry.task(task.id).shape == known.shape
