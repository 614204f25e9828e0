"""Forgetting past answers: which go, what stays, and that nothing brings them back from the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.config.settings import LearningSettings
from pilotfish.core.errors import TaskError
from pilotfish.guarantees.forget import forget
from pilotfish.guarantees.known import known_examples
from pilotfish.guarantees.pace import Pace
from pilotfish.store.base import TaskRecord
from pilotfish.store.home import Home, open_home
from pilotfish.tasks.find import find_tasks
from tools.faq import TASK, log, reply

PARCEL, REFUND = reply("parcel"), reply("refund")
VARIANTS = (PARCEL, PARCEL.replace("asking", "writing"), PARCEL.replace("Thank you", "Thanks"))


def desk(folder: Path, overlap: float) -> Home:
    log(folder, [(f"question {n}", (REFUND, *VARIANTS)[n % 4]) for n in range(80)])
    place = open_home(folder, LearningSettings(answer_overlap=overlap))
    find_tasks(place)
    return place


def record(place: Home) -> TaskRecord:
    found = place.registry.task(TASK)
    assert found is not None
    return found


@pytest.mark.parametrize("overlap", [1.0, 0.9])
def test_what_is_forgotten_does_not_come_back_in_other_words(tmp_path: Path, overlap: float) -> None:
    place = desk(tmp_path, overlap)
    assert len(record(place).shape.style) == (4 if overlap == 1.0 else 2)
    assert len(forget(place, record(place), "PARCEL", Pace())) == (3 if overlap == 1.0 else 1)
    find_tasks(place)
    assert [text for _, text in record(place).shape.style] == [REFUND.strip()]
    assert sum(example.answer is not None for example in known_examples(place)[TASK]) == 20
    assert [event.kind for event in place.registry.events(TASK)] == ["forgotten", "recognised"]


def test_without_any_left_learning_begins_again(tmp_path: Path) -> None:
    place = desk(tmp_path, 1.0)
    assert forget(place, record(place), "no such words", Pace()) == []
    assert len(forget(place, record(place), "", Pace(first_after=50))) == 4
    find_tasks(place)
    gone = record(place)
    assert gone.shape.kind == "text"
    assert gone.pace is not None
    assert (gone.pace["n_stale"], gone.pace["due_at"]) == (80, 130)
    with pytest.raises(TaskError, match="gives no past answers"):
        forget(place, gone, "", Pace())
