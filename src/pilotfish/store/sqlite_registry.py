"""The registry in SQLite: tasks, templates, verdicts and events (`Registry`).

It keeps what was decided and counts every change, so that another process notices one by reading a single number.
Verdicts are append-only, by trigger: a certificate that was once given stays readable, whatever became of it. Shapes
and verdicts are stored as JSON, since nothing queries inside them. It does not judge any of it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Unpack

import msgspec

from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.errors import StoreError
from pilotfish.core.task import AnswerShape, Template
from pilotfish.store.base import Event, TaskChanges, TaskRecord
from pilotfish.store.sqlite_file import connect, migrate, transaction, translated

# Append-only: a change of the schema is a new entry at the end.
MIGRATIONS = (
    """
    CREATE TABLE changes (n INTEGER NOT NULL);
    INSERT INTO changes VALUES (0);
    CREATE TABLE tasks (
        task_id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, instructions_id TEXT NOT NULL,
        instructions TEXT NOT NULL, shape TEXT NOT NULL, mode TEXT NOT NULL, specialist_sha256 TEXT NOT NULL,
        certificate_id TEXT NOT NULL, is_held INTEGER NOT NULL, audit_state TEXT, pace TEXT, updated_s REAL NOT NULL
    );
    CREATE TABLE templates (
        instructions_id TEXT NOT NULL, prefix TEXT NOT NULL, suffix TEXT NOT NULL, task_id TEXT NOT NULL
    );
    CREATE TABLE verdicts (
        number INTEGER PRIMARY KEY, task_id TEXT NOT NULL, certificate_id TEXT UNIQUE, delta_spent REAL NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX verdicts_by_task ON verdicts (task_id, number);
    CREATE TRIGGER verdicts_stay BEFORE DELETE ON verdicts BEGIN SELECT RAISE(ABORT, 'verdicts are append-only'); END;
    CREATE TRIGGER verdicts_hold BEFORE UPDATE ON verdicts BEGIN SELECT RAISE(ABORT, 'verdicts are append-only'); END;
    CREATE TABLE events (
        number INTEGER PRIMARY KEY, time_s REAL NOT NULL, task_id TEXT NOT NULL, kind TEXT NOT NULL,
        message TEXT NOT NULL, details TEXT NOT NULL
    );
    CREATE INDEX events_by_task ON events (task_id, number)
    """,
    "ALTER TABLE tasks ADD COLUMN drift_state TEXT",
    """
    CREATE TABLE keys (
        number INTEGER PRIMARY KEY AUTOINCREMENT, key_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,
        sha256 TEXT NOT NULL UNIQUE, created_s REAL NOT NULL, models TEXT NOT NULL, limits TEXT NOT NULL,
        expires_s REAL, revoked_s REAL
    );
    CREATE TABLE admin_key (sha256 TEXT NOT NULL)
    """,
    "ALTER TABLE keys ADD COLUMN privacy TEXT NOT NULL DEFAULT 'allow'",
    """
    CREATE TABLE routes (
        number INTEGER PRIMARY KEY, certificate_id TEXT NOT NULL UNIQUE, route TEXT NOT NULL, adopted_s REAL NOT NULL,
        audit_state TEXT, withdrawn_s REAL
    )
    """,
    """
    ALTER TABLE tasks ADD COLUMN asked_s REAL;
    CREATE TABLE marks (
        number INTEGER PRIMARY KEY, request_id TEXT NOT NULL, task_id TEXT NOT NULL, verdict TEXT NOT NULL,
        time_s REAL NOT NULL, specialist_sha256 TEXT NOT NULL
    );
    CREATE INDEX marks_by_task ON marks (task_id, request_id, number);
    CREATE TABLE bench_calls (
        run_id TEXT NOT NULL, model TEXT NOT NULL, time_s REAL NOT NULL, status INTEGER NOT NULL, error TEXT NOT NULL,
        prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, latency_s REAL NOT NULL,
        PRIMARY KEY (run_id, model)
    );
    CREATE INDEX bench_calls_by_time ON bench_calls (time_s)
    """,
)

_TASK = (
    "SELECT task_id, name, instructions_id, instructions, shape, mode, specialist_sha256, certificate_id, is_held, "
    "audit_state, pace, updated_s, drift_state, asked_s FROM tasks"
)
_shape = msgspec.json.Decoder(AnswerShape)


class RegistryFile:
    """The SQLite file of a registry, which `SqliteKeys` shares. Safe from several threads.

    Raises `StoreError` where the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        migrate(path, MIGRATIONS)
        self._path = path
        self._lock = threading.Lock()
        with translated(path):
            self._connection = connect(path)

    def version(self) -> int:
        """The number of changes so far, whichever process made them."""
        return int(self._rows("SELECT n FROM changes")[0][0])

    def close(self) -> None:
        """Close the connection."""
        with self._lock, translated(self._path):
            self._connection.close()

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, translated(self._path):
            return self._connection.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, translated(self._path), transaction(self._connection):
            yield self._connection
            self._connection.execute("UPDATE changes SET n = n + 1")


class SqliteRegistry(RegistryFile):
    """A `Registry` in an SQLite file."""

    def tasks(self) -> list[TaskRecord]:
        """All task records, by name."""
        return [_task(row) for row in self._rows(f"{_TASK} ORDER BY name")]

    def task(self, name_or_id: str) -> TaskRecord | None:
        """One task by id or name; an id wins over a name that looks like it."""
        rows = self._rows(f"{_TASK} WHERE ? IN (task_id, name) ORDER BY task_id != ?", name_or_id, name_or_id)
        return _task(rows[0]) if rows else None

    def put_task(self, record: TaskRecord) -> None:
        """Insert or replace one task record. Raises `StoreError` where another task has its name."""
        with self._writing() as connection:
            _put_task(connection, record)

    def templates(self) -> list[Template]:
        """The learnt templates, in the order they were put."""
        rows = self._rows("SELECT instructions_id, prefix, suffix, task_id FROM templates ORDER BY rowid")
        return [Template(instructions_id=row[0], prefix=row[1], suffix=row[2], task_id=row[3]) for row in rows]

    def put_templates(self, templates: list[Template]) -> None:
        """Replace the templates."""
        rows = [(item.instructions_id, item.prefix, item.suffix, item.task_id) for item in templates]
        with self._writing() as connection:
            connection.execute("DELETE FROM templates")
            connection.executemany("INSERT INTO templates VALUES (?, ?, ?, ?)", rows)

    def add_verdict(self, verdict: Certificate | Refusal) -> None:
        """Append a certificate or a refusal; a certificate that is already there stays as it is."""
        with self._writing() as connection:
            put_verdict(connection, verdict)

    def certificate(self, certificate_id: str) -> Certificate | None:
        """One certificate, however old."""
        rows = self._rows("SELECT body FROM verdicts WHERE certificate_id = ?", certificate_id)
        return Certificate.from_json(json.loads(rows[0][0])) if rows else None

    def verdicts(self, task_id: str, newest: int | None = None) -> list[Certificate | Refusal]:
        """All verdicts of a task, or the newest so many; oldest first."""
        found = self.verdict_page(task_id, limit=-1 if newest is None else newest)
        return [verdict for _, verdict in reversed(found)]

    def verdict_page(
        self, task_id: str = "", *, before: int | None = None, limit: int = -1
    ) -> list[tuple[int, Certificate | Refusal]]:
        """Verdicts with their numbers, newest first, of all tasks where none is named; those before a number."""
        conditions = {"task_id = ?": task_id or None, "number < ?": before}
        used = " AND ".join(condition for condition, value in conditions.items() if value is not None)
        rows = self._rows(
            f"SELECT number, certificate_id, body FROM verdicts {'WHERE ' * bool(used)}{used} "  # noqa: S608
            "ORDER BY number DESC LIMIT ?",
            *(value for value in conditions.values() if value is not None),
            limit,
        )
        return [(row[0], (Certificate if row[1] else Refusal).from_json(json.loads(row[2]))) for row in rows]

    def n_attempts(self, task_id: str) -> int:
        """How many verdicts of this task have spent delta (whatever the outcome)."""
        rows = self._rows("SELECT count(*) FROM verdicts WHERE task_id = ? AND delta_spent > 0", task_id)
        return int(rows[0][0])

    def update_task(self, task_id: str, **changes: Unpack[TaskChanges]) -> None:
        """Change some columns of one task. Raises `StoreError` where the task is not known."""
        with self._writing() as connection:
            _update_task(connection, task_id, changes)

    def change_audit(
        self, task_id: str, certificate_id: str, change: Callable[[dict[str, Any] | None], dict[str, Any]]
    ) -> None:
        """Read, change and write the auditor's state; no other process comes between."""
        with self._writing() as connection:
            row = connection.execute(
                "SELECT audit_state FROM tasks WHERE task_id = ? AND certificate_id = ?", (task_id, certificate_id)
            ).fetchone()
            if row is not None:
                state = change(None if row[0] is None else json.loads(row[0]))
                _update_task(connection, task_id, TaskChanges(audit_state=state))

    def adopt(self, certificate: Certificate) -> bool:
        """Certificate and mode in one transaction; False where a person holds the task back."""
        with self._writing() as connection:
            put_verdict(connection, certificate)
            held = connection.execute("SELECT is_held FROM tasks WHERE task_id = ?", (certificate.task_id,)).fetchone()
            if held is not None and held[0]:
                return False
            changes = TaskChanges(
                mode="serve",
                specialist_sha256=certificate.artefact_sha256,
                certificate_id=certificate.id,
                audit_state=None,
                drift_state=None,
            )
            _update_task(connection, certificate.task_id, changes)
        return True

    def add_event(self, event: Event) -> None:
        """Append an event."""
        with self._writing() as connection:
            put_event(connection, event)

    def events(self, task_id: str = "", limit: int = 100) -> list[Event]:
        """Newest first, of all tasks where `task_id` is empty."""
        condition, values = ("WHERE task_id = ?", (task_id,)) if task_id else ("", ())
        rows = self._rows(
            f"SELECT time_s, task_id, kind, message, details FROM events {condition} ORDER BY number DESC LIMIT ?",  # noqa: S608
            *values,
            limit,
        )
        return [
            Event(time_s=row[0], task_id=row[1], kind=row[2], message=row[3], details=json.loads(row[4]))
            for row in rows
        ]

    def event_counts(self) -> dict[tuple[str, str], int]:
        """How many events there were, by task id and kind."""
        rows = self._rows("SELECT task_id, kind, count(*) FROM events GROUP BY task_id, kind")
        return {(task_id, kind): n for task_id, kind, n in rows}


def _put_task(connection: sqlite3.Connection, record: TaskRecord) -> None:
    taken = connection.execute(
        "SELECT task_id FROM tasks WHERE name = ? AND task_id != ?", (record.name, record.task_id)
    ).fetchone()
    if taken:
        raise StoreError(f"Another task ({taken[0]}) is already called {record.name!r}.")
    connection.execute(
        "INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.task_id,
            record.name,
            record.instructions_id,
            record.instructions,
            msgspec.json.encode(record.shape).decode(),
            record.mode,
            record.specialist_sha256,
            record.certificate_id,
            record.is_held,
            _json(record.audit_state),
            _json(record.pace),
            record.updated_s,
            _json(record.drift_state),
            record.asked_s,
        ),
    )


