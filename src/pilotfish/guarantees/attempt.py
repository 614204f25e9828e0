"""One attempt at a certificate: fit on some rows, calibrate on later ones with the very artefact that was written.

The number of the attempt decides its share of delta (`stats/spending.py`). It is cheap to refuse, so
what cannot be certified whatever the student does is refused before anything is fitted (`fitting.py`), and spends
nothing. When to attempt, and what to do with the outcome, is decided by the callers.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from pilotfish.core.certificate import FIELD_SCORERS, SCORERS, Certificate, Claim, Refusal, Shortage, text_scorers
from pilotfish.core.errors import UserError
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.guarantees.certify import Evidence, Terms, certify, promise, surest
from pilotfish.guarantees.consistency import asked_again, why_impossible
from pilotfish.guarantees.fitting import Options, Student, fit
from pilotfish.guarantees.split import Split, data_sha256, split, unbiased_rows_for
from pilotfish.guarantees.tiers import MIN_COVERAGE
from pilotfish.routing.policy import Policy, policy_of
from pilotfish.scoring.answers import disagreement, disagreements
from pilotfish.specialists.load import load
from pilotfish.specialists.specialist import Predictions, Specialist
from pilotfish.stats import binomial, spending, weighted
from pilotfish.students.distil import Fitted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pilotfish.specialists.encoder import Encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of it: the verdict, and the specialist with the coverage it let expect, where one was fitted.

    `taught_until_s` is the time of the latest row that taught it, where it was tested.

    Only attempts whose verdict has `delta_spent` > 0 looked at calibration answers and count in `number`.
    """

    verdict: Certificate | Refusal
    fitted: Fitted | None = None
    expected_coverage: float = 0.0
    taught_until_s: float = 0.0

    @property
    def policy(self) -> Policy:
        """The policy the certificate holds for. TypeError for a refusal, which allows none."""
        if not isinstance(self.verdict, Certificate):
            raise TypeError("A refusal has no policy.")
        return policy_of(self.verdict)

    @property
    def naive_certainty(self) -> float:
        """The threshold that the same rows would give without a proof; inf where there is none."""
        naive = self.verdict.details["naive"] if isinstance(self.verdict, Certificate) else None
        return naive["min_certainty"] if naive else math.inf


def attempt(
    task: Task,
    examples: Sequence[Example],
    claim: Claim,
    *,
    number: int,
    encoder: Encoder | None,
    folder: Path,
    **options: Unpack[Options],
) -> Attempt:
    """Distils `task` into `folder` and certifies the specialist as it was reloaded from there.

    `number` counts from 1 over all attempts ever made for the task that have spent. Too few different texts to
    learn from are a refusal, as is a reference too inconsistent for the claim; neither spends anything. Raises
    `SpecialistError` where the folder cannot be read back.
    """
    since_s = options.get("fresh_since_s")
    parts = split(examples, after_s=options.get("calibrate_after_s"), fresh_since_s=since_s)
    current = [row for row in examples if since_s is None or row.time_s > since_s]
    refusal = _refuse_early(task, examples, claim, number=number, parts=parts, current=current)
    if refusal is not None:
        return Attempt(verdict=refusal)
    embeddings, n_votes, own = options.get("embeddings"), options.get("n_votes", 1), options.get("own", ())
    teaching = options | Options(embeddings=None if embeddings is None or own else embeddings[parts.fit])
    taught = [*own, *(examples[i] for i in parts.fit)]
    try:
        student = fit(
            task,
            taught,
            claim,
            number=number,
            encoder=encoder,
            folder=folder,
            n_calibration=len(parts.calibration),
            **teaching,
        )
    except UserError as error:
        return Attempt(verdict=_refusal(task, claim, number, "variety", error.message))
    fitted, expected, n = student.fitted, student.expected_coverage, len(parts.calibration)
    why = _why_inconsistent(student, taught, claim, n, number, n_votes)
    if why is not None:
        refusal = _refusal(task, claim, number, "consistency", why)
    elif not options.get("is_worth", _always)(expected):
        refusal = _wait(task, claim, number, expected)
    if refusal is not None:
        return Attempt(verdict=refusal, fitted=fitted, expected_coverage=expected)
    specialist = load(fitted.folder, encoder)
    rows = [examples[i] for i in parts.calibration]
    evidence = _evidence(specialist, student.look, rows, None if embeddings is None else embeddings[parts.calibration])
    terms = Terms(
        task_id=task.id,
        task_name=task.name,
        attempt=number,
        created_at=_now(),
        split_rule=parts.rule,
        data_sha256=data_sha256(rows, n_votes),
        artefact_sha256=specialist.sha256,
        request_ids=tuple(row.request_id for row in rows),
        asked_again=asked_again(current),
        n_votes=n_votes,
        scorers=_scorers(task, claim),
        fields=task.shape.names,
        n_answers=None if "calibrate_after_s" in options else sum(row.is_unbiased for row in current),
    )
    verdict = certify(evidence, claim, terms)
    return Attempt(verdict=verdict, fitted=fitted, expected_coverage=expected, taught_until_s=taught[-1].time_s)


def expect(
    task: Task,
    examples: Sequence[Example],
    claim: Claim,
    *,
    number: int,
    encoder: Encoder | None,
    folder: Path,
    n_calibration: int,
    **options: Unpack[Options],
) -> float:
    """The coverage to expect of a specialist fitted on all `examples` and certified on `n_calibration` later rows.

    Looks at out-of-fold scores alone: it costs CPU and no delta. 0 where there is too little to learn from.
    """
    if own := options.get("own", ()):
        examples, options = [*own, *examples], options | Options(embeddings=None)
    try:
        student = fit(
            task,
            examples,
            claim,
            number=number,
            encoder=encoder,
            folder=folder,
            n_calibration=n_calibration,
            **options,
        )
    except UserError:
        return 0.0
    return student.expected_coverage


