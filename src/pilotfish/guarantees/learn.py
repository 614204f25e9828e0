"""One round of learning over a home: find tasks in the log, attempt those that are due, adopt what is certified.

The gateway runs it in a subprocess, `pilotfish distil` by hand; both go through here. The loop closes through the
log and the registry only. Nothing is adopted without a certificate, and a task that a person demoted is left alone.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.example import Example
from pilotfish.core.log_row import RequestRow
from pilotfish.core.task import Task
from pilotfish.guarantees.advance import Workshop, advance, n_drawn
from pilotfish.guarantees.pace import Pace
from pilotfish.scoring import answers
from pilotfish.specialists.encoder import Encoder
from pilotfish.store.base import Event, TaskRecord
from pilotfish.store.home import Home
from pilotfish.students.distil import Progress
from pilotfish.tasks.find import find_tasks, newest
from pilotfish.tasks.recognise import Recogniser


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one attempt led to."""

    task: TaskRecord
    verdict: Certificate | Refusal
    is_adopted: bool
    n_known: int
    seconds: float


def learn(
    home: Home,
    claim: Claim,
    pace: Pace,
    load_encoder: Callable[[], Encoder],
    *,
    only: str = "",
    progress: Progress | None = None,
) -> list[Outcome]:
    """Do what is due for every closed task; with `only` (a task id) make an attempt for that one, due or not.

    `pace` is what a task starts with that has none yet.
    """
    tasks = find_tasks(home)
    examples = known_examples(home)
    outcomes = []
    for task in tasks:
        known = examples.get(task.id, [])
        record = home.registry.task(task.id)
        assert record is not None
        own = Pace.from_json(record.pace) if record.pace else replace(pace)
        own.n_attempts = home.registry.n_attempts(task.id)
        if only:
            if task.id != only:
                continue
            own.is_patient = False
        elif (
            record.is_held
            or not task.shape.is_closed
            or not own.is_due(len(known), n_drawn(own, known), claim.max_risk)
        ):
            continue
        workshop = Workshop(claim=claim, encoder=load_encoder(), folder=home.specialists, progress=progress)
        outcome = _step(home, workshop, task, record, known, own)
        if outcome is not None:
            outcomes.append(outcome)
    return outcomes


def known_examples(home: Home) -> dict[str, list[Example]]:
    """What is known of each task by its id, in time order: rows whose reference answer stands in the log."""
    recogniser = Recogniser(home.registry.templates())
    texts: dict[str, list[tuple[str, str, RequestRow]]] = defaultdict(list)
    for row in newest(home.log):
        if row.reference_answer is None or row.input is None:
            continue
        found = recogniser.split(row.instructions_id, row.input)
        if found.text is not None:
            texts[found.task_id].append((found.text, row.reference_answer, row))
    examples = {}
    for found_id, known in texts.items():
        shape = answers.settle(answer for _, answer, _ in known)
        examples[found_id] = [
            Example(
                text=text,
                answer=answers.parse(shape, answer) if shape.is_closed else None,
                time_s=row.time_s,
                sampling=row.sampling,
                probability=row.probability,
                request_id=row.request_id,
            )
            for text, answer, row in known
        ]
    return examples


def _step(
    home: Home, workshop: Workshop, task: Task, record: TaskRecord, known: list[Example], pace: Pace
) -> Outcome | None:
    started = time.perf_counter()
    in_force = home.registry.certificate(record.certificate_id) if record.mode == "serve" else None
    if in_force is not None and not in_force.claim.covers(workshop.claim):
        in_force = None  # a stricter promise is asked for now, under which it does not serve
    tried = advance(workshop, task, known, pace, in_force)
    home.registry.update_task(record.task_id, pace=pace.to_json())
    if tried is None:
        return None
    verdict = tried.verdict
    # Nothing that a certificate in force already does better is adopted.
    adopted = False
    if isinstance(verdict, Certificate) and (in_force is None or verdict.coverage > in_force.coverage):
        adopted = home.registry.adopt(verdict)
        if adopted:
            home.registry.update_task(record.task_id, shape=task.shape)
    else:
        home.registry.add_verdict(verdict)
    seconds = time.perf_counter() - started
    home.registry.add_event(
        Event(
            time_s=time.time(),
            task_id=record.task_id,
            kind=_kind(verdict),
            message=_message(verdict),
            details={"n_known": len(known), "seconds": round(seconds, 2), "adopted": adopted},
        )
    )
    return Outcome(task=record, verdict=verdict, is_adopted=adopted, n_known=len(known), seconds=seconds)


def _kind(verdict: Certificate | Refusal) -> str:
    """What the event is called; a refusal that spent nothing only waits."""
    if isinstance(verdict, Certificate):
        return "certified"
    return "refused" if verdict.delta_spent else "waiting"


def _message(verdict: Certificate | Refusal) -> str:
    if isinstance(verdict, Refusal):
        return verdict.message
    return (
        f"Risk per {verdict.claim.per} at most {verdict.claim.max_risk:g} at coverage {verdict.coverage:.3f}, "
        f"attempt {verdict.attempt}."
    )