def _update_task(connection: sqlite3.Connection, task_id: str, changes: TaskChanges) -> None:
    row: dict[str, object] = {**changes, "updated_s": time.time()}
    for name, encode in _ENCODED.items():
        if name in row:
            row[name] = encode(row[name])
    columns = ", ".join(f"{name} = ?" for name in row)  # the keys of TaskChanges, never a user's text
    found = connection.execute(f"UPDATE tasks SET {columns} WHERE task_id = ?", (*row.values(), task_id))  # noqa: S608
    if not found.rowcount:
        raise StoreError(f"The registry knows no task {task_id!r}.")


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value)


_ENCODED: dict[str, Callable[[object], str | None]] = {
    "shape": lambda shape: msgspec.json.encode(shape).decode(),
    "audit_state": _json,
    "pace": _json,
    "drift_state": _json,
}


def put_verdict(connection: sqlite3.Connection, verdict: Certificate | Refusal) -> None:
    """Append a verdict; one that is there already stays as it is."""
    certificate_id = verdict.id if isinstance(verdict, Certificate) else None
    connection.execute(
        "INSERT INTO verdicts (task_id, certificate_id, delta_spent, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (verdict.task_id, certificate_id, verdict.delta_spent, json.dumps(verdict.to_json())),
    )


def put_event(connection: sqlite3.Connection, event: Event) -> None:
    """Append an event."""
    row = (event.time_s, event.task_id, event.kind, event.message, json.dumps(event.details))
    connection.execute("INSERT INTO events (time_s, task_id, kind, message, details) VALUES (?, ?, ?, ?, ?)", row)


def _task(row: tuple[Any, ...]) -> TaskRecord:
    return TaskRecord(
        task_id=row[0],
        name=row[1],
        instructions_id=row[2],
        instructions=row[3],
        shape=_shape.decode(row[4]),
        mode=row[5],
        specialist_sha256=row[6],
        certificate_id=row[7],
        is_held=bool(row[8]),
        audit_state=None if row[9] is None else json.loads(row[9]),
        pace=None if row[10] is None else json.loads(row[10]),
        updated_s=row[11],
        drift_state=None if row[12] is None else json.loads(row[12]),
        asked_s=row[13],
    )
