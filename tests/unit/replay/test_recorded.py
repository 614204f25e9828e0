from __future__ import annotations

import dataclasses

from pilotfish.replay.recorded import FIRST_LOOK, by_task
from tools.served_home import sentences
from tools.traffic import exchange, many_words

PROMPT = "Classify the colour that the following sentence names. Sentence: "
TRANSLATE = "Translate the following sentence to German, keep it short. Sentence: "


def _carried(n, prompt=PROMPT, seed=0):
    """Prompts that carry their instruction in the user message, without a system message."""
    return [exchange(f"{prompt}{text}", colour, instructions="") for text, colour in many_words(n, seed=seed)]


def test_tasks_of_two_system_prompts_are_told_apart_from_the_first_request_on():
    mixed = [
        exchange(text, colour, instructions=("Name the colour.", "Farbe?")[number % 3 == 0])
        for number, (text, colour) in enumerate(sentences(90))
    ]
    (first, second), others = by_task(mixed)
    assert (len(first.rows), len(second.rows), others) == (60, 30, [])
    assert [row.position for row in second.rows] == list(range(1, 91, 3))
    assert {task.known_from for task in (first, second)} == {1}
    assert first.rows[0].text == sentences(90)[1][0]


def test_a_template_is_known_only_after_the_messages_that_taught_it():
    (task,), others = by_task(_carried(300))
    assert others == []
    assert task.known_from == FIRST_LOOK + 1
    assert [row.text for row in task.rows] == [text for text, _ in many_words(300)]


def test_a_template_that_comes_later_is_known_later():
    traffic = _carried(150) + _carried(250, TRANSLATE, seed=1)
    tasks, _ = by_task(traffic)
    known = {len(task.rows): task.known_from for task in tasks}
    assert known[150] == FIRST_LOOK + 1
    assert 150 < known[250] <= 401


def test_what_is_known_when_does_not_depend_on_the_future():
    """Whatever follows, a template learnt at a look has the same rows behind it and the same moment."""
    alone, _ = by_task(_carried(120))
    followed, _ = by_task(_carried(120) + _carried(500, TRANSLATE, seed=1))
    first = min(followed, key=lambda task: task.rows[0].position)
    assert first.known_from == alone[0].known_from
    assert [row.text for row in first.rows[:120]] == [row.text for row in alone[0].rows]


def test_rows_without_plain_text_stay_with_the_reference():
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    exchanges = [
        exchange(text if number % 4 else picture, colour) for number, (text, colour) in enumerate(sentences(100))
    ]
    (task,), others = by_task(exchanges)
    assert len(task.rows) == 75
    assert len(others) == 25
    assert all(found.request.messages[-1].content == picture for found in others)


def test_what_does_not_recur_stays_with_the_reference():
    rare = [exchange("hello", "hi", instructions=f"assistant number {number}") for number in range(50)]
    (task,), others = by_task([exchange(*pair) for pair in sentences(40)] + rare)
    assert (len(task.rows), len(others)) == (40, 50)
    assert by_task([]) == ([], [])
    assert by_task(rare[:1]) == ([], rare[:1])


def test_times_are_kept_and_positions_stand_in_for_missing_ones():
    exchanges = [exchange(*pair) for pair in sentences(30)]
    timed = [dataclasses.replace(found, time_s=1e9 + number) for number, found in enumerate(exchanges)]
    (task,), _ = by_task(timed)
    assert [row.time_s for row in task.rows[:2]] == [1e9, 1e9 + 1]
    (task,), _ = by_task(exchanges)
    assert [row.time_s for row in task.rows[:2]] == [1.0, 2.0]
