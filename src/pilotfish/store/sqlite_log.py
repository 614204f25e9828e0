"""The request log in SQLite: its schema and its query side (`Log`).

Rows come in through `sqlite_import.py`. Every query opens its own connection, so one object serves any number of
threads, and readers neither wait for the importer nor make it wait. An audit stays a row of its own and is joined to
its request when read, so it does not matter which of the two arrived first. Counts per task are kept by triggers:
the learner asks for them every few seconds, and counting a million rows takes seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pilotfish.core.log_row import AuditRow, GradeRow, InstructionsRow, RepeatRow, RequestRow, TriedRow
from pilotfish.store import sqlite_periods, sqlite_route_sums
from pilotfish.store.base import LogFilter, TaskCount
from pilotfish.store.periods import Period, PeriodFilter, RouteSum
from pilotfish.store.sqlite_file import connect, migrate, transaction, translated

# Append-only: a change of the schema is a new entry at the end.
MIGRATIONS = (
    """
    CREATE TABLE requests (
        request_id TEXT NOT NULL UNIQUE, time_s REAL NOT NULL, instructions_id TEXT NOT NULL, task_id TEXT NOT NULL,
        mode TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, sampling TEXT NOT NULL,
        probability REAL NOT NULL, input TEXT, answer TEXT, reference_answer TEXT, local_answer TEXT,
        certainty REAL, scope REAL, status INTEGER NOT NULL, error TEXT NOT NULL,
        prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, latency_s REAL NOT NULL, local_s REAL,
        is_stream INTEGER NOT NULL, settings_sha256 TEXT NOT NULL, specialist_sha256 TEXT NOT NULL,
        certificate_id TEXT NOT NULL
    );
    CREATE INDEX requests_by_time ON requests (time_s);
    CREATE INDEX requests_by_task ON requests (task_id, time_s);
    CREATE TABLE audits (
        request_id TEXT NOT NULL PRIMARY KEY, time_s REAL NOT NULL, reference_answer TEXT, status INTEGER NOT NULL,
        error TEXT NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, latency_s REAL NOT NULL
    );
    CREATE TABLE instructions (
        instructions_id TEXT NOT NULL PRIMARY KEY, time_s REAL NOT NULL, body TEXT NOT NULL, text TEXT NOT NULL
    );
    CREATE TABLE gaps (n INTEGER NOT NULL, first_s REAL NOT NULL, last_s REAL NOT NULL);
    CREATE TABLE imported (segment TEXT NOT NULL PRIMARY KEY, offset INTEGER NOT NULL);
    CREATE TABLE task_counts (
        task_id TEXT NOT NULL, instructions_id TEXT NOT NULL, n_requests INTEGER NOT NULL, n_local INTEGER NOT NULL,
        n_reference_known INTEGER NOT NULL, first_s REAL NOT NULL, last_s REAL NOT NULL,
        PRIMARY KEY (task_id, instructions_id)
    ) WITHOUT ROWID;
    CREATE TRIGGER count_request AFTER INSERT ON requests BEGIN
        INSERT INTO task_counts VALUES (
            new.task_id, new.instructions_id, 1, new.reason = 'certified',
            new.reference_answer IS NOT NULL OR EXISTS (
                SELECT 1 FROM audits WHERE request_id = new.request_id AND reference_answer IS NOT NULL
            ), new.time_s, new.time_s
        ) ON CONFLICT DO UPDATE SET
            n_requests = n_requests + 1, n_local = n_local + excluded.n_local,
            n_reference_known = n_reference_known + excluded.n_reference_known,
            first_s = min(first_s, excluded.first_s), last_s = max(last_s, excluded.last_s);
    END;
    CREATE TRIGGER count_audit AFTER INSERT ON audits WHEN new.reference_answer IS NOT NULL BEGIN
        UPDATE task_counts SET n_reference_known = n_reference_known + 1
        WHERE (task_id, instructions_id) = (
            SELECT task_id, instructions_id FROM requests
            WHERE request_id = new.request_id AND reference_answer IS NULL
        );
    END;
    CREATE VIEW merged AS
        SELECT r.rowid AS number, r.*, coalesce(r.reference_answer, a.reference_answer) AS known_answer,
            CASE WHEN a.reference_answer IS NULL THEN r.sampling ELSE 'audit' END AS known_sampling
        FROM requests AS r LEFT JOIN audits AS a USING (request_id)
    """,
    """
    CREATE TABLE repeats (
        request_id TEXT NOT NULL, number INTEGER NOT NULL, task_id TEXT NOT NULL, time_s REAL NOT NULL,
        is_sampled INTEGER NOT NULL, reference_answer TEXT, status INTEGER NOT NULL, error TEXT NOT NULL,
        prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, expected_usd REAL, latency_s REAL NOT NULL,
        PRIMARY KEY (request_id, number)
    )
    """,
    "ALTER TABLE requests ADD COLUMN key_id TEXT",
    """
    ALTER TABLE requests ADD COLUMN tier INTEGER;
    ALTER TABLE task_counts ADD COLUMN n_first INTEGER NOT NULL DEFAULT 0;
    DROP TRIGGER count_request;
    CREATE TRIGGER count_request AFTER INSERT ON requests BEGIN
        INSERT INTO task_counts VALUES (
            new.task_id, new.instructions_id, 1, new.reason = 'certified',
            new.reference_answer IS NOT NULL OR EXISTS (
                SELECT 1 FROM audits WHERE request_id = new.request_id AND reference_answer IS NOT NULL
            ), new.time_s, new.time_s, new.reason = 'certified' AND new.tier IS 1
        ) ON CONFLICT DO UPDATE SET
            n_requests = n_requests + 1, n_local = n_local + excluded.n_local,
            n_reference_known = n_reference_known + excluded.n_reference_known,
            first_s = min(first_s, excluded.first_s), last_s = max(last_s, excluded.last_s),
            n_first = n_first + excluded.n_first;
    END;
    DROP VIEW merged;
    CREATE VIEW merged AS
        SELECT r.rowid AS number, r.*, coalesce(r.reference_answer, a.reference_answer) AS known_answer,
            CASE WHEN a.reference_answer IS NULL THEN r.sampling ELSE 'audit' END AS known_sampling
        FROM requests AS r LEFT JOIN audits AS a USING (request_id)
    """,
    """
    ALTER TABLE requests ADD COLUMN server TEXT NOT NULL DEFAULT '';
    ALTER TABLE requests ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE requests ADD COLUMN price_source TEXT NOT NULL DEFAULT ''
    """,
    """
    ALTER TABLE requests ADD COLUMN route TEXT NOT NULL DEFAULT '';
    ALTER TABLE requests ADD COLUMN tried_usd REAL DEFAULT 0;
    CREATE TABLE tried (
        request_id TEXT NOT NULL, model TEXT NOT NULL, time_s REAL NOT NULL, purpose TEXT NOT NULL,
        probability REAL NOT NULL, prompt TEXT, tried TEXT, status INTEGER NOT NULL, error TEXT NOT NULL,
        prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, expected_usd REAL, latency_s REAL NOT NULL,
        PRIMARY KEY (request_id, model)
    );
    CREATE TABLE grades (
        request_id TEXT NOT NULL, source TEXT NOT NULL, time_s REAL NOT NULL, scores TEXT NOT NULL, comment TEXT,
        key_id TEXT, cost_usd REAL, PRIMARY KEY (request_id, source)
    );
    DROP VIEW merged;
    CREATE VIEW merged AS
        SELECT r.rowid AS number, r.*, coalesce(r.reference_answer, a.reference_answer) AS known_answer,
            CASE WHEN a.reference_answer IS NULL THEN r.sampling ELSE 'audit' END AS known_sampling
        FROM requests AS r LEFT JOIN audits AS a USING (request_id)
    """,
    sqlite_periods.MIGRATION,
    sqlite_periods.BY_MODEL,
    sqlite_route_sums.MIGRATION,
)

REQUEST_COLUMNS = tuple(item.name for item in dataclasses.fields(RequestRow))
AUDIT_COLUMNS = tuple(item.name for item in dataclasses.fields(AuditRow))
REPEAT_COLUMNS = tuple(item.name for item in dataclasses.fields(RepeatRow))
TRIED_COLUMNS = tuple(item.name for item in dataclasses.fields(TriedRow))
GRADE_COLUMNS = tuple(item.name for item in dataclasses.fields(GradeRow))
INSTRUCTIONS_COLUMNS = tuple(item.name for item in dataclasses.fields(InstructionsRow))

_Row = TypeVar("_Row", TriedRow, GradeRow)

_MERGED = {"reference_answer": "known_answer", "sampling": "known_sampling"}
_SELECT = f"SELECT {', '.join(_MERGED.get(name, name) for name in REQUEST_COLUMNS)} FROM merged"  # noqa: S608
DIFFERING = (
    f"{_SELECT} WHERE request_id IN (SELECT request_id FROM audits WHERE task_id = ? AND loss > 0 "  # noqa: S608
    "ORDER BY time_s DESC LIMIT ?) ORDER BY time_s DESC"
)
_RECOUNT = """
    INSERT INTO task_counts SELECT
        task_id, instructions_id, count(*), sum(reason = 'certified'), count(known_answer), min(time_s), max(time_s),
        sum(reason = 'certified' AND tier IS 1)
    FROM merged GROUP BY task_id, instructions_id
