"""One step of a task's learning, the same live and in replay: look, spend, begin to prove, or wait.

Given what is known of a task now, it does what the task's `Pace` says is due. It changes the pace and returns
what came of it; who stores the pace, adopts the certificate and tosses the coins is the caller's business.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.example import UNBIASED, Example
from pilotfish.core.task import Task
from pilotfish.guarantees.attempt import Attempt, attempt, expect
from pilotfish.guarantees.fitting import Options
from pilotfish.guarantees.new_answers import Serving
from pilotfish.guarantees.pace import BETTER, HURRY, Pace, proving_rows
from pilotfish.students.distil import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pilotfish.specialists.encoder import Encoder
    from pilotfish.students.recipe import Tuning


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What learning works with: the promise, the encoder, the folder specialists are written to.

    `n_votes` answers of the reference make the one that counts; where it is a majority, `n_provable` more requests may
    be asked often enough for one. Without an encoder n-grams learn alone; with `tuning` its last layers may learn too.
    `own` examples of the user's teach beside.
    """

    claim: Claim
    encoder: Encoder | None
    folder: Path
    progress: Progress | None = None
    n_votes: int = 1
    n_provable: float = math.inf
    tuning: Tuning | None = None
    own: Sequence[Example] = ()


def n_drawn(pace: Pace, examples: Sequence[Example]) -> int:
    """The unbiased rows known since proving began; 0 while nothing is being proven.

    Those with fewer answers than a majority takes count: a proof that such rows hold up must end some time.
    """
    if pace.proving_since_s is None:
        return 0
    return sum(row.sampling in UNBIASED and row.time_s > pace.proving_since_s for row in examples)


def advance(
    workshop: Workshop,
    task: Task,
    examples: Sequence[Example],
    pace: Pace,
    serving: Serving | None,
    embeddings: NDArray[np.float32] | None = None,
) -> Attempt | None:
    """Do what is due; the attempt where there was one, None where proving has begun instead.

    `serving` is what serves the task now. Changes `pace`.
    """
    options = Options(embeddings=embeddings, progress=workshop.progress, n_votes=workshop.n_votes)
    options["tuning"], options["own"] = workshop.tuning, workshop.own
    if pace.fresh_since_s is not None:
        options["fresh_since_s"] = pace.fresh_since_s
    is_proven = pace.proving_since_s is not None and n_drawn(pace, examples) >= proving_rows(workshop.claim.max_risk)
    if serving is not None and (pace.proving_since_s is None or (pace.is_news(serving.new.most) and not is_proven)):
        # A proof under way of a specialist that does not know the new answers is given up: it has spent nothing.
        _begin_to_prove(workshop, task, examples, pace, serving, options)
        return None
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
    pace.looked(len(examples), serving.new.most if serving is not None else 0)
    return tried


def replaces(verdict: Certificate | Refusal, serving: Serving | None, examples: Sequence[Example]) -> bool:
    """Whether what came of an attempt is to serve instead of what serves now, since it answers more.

    The coverage in force was measured before there were new answers, and none of these is answered as it should be:
    of the traffic that the new certificate was calibrated on, the old one serves so much less.
    """
    if serving is None or isinstance(verdict, Refusal):
        return isinstance(verdict, Certificate)
    names = set(verdict.details["request_ids"])
    new = serving.new.share_of([row for row in examples if row.request_id in names])
    return verdict.coverage > serving.certificate.coverage * (1.0 - new)


def _begin_to_prove(
    workshop: Workshop,
    task: Task,
    examples: Sequence[Example],
    pace: Pace,
    serving: Serving,
    options: Options,
) -> None:
    """Fit on all that is known; where that is expected to serve more, later rows are drawn to prove it.

    Where new answers are the reason, what serves covers less by their share among the rows it has not learnt from,
    and the coin falls more often, which proves sooner by as many calls.
    """
    expected = expect(
        task,
        examples,
        workshop.claim,
        number=pace.n_attempts + 1,
        encoder=workshop.encoder,
        folder=workshop.folder,
        n_calibration=proving_rows(workshop.claim.max_risk),
        **options,
    )
    new, coverage = serving.new, serving.certificate.coverage
    is_news = pace.is_news(new.most)
    if is_news:
        coverage *= 1.0 - new.share
    pace.looked(len(examples), new.most)
    if workshop.n_provable < proving_rows(workshop.claim.max_risk):
        return  # what is drawn could not be asked often enough, and would be paid for in vain
    if expected > coverage + (0.0 if is_news else BETTER):
        # Rows after the latest known one: the specialist is certified on later traffic than it learnt from.
        pace.begin_to_prove(max(row.time_s for row in examples), coverage / HURRY if is_news else coverage)
        if is_news:
            pace.new_due_at = sys.maxsize  # what is proven now knows them
