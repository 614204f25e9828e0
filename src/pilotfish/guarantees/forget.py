"""Forgetting past answers: what a task's retrieved answers may give no more, from now on and in all later learning.

A running gateway notices at its next look. What the reference gave up to now counts for nothing if it is one of these
answers; once it gives such an answer again, that may be learnt again. The log and the folders on disk keep their texts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from pilotfish.core.errors import TaskError
from pilotfish.guarantees.pace import Pace
from pilotfish.scoring.answers import parse
from pilotfish.scoring.retrieved import read_text
from pilotfish.store.base import Event, TaskChanges, TaskRecord
from pilotfish.store.home import Home
from pilotfish.tasks.find import newest


def forget(home: Home, record: TaskRecord, matching: str, pace: Pace, *, source: str = "") -> Sequence[str]:
    """Forget the past answers of a task whose text holds `matching`, case and spaces aside (all of them: empty).

    With a `source` only those that come from it alone, which neither another source has nor the reference gave more
    than once; the source is taken back.

    Their texts. Where none is left, the task goes back to the reference, its certificate ends, and learning begins
    again, at `pace` where it has not begun. Raises `TaskError` where the task has no past answers.
    """
    if not record.shape.is_retrieved:
        raise TaskError(
            f"{record.name} gives no past answers again; its answers are of kind {record.shape.kind!r}.",
            hint="`pilotfish demote` sends a task back to the large model.",
        )
    now = time.time()
    sought = _plain(matching)
    alone = _only_from(home, record, source) if source else None
    going = [
        (value, text)
        for value, text in record.shape.style
        if sought in _plain(text) and (alone is None or value in alone)
    ]
    if not going:
        return []
    gone = {value for value, _ in going} | _alike(home, record, {value for value, _ in going})
    shape = record.shape.forgetting((value, now) for value in gone)
    changes = TaskChanges(shape=shape)
    if not shape.fields[0].values:
        known = Pace.from_json(record.pace) if record.pace else replace(pace)
        known.begin_again(_n_known(home, record.task_id), now)
        changes = TaskChanges(shape=shape, mode="observe", certificate_id="", pace=known.to_json())
    home.registry.update_task(record.task_id, **changes)
    message = f"{len(going):,} past answers are given no more; {len(shape.fields[0].values):,} are left."
    details = {"values": [value for value, _ in going]}
    home.registry.add_event(
        Event(time_s=now, task_id=record.task_id, kind="forgotten", message=message, details=details)
    )
    return [text for _, text in going]


def _only_from(home: Home, record: TaskRecord, source: str) -> set[str]:
    """The values that only this source has, which is removed. Raises `TaskError` where there is none of that name."""
    sources = {one.name: one for one in home.answers.of(record.task_id)}
    if source not in sources:
        known = ", ".join(map(repr, sources)) or "none"
        raise TaskError(f"{record.name} has no source of answers {source!r}.", hint=f"Its sources: {known}.")
    home.answers.remove(record.task_id, source)
    taken = {value for _, text in sources.pop(source).pairs for value in parse(record.shape, text) or ()}
    others = {value for one in sources.values() for _, text in one.pairs for value in parse(record.shape, text) or ()}
    said = Counter(
        value
        for row in newest(home.log)
        if row.instructions_id == record.instructions_id and row.reference_answer is not None
        for value in parse(record.shape, row.reference_answer) or ()
    )
    return {value for value in taken - others if said[value] < 2}


def _alike(home: Home, record: TaskRecord, values: set[str]) -> set[str]:
    """The texts in the log that go by these values: each could be the first of its like once these are gone."""
    if record.shape.retrieval is None or record.shape.retrieval.min_overlap >= 1.0:
        return set()
    said = (row.reference_answer for row in newest(home.log) if row.instructions_id == record.instructions_id)
    found = {text for text in said if text is not None and set(parse(record.shape, text) or ()) & values}
    return {value for text in found if (value := read_text(text)) is not None}


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _n_known(home: Home, task_id: str) -> int:
    return sum(count.n_reference_known for count in home.log.task_counts() if count.task_id == task_id)
