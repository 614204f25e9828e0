from __future__ import annotations

import dataclasses

import numpy as np

from pilotfish.students.out_of_fold import OutOfFold
from pilotfish.students.suspects import find_suspects, suspects
from tools.tiny_tasks import examples, label_task

WRONG = {"refund": "greeting", "greeting": "card_lost", "card_lost": "refund"}


def test_answers_that_were_exchanged_are_found_and_little_else():
    given = [dataclasses.replace(row, request_id=f"r{i}") for i, row in enumerate(examples(300))]
    wrong = {7, 60, 61, 140, 222, 290}
    for i in wrong:
        given[i] = dataclasses.replace(given[i], answer=(WRONG[given[i].answer[0]],))
    found = find_suspects(label_task(), given, None)
    named = {int(suspect.request_id[1:]) for suspect in found}
    assert len(named & wrong) >= 3
    assert len(named - wrong) <= 2
    assert [suspect.certainty for suspect in found] == sorted((s.certainty for s in found), reverse=True)
    first = next(suspect for suspect in found if int(suspect.request_id[1:]) in wrong)
    assert WRONG[first.found[0]] == first.given[0]


def test_only_who_is_as_sure_as_where_right_doubts():
    given = examples(4)
    said = tuple(("refund",) for _ in given)
    answers = [("refund",), ("greeting",), ("greeting",), None]
    given = [dataclasses.replace(row, answer=answer) for row, answer in zip(given, answers, strict=True)]
    differs = np.array([0.0, 1, 1, 1])
    certainty = np.array([0.8, 0.79, 0.81, 0.99])
    scored = OutOfFold(certainty=certainty, scope=np.ones(4), disagreement=differs, answers=said)
    assert [suspect.text for suspect in suspects(given, scored)] == [given[2].text]