"""


class SqliteLog:
    """A `Log` in an SQLite file. Raises `StoreError` where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        migrate(path, MIGRATIONS)
        self._path = path

    def rows(self, where: LogFilter) -> Iterator[RequestRow]:
        """Request rows in time order (or newest first), streamed; a snapshot of the time of the first row."""
        sql, values = query(where)
        with self._connection() as connection:
            for row in connection.execute(sql, values):
                yield _request_row(row)

    def row(self, request_id: str) -> RequestRow | None:
        """One request row."""
        row = self._first(f"{_SELECT} WHERE request_id = ?", request_id)
        return _request_row(row) if row else None

    def audit(self, request_id: str) -> AuditRow | None:
        """The audit of one request, where there was one."""
        row = self._first(f"SELECT {', '.join(AUDIT_COLUMNS)} FROM audits WHERE request_id = ?", request_id)  # noqa: S608
        return AuditRow(**dict(zip(AUDIT_COLUMNS, row, strict=True))) if row else None

    def repeats(self, request_id: str = "") -> list[RepeatRow]:
        """What the reference was asked again, of one request or of all, by request and number."""
        where = "WHERE request_id = ?" if request_id else ""
        sql = f"SELECT {', '.join(REPEAT_COLUMNS)} FROM repeats {where} ORDER BY request_id, number"  # noqa: S608
        with self._connection() as connection:
            rows = connection.execute(sql, [request_id] if request_id else []).fetchall()
        found = [RepeatRow(**dict(zip(REPEAT_COLUMNS, row, strict=True))) for row in rows]
        return [dataclasses.replace(row, is_sampled=bool(row.is_sampled)) for row in found]

    def tried(self, request_id: str = "") -> list[TriedRow]:
        """What smaller models said, to one request or to all, in the order of time."""
        return self._all(TriedRow, "tried", TRIED_COLUMNS, request_id)

    def grades(self, request_id: str = "") -> list[GradeRow]:
        """How answers were graded, those to one request or to all, in the order of time."""
        return self._all(GradeRow, "grades", GRADE_COLUMNS, request_id)

    def collected_usd(self, since_s: float) -> float:
        """What collecting has cost since a time; what was set aside where the cost is not known."""
        sql = "SELECT coalesce(sum(coalesce(cost_usd, expected_usd)), 0) FROM tried WHERE purpose = 'collect'"
        return float(self._first(f"{sql} AND time_s >= ?", since_s)[0])

    def routed(self, since_s: float, until_s: float) -> tuple[int, float | None]:
        """How many requests a route has decided on between two times, and when the first of them came."""
        sql = "SELECT count(*), min(time_s) FROM requests WHERE time_s >= ? AND time_s < ? AND route != ''"
        n, first_s = self._first(sql, since_s, until_s)
        return n, first_s

    def instructions(self, instructions_id: str) -> InstructionsRow | None:
        """The shared part of a request."""
        columns = ", ".join(INSTRUCTIONS_COLUMNS)
        row = self._first(f"SELECT {columns} FROM instructions WHERE instructions_id = ?", instructions_id)  # noqa: S608
        return InstructionsRow(**dict(zip(INSTRUCTIONS_COLUMNS, row, strict=True))) if row else None

    def task_counts(self) -> list[TaskCount]:
        """Per task and instructions, most frequent first."""
        columns = tuple(item.name for item in dataclasses.fields(TaskCount))
        sql = f"SELECT {', '.join(columns)} FROM task_counts ORDER BY n_requests DESC, task_id, instructions_id"  # noqa: S608
        with self._connection() as connection:
            return [TaskCount(**dict(zip(columns, row, strict=True))) for row in connection.execute(sql)]

    def periods(self, where: PeriodFilter) -> list[Period]:
        """What happened, in order; by model without audits and repeated calls."""
        sql, values = sqlite_periods.query(where)
        with self._connection() as connection:
            return [sqlite_periods.period(row, where) for row in connection.execute(sql, values)]

    def route_sums(self, since_s: float, until_s: float | None = None) -> list[RouteSum]:
        """What requests under a route, and finding out about routes, came to, by kind and model; whole hours."""
        sql, values = sqlite_route_sums.query(since_s, until_s)
        with self._connection() as connection:
            return [sqlite_route_sums.route_sum(row) for row in connection.execute(sql, values)]

    def differing(self, task_id: str, limit: int) -> list[RequestRow]:
        """The newest audited requests of a task that differed, by the time of their audit."""
        with self._connection() as connection:
            return [_request_row(row) for row in connection.execute(DIFFERING, (task_id, limit))]

    def prune(self, before_s: float) -> int:
        """Delete what is older than a time: requests with their audits, and instructions no request needs any more.

        Of repeated and collected calls only the texts go: what a budget has spent stays spent. The deleted text is
        overwritten, not merely unlinked. Returns how many requests went.
        """
        with self._connection() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            with transaction(connection):
                n = connection.execute("DELETE FROM requests WHERE time_s < ?", (before_s,)).rowcount
                connection.execute(
                    "DELETE FROM audits WHERE time_s < ? AND request_id NOT IN (SELECT request_id FROM requests)",
                    (before_s,),
                )
                connection.execute(
                    "UPDATE repeats SET reference_answer = NULL, error = 'pruned' "
                    "WHERE time_s < ? AND request_id NOT IN (SELECT request_id FROM requests)",
                    (before_s,),
                )
                for table, text in (("tried", "prompt = NULL, tried = NULL"), ("grades", "comment = NULL")):
                    connection.execute(
                        f"UPDATE {table} SET {text} "  # noqa: S608
                        "WHERE time_s < ? AND request_id NOT IN (SELECT request_id FROM requests)",
                        (before_s,),
                    )
                connection.execute(
                    "DELETE FROM instructions WHERE time_s < ? "
                    "AND instructions_id NOT IN (SELECT instructions_id FROM requests)",
                    (before_s,),
                )
                sqlite_periods.forget_before(connection, before_s)
                sqlite_route_sums.forget_before(connection, before_s)
                connection.execute("DELETE FROM task_counts")
                connection.execute(_RECOUNT)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return n

    def n_gaps(self) -> int:
        """Rows known to be lost: those that writers reported, and lines that a crash left torn."""
        return int(self._first("SELECT coalesce(sum(n), 0) FROM gaps")[0])

    def reader(self) -> SqliteLogReader:
        """The same for one thread that asks often."""
        return SqliteLogReader(self._path)

    def _all(self, kind: type[_Row], table: str, columns: tuple[str, ...], request_id: str) -> list[_Row]:
        where = "WHERE request_id = ?" if request_id else ""
        sql = f"SELECT {', '.join(columns)} FROM {table} {where} ORDER BY time_s, rowid"  # noqa: S608
        with self._connection() as connection:
            rows = connection.execute(sql, [request_id] if request_id else []).fetchall()
        return [kind(**dict(zip(columns, row, strict=True))) for row in rows]

    def _first(self, sql: str, *values: object) -> Any:  # noqa: ANN401 - a row of SQLite is a tuple of anything
        with self._connection() as connection:
            return connection.execute(sql, values).fetchone()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with translated(self._path), contextlib.closing(connect(self._path)) as connection:
            yield connection