def _why_inconsistent(
    student: Student, taught: Sequence[Example], claim: Claim, n_calibration: int, number: int, n_votes: int
) -> str | None:
    """Why the reference is too inconsistent for the claim, by fitting rows alone, or None.

    A task may be inconsistent only on requests that would be deferred, so those that would be served are looked at.
    """
    looked_at = [taught[i] for i in student.looked_at]
    if len(student.look.counted(claim)) > 1:
        return None  # how often whole answers differ from themselves says little of single fields
    served = surest(student.look, n_calibration, claim, number)
    return why_impossible(
        asked_again(looked_at),
        None if served is None else asked_again(list(itertools.compress(looked_at, served))),
        max_risk=claim.max_risk,
        served=1.0 if claim.is_of_served else MIN_COVERAGE,
        n_votes=n_votes,
    )


def _scorers(task: Task, claim: Claim) -> dict[int, str]:
    if task.shape.is_retrieved and task.shape.retrieval is not None:
        return text_scorers(task.shape.retrieval.min_overlap)
    return FIELD_SCORERS if claim.per == "field" else SCORERS


def _evidence(
    specialist: Specialist, look: Evidence, rows: Sequence[Example], embeddings: NDArray[np.float32] | None
) -> Evidence:
    """The look, with what both tiers say on the calibration rows."""
    texts = [row.text for row in rows]
    full = _with_rows(look, specialist.predict(texts, embeddings=embeddings), rows)
    if look.first is None:
        return full
    return dataclasses.replace(full, first=_with_rows(look.first, specialist.predict_first(texts), rows))


def _with_rows(look: Evidence, said: Predictions, rows: Sequence[Example]) -> Evidence:
    """The same with what the specialist said on the calibration rows."""
    whole = dataclasses.replace(
        look,
        losses=[disagreement(answer, row.answer) for answer, row in zip(said.answers, rows, strict=True)],
        certainty=said.certainty.tolist(),
        scope=said.scope.tolist(),
        weights=weighted.weights([row.probability for row in rows]),
    )
    if not look.fields:
        return whole
    by_field = zip(
        *(disagreements(answer, row.answer) for answer, row in zip(said.answers, rows, strict=True)), strict=True
    )
    fields = [
        dataclasses.replace(whole, fold_losses=one.fold_losses, losses=losses, first=None, fields=())
        for one, losses in zip(look.fields, by_field, strict=True)
    ]
    return dataclasses.replace(whole, fields=tuple(fields))


def _always(expected: float) -> bool:
    return True


def smallest_testable(claim: Claim, number: int) -> int | None:
    """The smallest number of unbiased rows at which attempt `number` could succeed, were there no disagreement.

    None where it takes more calibration rows than are ever used (3,000): such a claim cannot be tested.
    """
    return unbiased_rows_for(binomial.smallest_n(claim.max_risk, spending.share(claim.delta, number)))


def _refuse_early(
    task: Task, examples: Sequence[Example], claim: Claim, *, number: int, parts: Split, current: Sequence[Example]
) -> Refusal | None:
    """The refusal that needs no specialist, or None; `current` are the examples that may calibrate."""
    n_unbiased = sum(row.is_unbiased for row in current)
    if not task.shape.is_closed:
        why = f"the answers form no closed set ({task.shape.why_open})"
        return _refusal(task, claim, number, "closed answers", why)
    needed = binomial.smallest_n(claim.max_risk, spending.share(claim.delta, number))
    if len(parts.calibration) < needed:
        least = smallest_testable(claim, number)
        votes = "" if all(row.is_complete for row in current) else " given as often as the majority needs"
        why = f"a test takes {needed:,} rows even without a disagreement, and {n_unbiased:,} answers{votes} "
        why += f"leave {len(parts.calibration):,}"
        why += f"; {least:,} answers{votes} would do" if least else "; no number of answers leaves so many"
        refusal = _refusal(task, claim, number, "examples", why)
        short = None if least is None else max(1, least - n_unbiased)
        return dataclasses.replace(refusal, n=n_unbiased, examples_short=short)
    if len({examples[i].answer for i in parts.fit} - {None}) < 2:
        return _refusal(task, claim, number, "variety", "the reference has only ever given one answer")
    return None


def _refusal(task: Task, claim: Claim, number: int, short_of: Shortage, why: str) -> Refusal:
    """A refusal that has spent nothing."""
    return Refusal(
        task_id=task.id,
        task_name=task.name,
        claim=claim,
        short_of=short_of,
        message=f"Cannot promise that {promise(claim)}: {why.rstrip('.')}.",
        attempt=number,
        created_at=_now(),
    )


def _wait(task: Task, claim: Claim, number: int, expected: float) -> Refusal:
    """The refusal of an attempt that was not worth its delta, since waiting pays or too little would be served."""
    share = f"about {expected * 100:.2g} % of the requests could be served today"
    if expected >= MIN_COVERAGE:
        refusal = _refusal(task, claim, number, "examples", "")
        why = "more answers are still raising that, so it observes on"
        return dataclasses.replace(refusal, message=f"Waiting on purpose: {share}, and {why}.")
    return _refusal(task, claim, number, "agreement", f"{share}, which is too little to try")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
