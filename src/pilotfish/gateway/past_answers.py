"""Which past answers may still be given again: not those that were forgotten, nor those unconfirmed for too long.

The large model confirms an answer when it gives it, to a request that was deferred or audited. Those times come from
the log, read again now and then since other workers write there too, and from what this one hears. A request whose
answer is too old is deferred; if the large model then says the same, it is fresh again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from pilotfish.core.task import NO_PAST_ANSWER
from pilotfish.scoring import answers
from pilotfish.store.base import Log, LogFilter, TaskRecord

DAY_S = 86_400.0

READ_EVERY_S = 60.0
"""What other workers heard is known here so much later at most; until then an answer may be deferred needlessly."""


class PastAnswers:
    """The past answers of one gateway's tasks. `days` is `[learning] answer_days`; None: they never grow old."""

    def __init__(self, log: Log, days: float | None) -> None:
        self._log = log
        self._ttl_s = None if days is None else days * DAY_S
        self._confirmed: dict[tuple[str, str], float] = {}
        self._read_at: dict[tuple[str, str], float] = {}

    def due(self, serving: Iterable[TaskRecord]) -> list[TaskRecord]:
        """Those of the tasks whose log is to be read now; none where answers never grow old."""
        if self._ttl_s is None:
            return []
        before_s = time.time() - READ_EVERY_S
        return [
            record
            for record in serving
            if record.shape.is_retrieved and self._read_at.get(_key(record), 0.0) < before_s
        ]

    def read(self, due: Iterable[TaskRecord]) -> None:
        """Read in the log when the answers of these tasks were given last. Blocks; for a thread."""
        for record in due:
            now = time.time()
            # Another certificate may know answers that nobody kept the time of; rows are imported a little late.
            since_s = self._read_at.get(_key(record), now - (self._ttl_s or 0.0)) - READ_EVERY_S
            for row in self._log.rows(LogFilter(task_id=record.task_id, since_s=since_s)):
                if row.reference_answer is not None:
                    self._confirm(record, answers.parse(record.shape, row.reference_answer), row.time_s)
            self._read_at[_key(record)] = now

    def note(self, record: TaskRecord, values: tuple[str, ...] | None) -> None:
        """Take note of what the large model has just answered."""
        if self._ttl_s is not None and record.shape.is_retrieved:
            self._confirm(record, values, time.time())

    def is_stale(self, record: TaskRecord, value: str) -> bool:
        """Whether the past answer with this value must not be given again."""
        if value == NO_PAST_ANSWER:
            return False
        if value not in record.shape.fields[0].values:
            return True
        confirmed_s = self._confirmed.get((record.task_id, value), 0.0)
        return self._ttl_s is not None and time.time() - confirmed_s > self._ttl_s

    def _confirm(self, record: TaskRecord, values: tuple[str, ...] | None, time_s: float) -> None:
        if values is not None and values[0] in record.shape.fields[0].values:
            key = record.task_id, values[0]
            self._confirmed[key] = max(time_s, self._confirmed.get(key, 0.0))


def _key(record: TaskRecord) -> tuple[str, str]:
    return record.task_id, record.certificate_id
