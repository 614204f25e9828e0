"""Answers of the reference that look wrong: what students that did not learn from them are sure is otherwise.

They are shown, never dropped: a student cannot know better than the standard it is held to, and rows taken out because
the student disagrees would make its agreement look better than it is. Whoever reads them may find that the instructions
are ambiguous, or that the reference is careless with some class.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.students.distil import Progress, distil
from pilotfish.students.lesson import MAX_EXAMPLES
from pilotfish.students.out_of_fold import OutOfFold

if TYPE_CHECKING:
    from pilotfish.specialists.encoder import Encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One example whose `given` answer the students doubt: they say `found`, with this certainty."""

    request_id: str
    text: str
    given: tuple[str, ...]
    found: tuple[str, ...]
    certainty: float


def find_suspects(
    task: Task, examples: Sequence[Example], encoder: Encoder | None, progress: Progress | None = None
) -> list[Suspect]:
    """The suspicious answers among the latest examples, the surest first; the students are thrown away.

    `UserError` where there is too little to learn from.
    """
    with tempfile.TemporaryDirectory(prefix="pilotfish-suspects-") as folder:
        scored = distil(examples, task, encoder, Path(folder), progress=progress).out_of_fold
    return suspects(examples[-MAX_EXAMPLES:], scored)


def suspects(examples: Sequence[Example], scored: OutOfFold) -> list[Suspect]:
    """The examples with another answer than the students', who are as sure of theirs as they usually are where right.

    As sure, that is at least as certain as on the mean of the examples where both gave that answer: the threshold of
    confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70), without its count matrix. The surest half of the
    wrong answers is found so (`benchmarks/students/few.py`).
    """
    agreed: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for example, found, certainty in zip(examples, scored.answers, scored.certainty, strict=True):
        if example.answer == found:
            agreed[found].append(float(certainty))
    usual = {answer: sum(values) / len(values) for answer, values in agreed.items()}
    doubted = [
        Suspect(
            request_id=example.request_id,
            text=example.text,
            given=example.answer,
            found=found,
            certainty=float(certainty),
        )
        for example, found, certainty in zip(examples, scored.answers, scored.certainty, strict=True)
        if example.answer is not None and example.answer != found and certainty >= usual.get(found, 2.0)
    ]
    return sorted(doubted, key=lambda suspect: -suspect.certainty)
