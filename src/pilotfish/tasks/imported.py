"""Recorded exchanges, written into the log of a home, so that a task can be learnt from them like from live traffic.

They are log rows like any other (`pilotfish log list` shows them, `certify --verify` reads them, pruning deletes them),
with the reason `imported`, and in no sum of money or time. That they are a fair sample is what the user states: then
they may certify, the latest of them, which teach nothing; else they only teach. A file that is read again adds nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from pilotfish.core.errors import StoreError, TaskError
from pilotfish.core.ids import fingerprint
from pilotfish.core.log_row import RequestRow
from pilotfish.store.base import LogFilter, TaskRecord
from pilotfish.store.build import open_log, open_writer
from pilotfish.store.home import Home
from pilotfish.store.traffic_formats import Exchange
from pilotfish.tasks.find import find_tasks
from pilotfish.tasks.fingerprint import instructions_row, last_user_index
from pilotfish.tasks.recognise import Recogniser
from pilotfish.tasks.survey import MIN_REQUESTS

APART_S = 1e-3
"""Between two rows of a file that states no times: its order is the order of time, and ends now."""

Admit = Callable[[Exchange], Exchange | None]
"""An exchange as it may be written down, None where it may not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a file: rows that are new in the log, that stood there already, that may not be written down."""

    n_new: int
    n_known: int
    n_withheld: int
    instructions: Counter[str]


def import_exchanges(
    home: Home, exchanges: Sequence[Exchange], admit: Admit, *, is_sample: bool, now_s: float | None = None
) -> Imported:
    """Write exchanges in time order to the log. Those without a text that was asked, or an answer, are withheld.

    `is_sample`: they were chosen without regard to what they say. Raises `StoreError` where the log cannot be written.
    """
    now_s = time.time() if now_s is None else now_s
    recogniser = Recogniser(home.registry.templates())
    logged = {row.request_id for row in home.log.rows(LogFilter(reason="imported"))}
    seen: Counter[str] = Counter()
    instructions: Counter[str] = Counter()
    known = n_withheld = 0
    with closing(open_writer(home.folder)) as writer:
        for place, exchange in enumerate(map(admit, exchanges)):
            found = None if exchange is None else recogniser.recognise(exchange.request)
            if exchange is None or found is None or found.text is None:
                n_withheld += 1
                continue
            time_s = now_s - (len(exchanges) - place) * APART_S if exchange.time_s is None else exchange.time_s
            if found.instructions_id not in instructions:
                writer.append(instructions_row(exchange.request, found.instructions_id, now_s))
            instructions[found.instructions_id] += 1
            name = _name(exchange, found.instructions_id, seen)
            if name in logged:
                known += 1
                continue
            row = _row(exchange, name, min(time_s, now_s), is_sample=is_sample)
            row.instructions_id, row.task_id = found.instructions_id, found.task_id
            writer.append(row)
    if writer.n_gaps:
        raise StoreError(f"{writer.n_gaps:,} rows could not be written to the log.", hint="Is the disk full?")
    open_log(home.folder)
    n_new = instructions.total() - known
    return Imported(n_new=n_new, n_known=known, n_withheld=n_withheld, instructions=instructions)


def imported_tasks(home: Home, imported: Imported) -> list[TaskRecord]:
    """The tasks that the imported rows are of, the most frequent first. Raises `TaskError` where they make none."""
    found = {task.id: task for task in find_tasks(home)}
    records = [record for record in map(home.registry.task, found) if record is not None]
    ours = [record for record in records if record.instructions_id in imported.instructions]
    if not ours:
        n = max(imported.instructions.values(), default=0)
        raise TaskError(
            f"{n:,} examples share instructions, and a task needs {MIN_REQUESTS}.",
            hint="Give more examples, and the same instructions with each.",
        )
    return sorted(ours, key=lambda record: -found[record.task_id].n_requests)


def _name(exchange: Exchange, instructions_id: str, seen: Counter[str]) -> str:
    """The id of a row: the same whenever it is read, another for each time that the same was asked and answered."""
    index = last_user_index(exchange.request.messages)
    asked = exchange.request.messages[index].text or ""
    content = fingerprint(instructions_id, asked, exchange.answer, repr(exchange.time_s))
    seen[content] += 1
    return f"imported-{content}-{seen[content]}"


def _row(exchange: Exchange, name: str, time_s: float, *, is_sample: bool) -> RequestRow:
    index = last_user_index(exchange.request.messages)
    return RequestRow(
        request_id=name,
        time_s=time_s,
        instructions_id="",
        task_id="",
        mode="observe",
        model=exchange.model,
        reason="imported",
        sampling="observe" if is_sample else "none",
        probability=1.0,
        input=exchange.request.messages[index].text,
        answer=exchange.answer,
        reference_answer=exchange.answer,
        prompt_tokens=exchange.usage.prompt if exchange.usage else None,
        completion_tokens=exchange.usage.completion if exchange.usage else None,
        latency_s=exchange.latency_s or 0.0,
    )