class SqliteLogReader(SqliteLog):
    """A `LogReader`: opening the file and reading its schema takes half of what a small question costs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with translated(path):
            self._kept = connect(path)

    def version(self) -> int:
        """SQLite's own number, which another connection's commit changes."""
        return int(self._first("PRAGMA data_version")[0])

    def close(self) -> None:
        """Close the connection."""
        with translated(self._path):
            self._kept.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with translated(self._path):
            yield self._kept


def query(where: LogFilter) -> tuple[str, list[object]]:
    """The SQL of a filter with its values. Each order is one an index already has."""
    conditions = {
        "task_id = ?": where.task_id or None,
        "reason = ?": where.reason or None,
        "time_s >= ?": where.since_s,
        # The index gives the rows of that time, the number their order.
        "(time_s, number) < (SELECT time_s, rowid FROM requests WHERE request_id = ?)": where.before_id or None,
    }
    values: list[object] = [value for value in conditions.values() if value is not None]
    used = [condition for condition, value in conditions.items() if value is not None]
    if where.errors_only:
        used.append("(status >= 400 OR error != '')")
    sql = _SELECT + (f" WHERE {' AND '.join(used)}" if used else "")
    direction = "DESC" if where.newest_first else "ASC"
    sql += f" ORDER BY time_s {direction}, number {direction}"
    if where.limit is not None:
        sql += " LIMIT ?"
        values.append(where.limit)
    return sql, values


def _request_row(row: tuple[Any, ...]) -> RequestRow:
    values = dict(zip(REQUEST_COLUMNS, row, strict=True))
    values["is_stream"] = bool(values["is_stream"])
    return RequestRow(**values)
