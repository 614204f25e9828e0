"""Recorded traffic as tasks, recognised in honest time order.

Instructions are recognised at once. Templates must be learnt from the messages themselves: that is tried when a
group of messages has reached 100, 200, 400, ... rows, on these rows only, and a task found so may not be
served before that moment. Rows without plain text stay with the reference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pilotfish.core.task import Task, Template
from pilotfish.replay.timeline import Row
from pilotfish.store.traffic import Exchange
from pilotfish.tasks.fingerprint import instructions_row
from pilotfish.tasks.recognise import Recogniser, task_id
from pilotfish.tasks.survey import Exchange as Surveyed
from pilotfish.tasks.survey import survey
from pilotfish.tasks.templates import learn

FIRST_LOOK = 100
"""Messages of one group before templates are looked for: five times their least support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTraffic:
    """One task's rows in time order; it is known from position `known_from` on."""

    task: Task
    rows: list[Row]
    known_from: int


@dataclass(slots=True)
class _Group:
    """The messages that share instructions so far, and the templates found in them."""

    messages: list[str] = field(default_factory=list)
    templates: dict[str, Template] = field(default_factory=dict)
    known_from: dict[str, int] = field(default_factory=dict)
    next_look: int = FIRST_LOOK

    def look(self, instructions_id: str, position: int) -> None:
        """Learn templates from the messages so far; those known already keep their time."""
        self.next_look *= 2
        for template in learn(instructions_id, self.messages):
            found = task_id(template)
            self.templates[found] = template
            self.known_from.setdefault(found, position + 1)


def by_task(exchanges: Sequence[Exchange]) -> tuple[list[TaskTraffic], list[Exchange]]:
    """The recurring tasks, most frequent first, and the exchanges that belong to none of them."""
    groups: dict[str, _Group] = defaultdict(_Group)
    instructions: dict[str, str] = {}
    bare = Recogniser([])
    messages: list[tuple[str, str | None]] = []
    for position, exchange in enumerate(exchanges, 1):
        found = bare.recognise(exchange.request)
        key = found.instructions_id
        messages.append((key, found.text))
        if key not in instructions:
            instructions[key] = instructions_row(exchange.request, key, 0.0).text
        if found.text is not None:
            group = groups[key]
            group.messages.append(found.text)
            if len(group.messages) >= group.next_look:
                group.look(key, position)
    templates = [template for group in groups.values() for template in group.templates.values()]
    tasks = survey(
        (
            Surveyed(instructions_id=key, instructions=instructions[key], user_message=text, answer=exchange.answer)
            for (key, text), exchange in zip(messages, exchanges, strict=True)
        ),
        templates,
    )
    rows, others = _rows(exchanges, messages, templates, {task.id for task in tasks})
    known_from = {key: place for group in groups.values() for key, place in group.known_from.items()}
    found_tasks = [
        TaskTraffic(task=task, rows=rows[task.id], known_from=known_from.get(task.id, 1))
        for task in tasks
        if rows[task.id]
    ]
    return found_tasks, others


def _rows(
    exchanges: Sequence[Exchange],
    messages: Sequence[tuple[str, str | None]],
    templates: Sequence[Template],
    kept: set[str],
) -> tuple[dict[str, list[Row]], list[Exchange]]:
    """The rows of each kept task, and the exchanges of none."""
    recogniser = Recogniser(templates)
    rows: dict[str, list[Row]] = defaultdict(list)
    others: list[Exchange] = []
    for position, (exchange, (key, message)) in enumerate(zip(exchanges, messages, strict=True), 1):
        found = None if message is None else recogniser.split(key, message)
        if found is None or found.text is None or found.task_id not in kept:
            others.append(exchange)
            continue
        rows[found.task_id].append(
            Row(
                position=position,
                text=found.text,
                answer=exchange.answer,
                time_s=exchange.time_s if exchange.time_s is not None else float(position),
                usage=exchange.usage,
            )
        )
    return rows, others
