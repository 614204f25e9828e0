"""Fitting on the rows that teach, and what their out-of-fold scores let expect.

It sees no calibration row: everything here costs CPU and no delta. After a withdrawal the reference may have changed
its mind, so rows from before may teach what is wrong now; whether they do is for the out-of-fold scores of the
fresh rows to say.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from pilotfish.core.certificate import Claim
from pilotfish.core.errors import UserError
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.guarantees.certify import Evidence, expected_coverage
from pilotfish.students.distil import Fitted, Progress
from pilotfish.students.out_of_fold import OutOfFold
from pilotfish.students.teach import teach

if TYPE_CHECKING:  # without an encoder, and without fine-tuning, nothing of what either needs is installed
    from pilotfish.specialists.encoder import Encoder
    from pilotfish.students.recipe import Tuning

MIN_RISE = 0.02
"""Of all requests, what a fine-tuned student must be expected to serve more than the best frozen one: it costs minutes
to learn, 23 MB on disk, and as much memory as a gateway without specialists."""

MIN_ROOM = 0.05
"""Of all requests, what the best frozen student must be expected to defer for fine-tuning to be tried at all."""


class Options(TypedDict, total=False):
    """What fitting and an attempt can do without.

    `embeddings`, one row an example, saves encoding. `progress` goes to `distil`. `is_worth` judges the coverage that
    out-of-fold scores let expect: where it says no, the attempt stops before it spends anything.
    With `calibrate_after_s` rows up to that time teach and the unbiased rows after it calibrate. No row up to
    `fresh_since_s` (a withdrawal) calibrates or is looked at out of fold, and it teaches only where that helps.
    `own` examples teach beside the others, and are neither looked at nor calibrated on.
    `n_votes` says how many answers of the reference make the one in each example (`consistency.with_votes`). With
    `tuning` an encoder is fine-tuned where the frozen one leaves room, and kept where that lets expect more.
    """

    embeddings: npt.NDArray[np.float32] | None
    progress: Progress | None
    is_worth: Callable[[float], bool]
    calibrate_after_s: float
    fresh_since_s: float
    n_votes: int
    tuning: Tuning | None
    own: Sequence[Example]


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
    encoder: Encoder | None,
    folder: Path,
    n_calibration: int,
    **options: Unpack[Options],
) -> Student:
    """The student of `rows`, to be certified on `n_calibration` others in attempt `number`; UserError without variety.

    With `fresh_since_s` there are two, fitted on all rows and on the fresh ones alone, and the one that lets expect
    more coverage is kept, both judged on the same fresh rows. That is allowed, as both and the choice between them are
    functions of fitting rows and of the number of calibration rows only: conditional on these, the calibration
    rows are as independent of the student kept as of any other, and the certificate's theorem holds for it. With
    `tuning` the one kept competes with a fine-tuned student of its rows, of which the same is true.
    """
    bench = _Bench(
        task=task,
        rows=rows,
        claim=claim,
        number=number,
        encoder=encoder,
        folder=folder,
        n_calibration=n_calibration,
        options=options,
    )
    picks = [list(range(len(rows)))]
    students = [bench.student(picks[0])]
    picked = [i for i, is_fresh in enumerate(bench.fresh) if is_fresh]
    if len(picked) < len(rows) and len({rows[i].answer for i in picked} - {None}) > 1:
        with contextlib.suppress(UserError):  # too few different texts yet
            students.append(bench.student(picked))
            picks.append(picked)
    best, picked = max(zip(students, picks, strict=True), key=lambda found: found[0].expected_coverage)
    return bench.tuned(best, picked) or best


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What all candidates of one fit are made and judged with."""

    task: Task
    rows: Sequence[Example]
    claim: Claim
    number: int
    encoder: Encoder | None
    folder: Path
    n_calibration: int
    options: Options

    @property
    def fresh(self) -> list[bool]:
        """Which rows are later than the withdrawal, where there was one."""
        since_s = self.options.get("fresh_since_s")
        return [since_s is None or row.time_s > since_s for row in self.rows]

    def student(self, picked: list[int]) -> Student:
        """The frozen student of these rows."""
        embeddings = self.options.get("embeddings")
        fitted = teach(
            [self.rows[i] for i in picked],
            self.task,
            self.encoder,
            self.folder,
            embeddings=None if embeddings is None else embeddings[picked],
            progress=self.options.get("progress"),
        )
        return self._judged(fitted, picked)

    def tuned(self, best: Student, picked: list[int]) -> Student | None:
        """The fine-tuned student of the rows that taught `best`; None where it is not to be tried, or not kept."""
        tuning = self.options.get("tuning")
        shape = self.task.shape
        if tuning is None or self.encoder is None or (shape.kind in ("extraction", "retrieved") and not shape.question):
            return None
        if not tuning.is_forced and best.expected_coverage > 1.0 - MIN_ROOM:
            return None
        rows, progress = [self.rows[i] for i in picked], self.options.get("progress")
        # Only who fine-tunes has torch.
        from pilotfish.students.reading import distil_reading  # noqa: PLC0415
        from pilotfish.students.tuned import distil_tuned  # noqa: PLC0415

        def is_worth(scored: OutOfFold) -> bool:
            rise = self._seen(scored, picked)[1] - best.expected_coverage
            return tuning.is_forced or rise >= MIN_RISE

        if shape.question:
            fitted = distil_reading(rows, self.task, self.folder, tuning, is_worth=is_worth, progress=progress)
        else:
            fitted = distil_tuned(
                rows, self.task, self.encoder, self.folder, tuning, is_worth=is_worth, progress=progress
            )
        return None if fitted is None else self._judged(fitted, picked)

    def _judged(self, fitted: Fitted, picked: list[int]) -> Student:
        seen, expected, looked_at = self._seen(fitted.out_of_fold, picked)
        return Student(fitted=fitted, look=seen, expected_coverage=expected, looked_at=looked_at)

    def _seen(self, fold: OutOfFold, picked: list[int]) -> tuple[Evidence, float, tuple[int, ...]]:
        """The look at these out-of-fold scores, the coverage that it lets expect, and the rows looked at."""
        # `distil` keeps the latest rows where there are very many.
        scored = picked[len(picked) - len(fold.certainty) :]
        # Deferred rows are the hard ones: their out-of-fold scores would let expect too little coverage, and start the
        # test too high. Rows from before a withdrawal say nothing about the traffic of today.
        fresh = self.fresh
        is_looked_at = [fresh[i] and self.rows[i].is_unbiased for i in scored]
        seen = look(fold, np.array(is_looked_at, bool))
        expected = expected_coverage(seen, self.n_calibration, self.claim, self.number)
        return seen, expected, tuple(itertools.compress(scored, is_looked_at))


def look(fold: OutOfFold, is_looked_at: npt.NDArray[np.bool_] | slice = slice(None)) -> Evidence:
    """The out-of-fold evidence of both tiers on the marked rows; on all without a mark."""
    return Evidence(
        fold_losses=fold.disagreement[is_looked_at].tolist(),
        fold_certainty=fold.certainty[is_looked_at].tolist(),
        fold_scope=fold.scope[is_looked_at].tolist(),
        first=look(fold.first, is_looked_at) if fold.first else None,
        fields=() if fold.by_field is None else tuple(look(one, is_looked_at) for one in _fields(fold, fold.by_field)),
    )


def _fields(fold: OutOfFold, by_field: npt.NDArray[np.float64]) -> list[OutOfFold]:
    """The scores as those of each field alone, which no first tier answers."""
    return [replace(fold, disagreement=losses, by_field=None, first=None) for losses in by_field.T]
