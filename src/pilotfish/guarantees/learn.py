"""One round of learning over a home: find tasks in the log, attempt those that are due, adopt what is certified.

The gateway runs it in a subprocess, `pilotfish distil` by hand; both go through here. The loop closes through the
log and the registry only. Nothing is adopted without a certificate, and a task that a person demoted is left alone.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pilotfish.config.settings import ConsistencySettings
from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.errors import SpecialistError
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.guarantees.advance import Workshop, advance, n_drawn, replaces
from pilotfish.guarantees.known import known_examples, own_examples
from pilotfish.guarantees.new_answers import NewAnswers, Serving, answerable, new_since, untaught
from pilotfish.guarantees.pace import Pace
from pilotfish.specialists import load
from pilotfish.specialists.card import read_folder
from pilotfish.store.base import Event, TaskRecord
from pilotfish.store.home import Home
from pilotfish.students.distil import Fitted, Progress
from pilotfish.tasks.find import find_tasks

if TYPE_CHECKING:  # without an encoder, and without fine-tuning, nothing of what either needs is installed
    from pilotfish.specialists.encoder import Encoder
    from pilotfish.students.recipe import Tuning

NEVER = ConsistencySettings()
"""The large model is never asked the same again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one attempt led to. `learnt` is empty where nothing was fitted: else the hash of the specialist, certified
    or not, and its figures out of fold."""

    task: TaskRecord
    verdict: Certificate | Refusal
    is_adopted: bool
    n_known: int
    seconds: float
    learnt: Mapping[str, Any] = field(default_factory=dict)


class Options(TypedDict, total=False):
    """What learning can do without.

    With `only` (a task id) an attempt is made for that one, due or not, and so it is without for each that a person
    asked for (`by_hand.retrain`). `consistency` says whether promises are about
    majorities. With `tuning` an encoder may be fine-tuned.
    """

    only: str
    progress: Progress | None
    consistency: ConsistencySettings
    tuning: Tuning | None


def learn(
    home: Home,
    claim: Claim,
    pace: Pace,
    load_encoder: Callable[[], Encoder | None],
    **options: Unpack[Options],
) -> list[Outcome]:
    """Do what is due for every closed task. `pace` is what a task starts with that has none yet.

    Where `load_encoder` gives none, n-grams learn alone.
    """
    only, consistency = options.get("only", ""), options.get("consistency", NEVER)
    tasks = find_tasks(home)
    examples = known_examples(home, consistency.n_votes)
    spent = Counter(row.task_id for row in home.log.repeats() if row.is_sampled)
    outcomes = []
    asked = _take_asked(home, only, {task.id for task in tasks})
    for task in tasks:
        known = examples.get(task.id, [])
        record = home.registry.task(task.id)
        assert record is not None
        own = Pace.from_json(record.pace) if record.pace else replace(pace)
        own.n_attempts = home.registry.n_attempts(task.id)
        if task.id != only if only else (record.is_held or not task.shape.is_closed):
            continue
        own.is_patient = task.id not in asked
        new = new_since(record, known)
        if own.is_patient and not own.is_due(len(known), n_drawn(own, known), claim.max_risk, new.most):
            continue
        workshop = Workshop(
            claim=claim,
            encoder=load_encoder(),
            folder=home.specialists,
            progress=options.get("progress"),
            n_votes=consistency.n_votes,
            tuning=options.get("tuning"),
            own=own_examples(home, task.id, task.shape),
        )
        if consistency.n_votes > 1:
            n_provable = (consistency.calls - spent[task.id]) / (consistency.n_votes - 1)
            workshop = replace(workshop, n_provable=n_provable)
        outcome = _step(home, workshop, task, _Due(record=record, known=known, pace=own, new=new))
        if outcome is not None:
            outcomes.append(outcome)
    return outcomes


def _take_asked(home: Home, only: str, recurring: set[str]) -> set[str]:
    """The tasks to be attempted whether due or not: `only`, or those that a person asked for.

    What was asked for is taken off before anything is spent: a crash must not spend for it again.
    """
    asked = {only} if only else set()
    for record in home.registry.tasks():
        if record.asked_s is not None and not record.is_held and only in ("", record.task_id):
            asked.add(record.task_id)
            home.registry.update_task(record.task_id, asked_s=None)
            if record.task_id not in recurring:
                _tell(home, record, "waiting", "It no longer recurs in the log: there is nothing to learn from.", {})
    return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """What is known of a task that is due."""

    record: TaskRecord
    known: list[Example]
    pace: Pace
    new: NewAnswers


def _step(home: Home, workshop: Workshop, task: Task, due: _Due) -> Outcome | None:
    started = time.perf_counter()
    record, known, pace = due.record, due.known, due.pace
    serving = _serving(home, workshop, due)
    if serving is not None and pace.is_news(due.new.most):
        details = {"values": due.new.listed(), "n_known": due.new.n_known, "share": due.new.share}
        _tell(home, record, "new-answers", due.new.message(), details)
    tried = advance(workshop, task, known, pace, serving)
    pace.is_patient = True  # what was asked for once holds for this once
    home.registry.update_task(record.task_id, pace=pace.to_json())
    if tried is None:
        return None
    verdict = tried.verdict
    adopted = False
    # Nothing that a certificate in force already does better is adopted.
    if isinstance(verdict, Certificate) and replaces(verdict, serving, known):
        adopted = home.registry.adopt(verdict)
    else:
        home.registry.add_verdict(verdict)
    if isinstance(verdict, Certificate) and tried.fitted is not None:
        _write_beside(verdict, tried.fitted.folder)
    if adopted and tried.fitted is not None:
        shape = answerable(task.shape, tried.fitted.classes)
        # What was forgotten while it was being learnt is forgotten still.
        current = home.registry.task(record.task_id)
        if current is not None and current.shape.retrieval is not None:
            shape = shape.forgetting(current.shape.retrieval.forgotten)
        pace.adopted(tried.taught_until_s, untaught(shape, known, tried.taught_until_s).most)
        home.registry.update_task(record.task_id, shape=shape, pace=pace.to_json())
    seconds = time.perf_counter() - started
    details = {"n_known": len(known), "seconds": round(seconds, 2), "adopted": adopted}
    _tell(home, record, _kind(verdict), _message(verdict), details)
    learnt = _learnt(tried.fitted) if tried.fitted is not None else {}
    return Outcome(task=record, verdict=verdict, is_adopted=adopted, n_known=len(known), seconds=seconds, learnt=learnt)


def _learnt(fitted: Fitted) -> dict[str, Any]:
    card = read_folder(fitted.folder).card
    return {"specialist_sha256": fitted.sha256, "n_taught": card.n_examples, "scores": card.scores}


def _write_beside(certificate: Certificate, specialist: Path) -> None:
    """The certificate as certificate.json in the folder of its specialist, which it names and is no part of.

    A copy that travels with the folder; whether it is in force, only the registry says.
    """
    written = specialist / ".certificate.json"
    written.write_text(json.dumps(certificate.to_json(), indent=2, sort_keys=True) + "\n", "utf-8")
    written.replace(specialist / "certificate.json")


def _serving(home: Home, workshop: Workshop, due: _Due) -> Serving | None:
    """What serves; nothing does where a stricter promise, or another standard, is asked for than the one in force, or
    where its specialist cannot be loaded."""
    record = due.record
    certificate = home.registry.certificate(record.certificate_id) if record.mode == "serve" else None
    if certificate is None or not certificate.keeps(workshop.claim, workshop.n_votes):
        return None
    return Serving(certificate=certificate, new=due.new) if _is_loadable(workshop, certificate) else None


def _is_loadable(workshop: Workshop, certificate: Certificate) -> bool:
    """Whether a certified specialist can be loaded: not one that is missing, damaged, or learnt on another encoder."""
    try:
        load.of(read_folder(workshop.folder / certificate.artefact_sha256[:16]), workshop.encoder)
    except SpecialistError:
        return False
    return True


def _tell(home: Home, record: TaskRecord, kind: str, message: str, details: dict[str, Any]) -> None:
    event = Event(time_s=time.time(), task_id=record.task_id, kind=kind, message=message, details=details)
    home.registry.add_event(event)


def _kind(verdict: Certificate | Refusal) -> str:
    """What the event is called; a refusal that spent nothing only waits."""
    if isinstance(verdict, Certificate):
        return "certified"
    return "refused" if verdict.delta_spent else "waiting"


def _message(verdict: Certificate | Refusal) -> str:
    if isinstance(verdict, Refusal):
        return verdict.message
    return (
        f"Risk per {verdict.claim.per} at most {verdict.claim.max_risk:g} while {100 * verdict.coverage:.0f} % are "
        f"answered locally (attempt {verdict.attempt}, {verdict.n:,} calibration rows)."
    )
