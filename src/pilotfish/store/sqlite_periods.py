"""What happened in each hour, by task and by model: tables that stay small however long the log grows.

The importer adds what it has just inserted, in its own transaction, found by row numbers; repeated calls, which are
written twice each, are added by triggers. Pages read it, so that none of them counts a million rows. It holds numbers
only. What a number is worth (a price that is unknown, a saving) is decided by who reads it.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import Any

from pilotfish.store.periods import Period, PeriodFilter

HOUR_S = 3600

_SUMS = tuple(item.name for item in dataclasses.fields(Period) if item.name not in ("start_s", "task_id", "model"))
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


def _add(table: str, sums: dict[str, str], where: str, *, into: str = "hourly", key: str = "task_id") -> str:
    """Adds the rows of a table for which `where` holds."""
    columns, values = ", ".join(sums), ", ".join(sums.values())
    return (
        f"INSERT INTO {into} (hour_s, {key}, {columns}) SELECT {_HOUR}, {key}, {values} "  # noqa: S608
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

BY_MODEL = ";\n".join(
    (
        "CREATE TABLE hourly_models (hour_s INTEGER NOT NULL, model TEXT NOT NULL, "
        + "".join(f"{name} REAL NOT NULL DEFAULT 0, " for name in _OF_REQUESTS)
        + "PRIMARY KEY (hour_s, model)) WITHOUT ROWID",
        _add("requests", _OF_REQUESTS, "true", into="hourly_models", key="model"),
    )
)
"""Audits and repeated calls are all of the reference, and not in it."""


def last_rows(connection: sqlite3.Connection) -> tuple[int, int]:
    """The highest row numbers of requests and audits, to be handed to `add_since`."""
    rows = [connection.execute(f"SELECT max(rowid) FROM {name}").fetchone() for name in ("requests", "audits")]  # noqa: S608
    return rows[0][0] or 0, rows[1][0] or 0


def add_since(connection: sqlite3.Connection, rows: tuple[int, int]) -> None:
    """Add what was inserted after these row numbers, in the same transaction."""
    connection.execute(_add("requests", _OF_REQUESTS, f"rowid > ? AND {_WAS_ASKED}"), rows[:1])
    connection.execute(
        _add("requests", _OF_REQUESTS, f"rowid > ? AND {_WAS_ASKED}", into="hourly_models", key="model"), rows[:1]
    )
    connection.execute(_add("audits", _OF_AUDITS, "rowid > ?"), rows[1:])


def forget_before(connection: sqlite3.Connection, before_s: float) -> None:
    """Forget the hours before a time; of the hour it lies in, count again what is left."""
    hour_s = before_s // HOUR_S * HOUR_S
    for name in ("hourly", "hourly_models"):
        connection.execute(f"DELETE FROM {name} WHERE hour_s <= ?", (hour_s,))  # noqa: S608
    left = "time_s >= ? AND time_s < ?"
    asked = f"{left} AND {_WAS_ASKED}"
    for sql in (
        _add("requests", _OF_REQUESTS, asked),
        _add("requests", _OF_REQUESTS, asked, into="hourly_models", key="model"),
        _add("audits", _OF_AUDITS, left),
        _add("repeats", _OF_REPEATS, f"{left} AND status != 0"),
    ):
        connection.execute(sql, (max(before_s, hour_s), hour_s + HOUR_S))


def query(where: PeriodFilter) -> tuple[str, list[object]]:
    """The SQL of `Log.periods` with its values."""
    step_s = where.step_s
    # By the hour the key has the order already, so that a page ends where it is full.
    start = "hour_s" if step_s == HOUR_S else f"hour_s / {step_s} * {step_s}" if step_s else "min(hour_s)"
    table, key, known = (
        ("hourly_models", "model", _OF_REQUESTS) if where.by == "model" else ("hourly", "task_id", _SUMS)
    )
    of = key if where.by != "all" else "''"
    groups = [group for group, is_used in ((start, step_s), (key, where.by != "all")) if is_used]
    sums = ", ".join(f"total({name})" if name in known else "0.0" for name in _SUMS)
    since_s, after = where.since_s, where.after
    if after is not None and step_s:
        since_s = max(since_s, after[0])
    conditions = {
        "hour_s >= ?": since_s // HOUR_S * HOUR_S,
        "hour_s < ?": where.until_s,
        "task_id = ?": where.task_id,
        "model = ?": where.model,
    }
    used = " AND ".join(condition for condition, value in conditions.items() if value is not None)
    sql = f"SELECT {start}, {of}, {sums} FROM {table} WHERE {used}"  # noqa: S608
    values: list[object] = [value for value in conditions.values() if value is not None]
    if groups:
        sql += f" GROUP BY {', '.join(groups)}"
        if after is not None:
            sql += f" HAVING ({', '.join(groups)}) > ({', '.join('?' for _ in groups)})"
            values += [part for part, is_used in zip(after, (step_s, where.by != "all"), strict=True) if is_used]
        sql += f" ORDER BY {', '.join(groups)} LIMIT ?"
        values.append(where.limit)
    return sql, values


def period(row: tuple[float, ...], where: PeriodFilter) -> Period:
    """What one row of the query says."""
    whole: dict[str, Any] = {
        name: int(value) if name.startswith("n_") else value for name, value in zip(_SUMS, row[2:], strict=True)
    }
    is_by_model = where.by == "model"
    task_id, model = ("", str(row[1])) if is_by_model else (str(row[1]), "")
    return Period(start_s=row[0] or 0.0, task_id=task_id, model=model, **whole)
