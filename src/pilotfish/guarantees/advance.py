"""One step of a task's learning, the same live and in replay: look, spend, begin to prove, or wait.

Given what is known of a task now, it does what the task's `Pace` says is due. It changes the pace and returns
what came of it; who stores the pace, adopts the certificate and tosses the coins is the caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.guarantees.attempt import Attempt, Options, attempt, expect
from pilotfish.guarantees.pace import BETTER, Pace, proving_rows
from pilotfish.specialists.encoder import Encoder
from pilotfish.students.distil import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What learning works with: the promise, the encoder, the folder specialists are written to."""

    claim: Claim
    encoder: Encoder
    folder: Path
    progress: Progress | None = None


def n_drawn(pace: Pace, examples: Sequence[Example]) -> int:
    """The unbiased rows known since proving began; 0 while nothing is being proven."""
    if pace.proving_since_s is None:
        return 0
    return sum(row.is_unbiased and row.time_s > pace.proving_since_s for row in examples)


def advance(
    workshop: Workshop,
    task: Task,
    examples: Sequence[Example],
    pace: Pace,
    in_force: Certificate | None,
    embeddings: NDArray[np.float32] | None = None,
) -> Attempt | None:
    """Do what is due; the attempt where there was one, None where proving has begun instead.

    `in_force` is the certificate of the specialist that serves now. Changes `pace`.
    """
    if in_force is not None and pace.proving_since_s is None:
        _begin_to_prove(workshop, task, examples, pace, in_force, embeddings)
        return None
    options = Options(embeddings=embeddings, progress=workshop.progress)
    if pace.fresh_since_s is not None:
        options["fresh_since_s"] = pace.fresh_since_s
    if pace.proving_since_s is None:
        options["is_worth"] = pace.is_worth
    else:
        options["calibrate_after_s"] = pace.proving_since_s
    tried = attempt(
        task,
        examples,
        workshop.claim,
        number=pace.n_attempts + 1,
        encoder=workshop.encoder,
        folder=workshop.folder,
        **options,
    )
    pace.n_attempts += tried.verdict.delta_spent > 0
    pace.looked(len(examples))
    return tried


def _begin_to_prove(
    workshop: Workshop,
    task: Task,
    examples: Sequence[Example],
    pace: Pace,
    in_force: Certificate,
    embeddings: NDArray[np.float32] | None,
) -> None:
    """Fit on all that is known; where that is expected to serve more, later rows are drawn to prove it."""
    expected = expect(
        task,
        examples,
        workshop.claim,
        number=pace.n_attempts + 1,
        encoder=workshop.encoder,
        folder=workshop.folder,
        n_calibration=proving_rows(workshop.claim.max_risk),
        **Options(embeddings=embeddings, progress=workshop.progress),
    )
    n_known = len(examples)
    pace.looked(n_known)
    if expected > in_force.coverage + BETTER:
        # Rows after the latest known one: the specialist is certified on later traffic than it learnt from.
        pace.begin_to_prove(max(row.time_s for row in examples), in_force.coverage)
