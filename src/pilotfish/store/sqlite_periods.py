"""What happened in each hour, by task: a table that stays small however long the log grows, and sums over it.

The importer adds what it has just inserted, in its own transaction, found by row numbers; repeated calls, which are
written twice each, are added by triggers. Pages read it, so that none of them counts a million rows. It holds numbers
only. What a number is worth (a price that is unknown, a saving) is decided by who reads it.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import Any

from pilotfish.store.base import Period

HOUR_S = 3600

_SUMS = tuple(item.name for item in dataclasses.fields(Period) if item.name not in ("start_s", "task_id"))
_HOUR = f"CAST(time_s / {HOUR_S} AS INTEGER) * {HOUR_S}"
_BY_REFERENCE = "reason != 'certified' AND sampling IN ('observe', 'deferred', 'audit') AND status = 200 AND error = ''"
_WAS_ASKED = "reason != 'imported'"
"""What was read from a file is no request of this gateway: it cost nothing, took no time and saved none."""

_OF_REQUESTS = {
    "n_requests": "count(*)",
    "n_local": "sum(reason = 'certified')",
    "n_failed": "sum(status >= 400 OR error != '')",
    "local_s": "total(latency_s) FILTER (WHERE reason = 'certified')",
    "n_reference": f"count(*) FILTER (WHERE {_BY_REFERENCE})",
    "reference_s": f"total(latency_s) FILTER (WHERE {_BY_REFERENCE})",
    "n_reference_priced": f"count(cost_usd) FILTER (WHERE {_BY_REFERENCE})",
    "reference_usd": f"total(cost_usd) FILTER (WHERE {_BY_REFERENCE})",
    "cost_usd": "total(cost_usd)",
    "n_unpriced": "sum(status = 200 AND cost_usd IS NULL)",
}
_OF_AUDITS = {
    "n_audits": "count(*) FILTER (WHERE status = 200 AND error = '')",
    "audit_s": "total(latency_s) FILTER (WHERE status = 200 AND error = '')",
    "n_audits_priced": "count(cost_usd) FILTER (WHERE status = 200 AND error = '')",
    "audit_usd": "total(cost_usd)",
    "n_judged": "count(loss)",
    "losses": "total(loss)",
}
_OF_REPEATS = {
    "n_repeats": "count(*) FILTER (WHERE status = 200 AND error = '')",
    "n_repeats_priced": "count(cost_usd) FILTER (WHERE status = 200 AND error = '')",
    "repeat_usd": "total(cost_usd)",
}


def _add(table: str, sums: dict[str, str], where: str) -> str:
    """Adds the rows of a table for which `where` holds."""
    columns, values = ", ".join(sums), ", ".join(sums.values())
    return (
        f"INSERT INTO hourly (hour_s, task_id, {columns}) SELECT {_HOUR}, task_id, {values} "  # noqa: S608
        f"FROM {table} WHERE {where} GROUP BY 1, 2 "
        f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in sums)}"
    )


def _trigger(name: str, event: str) -> str:
    """Adds a repeated call once its answer is known; before the call its row has status 0."""
    is_answered = "new.status = 200 AND new.error = ''"
    values = f"{is_answered}, {is_answered} AND new.cost_usd IS NOT NULL, coalesce(new.cost_usd, 0.0)"
    hour = _HOUR.replace("time_s", "new.time_s")
    return (
        f"CREATE TRIGGER {name} AFTER {event} BEGIN "  # noqa: S608
        f"INSERT INTO hourly (hour_s, task_id, {', '.join(_OF_REPEATS)}) VALUES ({hour}, new.task_id, {values}) "
        f"ON CONFLICT DO UPDATE SET {', '.join(f'{key} = {key} + excluded.{key}' for key in _OF_REPEATS)}; END"
    )


MIGRATION = ";\n".join(
    (
        "ALTER TABLE audits ADD COLUMN task_id TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE audits ADD COLUMN loss REAL",
        "UPDATE audits SET task_id = coalesce("
        "(SELECT task_id FROM requests WHERE requests.request_id = audits.request_id), '')",
        "CREATE INDEX audits_that_differ ON audits (task_id, time_s) WHERE loss > 0",
        "CREATE INDEX audits_by_time ON audits (time_s)",
        "CREATE INDEX repeats_by_time ON repeats (time_s)",
        "CREATE INDEX requests_failed ON requests (time_s) WHERE status >= 400 OR error != ''",
        "CREATE INDEX requests_failed_by_task ON requests (task_id, time_s) WHERE status >= 400 OR error != ''",
        "CREATE TABLE hourly (hour_s INTEGER NOT NULL, task_id TEXT NOT NULL, "
        + "".join(f"{name} REAL NOT NULL DEFAULT 0, " for name in _SUMS)
        + "PRIMARY KEY (hour_s, task_id)) WITHOUT ROWID",
        _trigger("count_repeat", "INSERT ON repeats WHEN new.status != 0"),
        _trigger("count_repeat_answer", "UPDATE ON repeats WHEN old.status = 0 AND new.status != 0"),
        _add("requests", _OF_REQUESTS, "true"),
        _add("audits", _OF_AUDITS, "true"),
        _add("repeats", _OF_REPEATS, "status != 0"),
    )
)


def last_rows(connection: sqlite3.Connection) -> tuple[int, int]:
    """The highest row numbers of requests and audits, to be handed to `add_since`."""
    rows = [connection.execute(f"SELECT max(rowid) FROM {name}").fetchone() for name in ("requests", "audits")]  # noqa: S608
    return rows[0][0] or 0, rows[1][0] or 0


def add_since(connection: sqlite3.Connection, rows: tuple[int, int]) -> None:
    """Add what was inserted after these row numbers, in the same transaction."""
    connection.execute(_add("requests", _OF_REQUESTS, f"rowid > ? AND {_WAS_ASKED}"), rows[:1])
    connection.execute(_add("audits", _OF_AUDITS, "rowid > ?"), rows[1:])


def forget_before(connection: sqlite3.Connection, before_s: float) -> None:
    """Forget the hours before a time; of the hour it lies in, count again what is left."""
    hour_s = before_s // HOUR_S * HOUR_S
    connection.execute("DELETE FROM hourly WHERE hour_s <= ?", (hour_s,))
    for table, sums, known in (
        ("requests", _OF_REQUESTS, f" AND {_WAS_ASKED}"),
        ("audits", _OF_AUDITS, ""),
        ("repeats", _OF_REPEATS, " AND status != 0"),
    ):
        left = f"time_s >= ? AND time_s < ?{known}"
        connection.execute(_add(table, sums, left), (max(before_s, hour_s), hour_s + HOUR_S))


def query(
    between_s: tuple[float, float | None], step_s: int, task_id: str | None, *, by_task: bool
) -> tuple[str, list[object]]:
    """The SQL of `Log.periods` with its values."""
    start = f"hour_s / {step_s} * {step_s}" if step_s else "min(hour_s)"
    task = "task_id" if by_task else "''"
    groups = [group for group, is_used in ((start, step_s), ("task_id", by_task)) if is_used]
    sql = f"SELECT {start}, {task}, {', '.join(f'total({name})' for name in _SUMS)} FROM hourly WHERE hour_s >= ?"  # noqa: S608
    since_s, until_s = between_s
    values: list[object] = [since_s // HOUR_S * HOUR_S]
    if until_s is not None:
        sql += " AND hour_s < ?"
        values.append(until_s)
    if task_id is not None:
        sql += " AND task_id = ?"
        values.append(task_id)
    if groups:
        sql += f" GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}"
    return sql, values


def period(row: tuple[float, ...]) -> Period:
    """What one row of the query says."""
    whole: dict[str, Any] = {
        name: int(value) if name.startswith("n_") else value for name, value in zip(_SUMS, row[2:], strict=True)
    }
    return Period(start_s=row[0] or 0.0, task_id=str(row[1]), **whole)
