"""A live log summed up like a backtest, where the reference's answer to every request is known besides.

The demo uses it: its reference is a recording, so what the reference would have said to requests that
were answered locally stands in the recording. It only arranges rows; the sums are `report.py`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from pilotfish.core.certificate import Claim
from pilotfish.core.log_row import RequestRow
from pilotfish.core.messages import Price
from pilotfish.core.task import Task
from pilotfish.guarantees.attempt import Attempt
from pilotfish.replay.report import Report, cost
from pilotfish.replay.timeline import Replayed, Row, naive_policy
from pilotfish.scoring import answers
from pilotfish.store.base import LogFilter, Registry, TaskRecord
from pilotfish.store.home import Home
from pilotfish.store.traffic import Exchange
from pilotfish.tasks.recognise import Recogniser


def report(home: Home, recorded: Mapping[str, Exchange], claim: Claim, price: Price | None) -> Report:
    """What the log of `home` shows; `recorded` holds the reference's exchange by request id."""
    recogniser = Recogniser(home.registry.templates())
    rows: dict[str, list[tuple[int, RequestRow]]] = defaultdict(list)
    others = []
    tasks = {record.task_id: record for record in home.registry.tasks()}
    n = 0
    for row in home.log.rows(LogFilter()):
        if row.request_id not in recorded:
            continue
        n += 1
        found = recogniser.split(row.instructions_id, row.input or "")
        if found.task_id in tasks:
            rows[found.task_id].append((n, row))
        else:
            others.append(recorded[row.request_id].usage)
    replayed = [_replayed(home.registry, tasks[key], found, recorded) for key, found in rows.items()]
    replayed.sort(key=lambda task: -len(task.rows))
    return Report(
        n_requests=n,
        unreadable=[],
        claim=claim,
        tasks=replayed,
        cost=cost(replayed, others, price),
        local_s=[row.local_s for found in rows.values() for _, row in found if row.local_s is not None],
        longer=[],
        format="pilotfish log",
        is_live=True,
    )


def _replayed(
    registry: Registry, record: TaskRecord, rows: list[tuple[int, RequestRow]], recorded: Mapping[str, Exchange]
) -> Replayed:
    adopted_at: dict[str, int] = {}
    for position, row in rows:
        adopted_at.setdefault(row.certificate_id, position)
    adopted_at.setdefault(record.certificate_id, rows[-1][0])  # adopted after the last request
    certificates = {key: found for key in adopted_at if (found := registry.certificate(key)) is not None}
    naive = {key: naive_policy(certificate) for key, certificate in certificates.items()}
    flags = np.zeros((6, len(rows)), dtype=bool)
    for i, (_, row) in enumerate(rows):
        policy = naive.get(row.certificate_id)
        said = None if row.local_answer is None else answers.parse(record.shape, row.local_answer)
        reference = answers.parse(record.shape, recorded[row.request_id].answer)
        is_first = row.reason == "certified" and row.tier == 1
        flags[:, i] = (
            said is not None,
            said is not None and said != reference,
            row.reason == "certified",
            is_first,
            row.sampling == "audit",
            policy is not None and (is_first or policy.decide(row.certainty or 0.0, row.scope or 0.0) == "certified"),
        )
    ran, differs, served, first, audited, naive_served = flags
    return Replayed(
        task=_task(record, len(rows)),
        rows=[_row(position, row, recorded[row.request_id]) for position, row in rows],
        mode=record.mode,
        ran=ran,
        differs=differs,
        served=served,
        first=first,
        audited=audited,
        naive=naive_served,
        verdicts=[(0, Attempt(verdict=verdict)) for verdict in registry.verdicts(record.task_id)],
        adopted=[(adopted_at[key], Attempt(verdict=certificate)) for key, certificate in certificates.items()],
        drifts=_drifts(registry, record.task_id, rows),
        withdrawn_at=_withdrawn_at(registry, record.task_id, rows),
    )


def _withdrawn_at(registry: Registry, task_id: str, rows: list[tuple[int, RequestRow]]) -> int | None:
    """The position of the last request that had come when the last certificate was withdrawn."""
    times = [event.time_s for event in registry.events(task_id, limit=1000) if event.kind == "withdrawn"]
    return _position(rows, times[0]) if times else None


def _drifts(registry: Registry, task_id: str, rows: list[tuple[int, RequestRow]]) -> list[tuple[int, str]]:
    """The position of the last request before each event of drift, with its message, oldest first."""
    events = [event for event in registry.events(task_id, limit=1000)[::-1] if event.kind == "drift"]
    return [(_position(rows, event.time_s) or 0, event.message) for event in events]


def _position(rows: list[tuple[int, RequestRow]], time_s: float) -> int | None:
    return max((position for position, row in rows if row.time_s <= time_s), default=None)


def _row(position: int, row: RequestRow, exchange: Exchange) -> Row:
    return Row(position=position, text=row.input or "", answer=exchange.answer, time_s=row.time_s, usage=exchange.usage)


def _task(record: TaskRecord, n_requests: int) -> Task:
    return Task(
        id=record.task_id,
        name=record.name,
        instructions_id=record.instructions_id,
        instructions=record.instructions,
        shape=record.shape,
        n_requests=n_requests,
        mode=record.mode,
    )
