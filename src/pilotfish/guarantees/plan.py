"""Before any money is spent: how many answers a promise needs, at the agreement of the present student.

It looks at out-of-fold scores of the rows that would teach a specialist now, and at nothing else. Those rows
will never calibrate (`split.py`), so a claim may be chosen by looking at a plan, and a plan spends no delta.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.core.certificate import Claim
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.guarantees.certify import Evidence, answers_needed, expected_coverage
from pilotfish.guarantees.consistency import Repeated, asked_again
from pilotfish.guarantees.fitting import look
from pilotfish.guarantees.split import calibration_size, split
from pilotfish.students.distil import Progress
from pilotfish.students.teach import teach

if TYPE_CHECKING:
    from pilotfish.specialists.encoder import Encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one claim needs: `n_answers` unbiased answers, None where no number would do at today's agreement.

    `coverage` is what to expect with so many, `coverage_now` with those there are; 0 where none would pass.
    """

    claim: Claim
    n_answers: int | None
    coverage: float
    coverage_now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The needs of all claims, from `n_now` unbiased answers; `n_scored` of them were scored out of fold, and
    `agreement` is the share of these that the student answered like the reference. `consistency` is how often the
    reference differed from itself in the rows that would teach."""

    n_now: int
    n_scored: int
    consistency: Repeated
    agreement: float
    attempt: int
    needs: tuple[Need, ...]


def plan(
    task: Task,
    examples: Sequence[Example],
    claims: Sequence[Claim],
    *,
    number: int,
    encoder: Encoder | None,
    fresh_since_s: float | None = None,
    progress: Progress | None = None,
) -> Plan:
    """The plan for attempt `number` (from 1). Planning figures: the agreement seen is itself uncertain.

    After a withdrawal only answers later than `fresh_since_s` count, since only they may certify. The student is fitted
    on the CPU and thrown away. `UserError` where there is too little to learn from.
    """
    if fresh_since_s is not None:
        examples = [row for row in examples if row.time_s > fresh_since_s]
    parts = split(examples)
    rows = [examples[i] for i in parts.fit if examples[i].is_unbiased]
    with tempfile.TemporaryDirectory(prefix="pilotfish-plan-") as folder:
        fold = teach(rows, task, encoder, Path(folder), progress=progress).out_of_fold
    seen = look(fold)
    return Plan(
        n_now=sum(row.is_unbiased for row in examples),
        n_scored=len(fold.disagreement),
        consistency=asked_again([examples[i] for i in parts.fit]),
        agreement=1.0 - float(fold.disagreement.mean()),
        attempt=number,
        needs=tuple(_need(seen, claim, number, len(parts.calibration)) for claim in claims),
    )


def _need(seen: Evidence, claim: Claim, number: int, n_calibration: int) -> Need:
    needed = answers_needed(seen, claim, number)
    return Need(
        claim=claim,
        n_answers=needed,
        coverage=expected_coverage(seen, calibration_size(needed), claim, number) if needed else 0.0,
        coverage_now=expected_coverage(seen, n_calibration, claim, number),
    )
