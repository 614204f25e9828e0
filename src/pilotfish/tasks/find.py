"""Find the tasks of a home: survey its log, write what recurs to the registry.

Looking is free: it changes no mode and spends no delta, so `pilotfish tasks` may be called as often as one
likes. A task that is known keeps its name and whatever was decided about it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from pilotfish.core.log_row import RequestRow
from pilotfish.core.task import Task, Template
from pilotfish.store.base import Event, Log, LogFilter, Registry, TaskRecord
from pilotfish.store.home import Home
from pilotfish.tasks.recognise import task_id
from pilotfish.tasks.shapes import Given
from pilotfish.tasks.survey import Exchange, survey
from pilotfish.tasks.templates import learn_templates

MAX_ROWS = 100_000
"""Newest log rows that are read: bounds the memory, and old traffic teaches little about today's."""


def find_tasks(home: Home) -> list[Task]:
    """The tasks that recur in the log now; templates and new tasks are written to the registry."""
    rows = newest(home.log)
    templates = _learn_templates(home.registry, rows)
    texts: dict[str, str] = {}
    for row in rows:
        if row.instructions_id not in texts:
            found = home.log.instructions(row.instructions_id)
            texts[row.instructions_id] = found.text if found else ""
    tasks = survey(
        (
            Exchange(
                instructions_id=row.instructions_id,
                instructions=texts[row.instructions_id],
                user_message=row.input,
                answer=row.reference_answer,
                key_id=row.key_id,
                time_s=row.time_s,
            )
            for row in rows
        ),
        templates,
        before={record.task_id: record.shape for record in home.registry.tasks()},
        is_shared=home.learning.share_answers,
        min_overlap=home.learning.answer_overlap,
        own=lambda found: own_answers(home, found),
    )
    return [_record(home.registry, task) for task in tasks]


def own_answers(home: Home, task_id: str) -> list[Given]:
    """The answers that the user gave for a task, with what each answers."""
    return [
        Given(text=text, answer=answer, time_s=source.added_s)
        for source in home.answers.of(task_id)
        for text, answer in source.pairs
    ]


def newest(log: Log) -> list[RequestRow]:
    """The newest successful requests with kept text, in time order."""
    rows = list(log.rows(LogFilter(newest_first=True, limit=MAX_ROWS)))
    rows.reverse()
    return [row for row in rows if row.input is not None and row.status == 200]


def _learn_templates(registry: Registry, rows: Iterable[RequestRow]) -> list[Template]:
    known = {task_id(template): template for template in registry.templates()}
    before = len(known)
    for template in learn_templates((row.instructions_id, row.input or "") for row in rows):
        known.setdefault(task_id(template), template)
    templates = list(known.values())
    if len(templates) > before:
        registry.put_templates(templates)
    return templates


def _record(registry: Registry, task: Task) -> Task:
    """Write a new task down; one that is known keeps its name and what was decided about it."""
    known = registry.task(task.id)
    if known is None:
        registry.put_task(
            TaskRecord(
                task_id=task.id,
                name=task.name if registry.task(task.name) is None else f"{task.name}-{task.id[:4]}",
                instructions_id=task.instructions_id,
                instructions=task.instructions,
                shape=task.shape,
                mode="observe",
                updated_s=time.time(),
            )
        )
        registry.add_event(
            Event(time_s=time.time(), task_id=task.id, kind="recognised", message=_description(task), details={})
        )
        return task
    if not known.certificate_id and known.shape != task.shape:
        # A task that was certified keeps the shape that its specialist answers in.
        registry.update_task(task.id, shape=task.shape)
    return replace(task, name=known.name, mode=known.mode)


def _description(task: Task) -> str:
    """What was recognised, in a sentence."""
    if not task.shape.is_closed:
        return f"{task.n_requests:,} requests share instructions; only observed: {task.shape.why_open}."
    if task.shape.is_retrieved:
        n = len(task.shape.fields[0].values)
        return f"{task.n_requests:,} requests share instructions; {n:,} answers are given again and again."
    fields = ", ".join(
        f"{field.name or task.shape.kind} ({field.source if field.is_extracted else f'{len(field.values)} values'})"
        for field in task.shape.fields
    )
    kind = "is extracted from the input" if task.shape.kind == "extraction" else "is one of a closed set"
    if task.shape.question:
        kind = f"is a span of a passage that the {task.shape.question} line of the input asks for"
    return f"{task.n_requests:,} requests share instructions; each answer {kind}: {fields}."
