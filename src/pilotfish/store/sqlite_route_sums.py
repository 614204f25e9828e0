"""What happened in each hour under a route, and what finding out about routes cost: by kind of call and model.

Kept beside the sums of `sqlite_periods.py`, which tell models apart and not reasons. Triggers add all of it, so that
none is missing where a gateway of an earlier version still imports into the log. It holds numbers only: what a route
has saved is estimated by who reads it.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from dataclasses import dataclass
from typing import Any

from pilotfish.store.periods import RouteSum

HOUR_S = 3600

_NUMBERS = tuple(item.name for item in dataclasses.fields(RouteSum) if item.name not in ("kind", "model"))
_ADDED = f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in _NUMBERS)}"
_INTO = f"INSERT INTO hourly_routed (hour_s, kind, model, {', '.join(_NUMBERS)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Rows that are summed up, those of `table` that are `counted`. `@` stands before a column's name."""

    table: str
    kind: str
    model: str
    counted: str
    usd: str = "@cost_usd"
    is_whole: str = "(@status = 200 AND @error = '')"
    tried_usd: str = "0.0"

    def key(self, row: str) -> list[str]:
        """Hour, kind and model of a row; `row` is what its columns' names begin with."""
        hour = f"CAST(@time_s / {HOUR_S} AS INTEGER) * {HOUR_S}"
        return [part.replace("@", row) for part in (hour, self.kind, self.model)]

    def numbers(self, row: str) -> list[str]:
        """What a row adds to each sum."""
        found = {
            "n": "1",
            "n_failed": f"NOT {self.is_whole}",
            "n_unpriced": f"{self.is_whole} AND {self.usd} IS NULL",
            "usd": f"coalesce({self.usd}, 0.0)",
            "usd_squared": f"coalesce({self.usd} * {self.usd}, 0.0)",
            "tried_usd": f"coalesce({self.tried_usd}, 0.0)",
            "n_tried_unpriced": f"{self.tried_usd} IS NULL",
        }
        return [found[name].replace("@", row) for name in _NUMBERS]

    def add(self, where: str) -> str:
        """Adds the rows for which `where` holds."""
        columns = ", ".join([*self.key(""), *(f"total({number})" for number in self.numbers(""))])
        condition = f"{where} AND {self.counted.replace('@', '')}"
        return f"{_INTO} SELECT {columns} FROM {self.table} WHERE {condition} GROUP BY 1, 2, 3 {_ADDED}"  # noqa: S608

    def trigger(self, name: str, event: str, when: str = "true") -> str:
        """Adds a row when it is written and `when` holds of it."""
        columns = ", ".join([*self.key("new."), *self.numbers("new.")])
        condition = f"{when} AND {self.counted.replace('@', 'new.')}"
        return (
            f"CREATE TRIGGER {name} AFTER {event} ON {self.table} WHEN {condition} BEGIN "
            f"{_INTO} VALUES ({columns}) {_ADDED}; END"
        )


_REQUESTS = _Source(table="requests", kind="@reason", model="@model", counted="@route != ''", tried_usd="@tried_usd")
# Specialists' audits have a task.
_AUDITS = _Source(table="audits", kind="'audit'", model="''", counted="@task_id = ''")
# Before the call a row has status 0.
_TRIED = _Source(
    table="tried",
    kind="CASE @purpose WHEN 'audit' THEN 'pair' ELSE @purpose END",
    model="@model",
    counted="@status != 0",
    # What was collected is paid for itself; an earlier version writes no more of it than its cost.
    usd="CASE @purpose WHEN 'collect' THEN @cost_usd ELSE @paid_usd END",
)
_GRADES = _Source(table="grades", kind="'judge'", model="''", counted="@source = 'judge'", is_whole="true")
_SOURCES = (_REQUESTS, _AUDITS, _TRIED, _GRADES)

_KEPT = "time_s >= (SELECT min(time_s) FROM requests)"
"""Pruning leaves what was tried and graded, without texts; the sums of its hours went with the requests."""

_HEARD = """
    UPDATE tried SET paid_usd = (
        SELECT CASE
            WHEN NOT json_valid(route) THEN NULL
            WHEN heard.value IS NULL THEN tried.cost_usd
            ELSE max(0.0, tried.cost_usd - json_extract(heard.value, '$.cost_usd'))
        END
        FROM requests LEFT JOIN json_each(iif(json_valid(route), route, '{}'), '$.asked') AS heard
            ON json_extract(heard.value, '$.model') = tried.model
            AND coalesce(json_extract(heard.value, '$.is_whole'), true)
        WHERE requests.request_id = tried.request_id
    ) WHERE purpose = 'audit'
"""
"""What the request had paid already is no cost of its audit; unknown where the request, which would tell, is gone."""

MIGRATION = ";\n".join(
    (
        "ALTER TABLE tried ADD COLUMN paid_usd REAL",
        "UPDATE tried SET paid_usd = cost_usd WHERE purpose = 'collect'",
        _HEARD,
        "CREATE TABLE hourly_routed (hour_s INTEGER NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL, "
        + "".join(f"{name} REAL NOT NULL DEFAULT 0, " for name in _NUMBERS)
        + "PRIMARY KEY (hour_s, kind, model)) WITHOUT ROWID",
        _TRIED.trigger("sum_tried", "INSERT"),
        _TRIED.trigger("sum_tried_answer", "UPDATE", "old.status = 0"),
        _GRADES.trigger("sum_grade", "INSERT"),
        # Graded once more is paid once more.
        _GRADES.trigger("sum_later_grade", "UPDATE", "new.time_s != old.time_s"),
        _REQUESTS.trigger("sum_request", "INSERT"),
        _AUDITS.trigger("sum_audit", "INSERT"),
        _REQUESTS.add("true"),
        _AUDITS.add("request_id IN (SELECT request_id FROM requests WHERE route != '')"),
        _TRIED.add(_KEPT),
        _GRADES.add(_KEPT),
    )
)


def forget_before(connection: sqlite3.Connection, before_s: float) -> None:
    """Forget the hours before a time; of the hour it lies in, count again what is left."""
    hour_s = before_s // HOUR_S * HOUR_S
    connection.execute("DELETE FROM hourly_routed WHERE hour_s <= ?", (hour_s,))
    for source in _SOURCES:
        connection.execute(source.add("time_s >= ? AND time_s < ?"), (max(before_s, hour_s), hour_s + HOUR_S))


def query(since_s: float, until_s: float | None) -> tuple[str, list[object]]:
    """The SQL of `Log.route_sums` with its values."""
    sql = f"SELECT kind, model, {', '.join(f'total({name})' for name in _NUMBERS)} FROM hourly_routed WHERE hour_s >= ?"  # noqa: S608
    values: list[object] = [since_s // HOUR_S * HOUR_S]
    if until_s is not None:
        sql += " AND hour_s < ?"
        values.append(until_s)
    return f"{sql} GROUP BY kind, model ORDER BY kind, model", values


def route_sum(row: tuple[Any, ...]) -> RouteSum:
    """What one row of the query says."""
    kind, model, *numbers = row
    whole = {name: int(n) if name.startswith("n") else n for name, n in zip(_NUMBERS, numbers, strict=True)}
    return RouteSum(kind=kind, model=model, **whole)
