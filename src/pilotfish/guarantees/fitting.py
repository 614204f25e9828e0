"""Fitting on the rows that teach, and what their out-of-fold scores let expect.

It sees no calibration row: everything here costs CPU and no delta. After a withdrawal the reference may have changed
its mind, so rows from before may teach what is wrong now; whether they do is for the out-of-fold scores of the
fresh rows to say.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from pilotfish.core.certificate import Claim
from pilotfish.core.errors import UserError
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.guarantees.certify import Evidence, expected_coverage
from pilotfish.specialists.encoder import Encoder
from pilotfish.students.distil import Fitted, OutOfFold, Progress, distil


class Options(TypedDict, total=False):
    """What fitting and an attempt can do without.

    `embeddings`, one row an example, saves encoding. `progress` goes to `distil`. `is_worth` judges the coverage that
    out-of-fold scores let expect: where it says no, the attempt stops before it spends anything.
    With `calibrate_after_s` rows up to that time teach and the unbiased rows after it calibrate. No row up to
    `fresh_since_s` (a withdrawal) calibrates or is looked at out of fold, and it teaches only where that helps.
    `n_votes` says how many answers of the reference make the one in each example (`consistency.with_votes`).
    """

    embeddings: npt.NDArray[np.float32] | None
    progress: Progress | None
    is_worth: Callable[[float], bool]
    calibrate_after_s: float
    fresh_since_s: float
    n_votes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A fitted specialist, the look at its out-of-fold scores, and the coverage that they let expect.

    `looked_at` are the positions of the rows that were looked at, in the order of the scores.
    """

    fitted: Fitted
    look: Evidence
    expected_coverage: float
    looked_at: tuple[int, ...]


def fit(
    task: Task,
    rows: Sequence[Example],
    claim: Claim,
    *,
    number: int,
    encoder: Encoder,
    folder: Path,
    n_calibration: int,
    **options: Unpack[Options],
) -> Student:
    """The student of `rows`, to be certified on `n_calibration` others in attempt `number`; UserError without variety.

    With `fresh_since_s` there are two, fitted on all rows and on the fresh ones alone, and the one that lets expect
    more coverage is kept, both judged on the same fresh rows. That is allowed, as both and the choice between them are
    functions of fitting rows and of the number of calibration rows only: conditional on these, the calibration
    rows are as independent of the student kept as of any other, and the certificate's theorem holds for it.
    """
    since_s = options.get("fresh_since_s")
    embeddings = options.get("embeddings")
    fresh = [since_s is None or row.time_s > since_s for row in rows]

    def student(picked: list[int]) -> Student:
        fitted = distil(
            [rows[i] for i in picked],
            task,
            encoder,
            folder,
            embeddings=None if embeddings is None else embeddings[picked],
            progress=options.get("progress"),
        )
        # `distil` keeps the latest rows where there are very many.
        scored = picked[len(picked) - len(fitted.out_of_fold.certainty) :]
        # Deferred rows are the hard ones: their out-of-fold scores would let expect too little coverage, and start the
        # test too high. Rows from before a withdrawal say nothing about the traffic of today.
        is_looked_at = [fresh[i] and rows[i].is_unbiased for i in scored]
        seen = look(fitted.out_of_fold, np.array(is_looked_at, bool))
        return Student(
            fitted=fitted,
            look=seen,
            expected_coverage=expected_coverage(seen, n_calibration, claim, number),
            looked_at=tuple(itertools.compress(scored, is_looked_at)),
        )

    students = [student(list(range(len(rows))))]
    picked = [i for i, is_fresh in enumerate(fresh) if is_fresh]
    if len(picked) < len(rows) and len({rows[i].answer for i in picked} - {None}) > 1:
        with contextlib.suppress(UserError):  # too few different texts yet
            students.append(student(picked))
    return max(students, key=lambda found: found.expected_coverage)


def look(fold: OutOfFold, is_looked_at: npt.NDArray[np.bool_] | slice = slice(None)) -> Evidence:
    """The out-of-fold evidence of both tiers on the marked rows; on all without a mark."""
    return Evidence(
        fold_losses=fold.disagreement[is_looked_at].tolist(),
        fold_certainty=fold.certainty[is_looked_at].tolist(),
        fold_scope=fold.scope[is_looked_at].tolist(),
        first=look(fold.first, is_looked_at) if fold.first else None,
    )
