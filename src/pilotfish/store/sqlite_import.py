"""From the spool into SQLite: batches of finished lines, each with the offset up to which they were read.

Offset and rows are committed together, so a crash at any moment neither loses a row nor imports one twice; a segment
is deleted only once its writer is gone and all of it is committed. One process imports at a time (a file lock).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from pilotfish.core.errors import StoreError
from pilotfish.core.log_row import AuditRow, GradeRow, InstructionsRow, RepeatRow, RequestRow, TriedRow
from pilotfish.store import sqlite_periods
from pilotfish.store.spool import GapRow, finished_lines, is_being_written, segments
from pilotfish.store.sqlite_file import connect, file_lock, transaction, translated
from pilotfish.store.sqlite_log import (
    AUDIT_COLUMNS,
    GRADE_COLUMNS,
    INSTRUCTIONS_COLUMNS,
    REPEAT_COLUMNS,
    REQUEST_COLUMNS,
    TRIED_COLUMNS,
)

IMPORT_EVERY_S = 0.5
_LIMIT = 1 << 63

AT_ONCE = 64
"""Rows in one statement. Each statement lets go of the interpreter and takes it back, and so keeps requests waiting."""

_log = logging.getLogger(__name__)


def _struct(kind: type[Any]) -> type[Any]:
    """A row of the log as a `msgspec.Struct`: read and taken apart in half the time of a dataclass."""
    hints = get_type_hints(kind)
    fields: list[Any] = [
        (item.name, hints[item.name], *(() if item.default is dataclasses.MISSING else (item.default,)))
        for item in dataclasses.fields(kind)
    ]
    return msgspec.defstruct(kind.__name__, fields, gc=False)


_RequestRow = _struct(RequestRow)
_Line = msgspec.defstruct(
    "_Line",
    [
        ("request", _RequestRow | None, None),
        ("audit", AuditRow | None, None),
        ("repeat", RepeatRow | None, None),
        ("tried", TriedRow | None, None),
        ("grade", GradeRow | None, None),
        ("instructions", InstructionsRow | None, None),
        ("gap", GapRow | None, None),
    ],
    gc=False,
)
_decode = msgspec.json.Decoder(_Line).decode


def _insert(table: str, columns: tuple[str, ...], conflict: str) -> Callable[[int], str]:
    """The statement for so many rows at once."""
    marks = f"({', '.join('?' * len(columns))})"

    @lru_cache(maxsize=2)
    def statement(n: int) -> str:
        rows = ", ".join([marks] * n)
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {rows} ON CONFLICT {conflict}"  # noqa: S608

    return statement


_INSERT = {
    _RequestRow: _insert("requests", REQUEST_COLUMNS, "DO NOTHING"),
    AuditRow: _insert("audits", AUDIT_COLUMNS, "DO NOTHING"),
    # Written before the call and again after it: the later one says more.
    RepeatRow: _insert(
        "repeats",
        REPEAT_COLUMNS,
        f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in REPEAT_COLUMNS)}",
    ),
    TriedRow: _insert(
        "tried", TRIED_COLUMNS, f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in TRIED_COLUMNS)}"
    ),
    GradeRow: _insert(
        "grades", GRADE_COLUMNS, f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in GRADE_COLUMNS)}"
    ),
    # The newest sighting counts, so that pruning keeps instructions that are in use.
    InstructionsRow: _insert(
        "instructions", INSTRUCTIONS_COLUMNS, "DO UPDATE SET time_s = max(time_s, excluded.time_s)"
    ),
    GapRow: _insert("gaps", ("n", "first_s", "last_s"), "DO NOTHING"),
}
_values: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    _RequestRow: msgspec.structs.astuple,
    AuditRow: attrgetter(*AUDIT_COLUMNS),
    RepeatRow: attrgetter(*REPEAT_COLUMNS),
    TriedRow: attrgetter(*TRIED_COLUMNS),
    GradeRow: attrgetter(*GRADE_COLUMNS),
    InstructionsRow: attrgetter(*INSTRUCTIONS_COLUMNS),
    GapRow: attrgetter("n", "first_s", "last_s"),
}


def import_spool(spool: Path, database: Path, connection: sqlite3.Connection | None = None) -> int:
    """Move all finished lines of the spool into the database; how many rows came in.

    Waits while another process is importing. A line that cannot be read is counted as a gap.
    Raises `StoreError` where the database cannot be written; the spool then keeps its rows.
    """
    with translated(database), file_lock(spool / "import.lock"):
        if connection is not None:
            return sum(_import_segment(connection, segment) for segment in segments(spool))
        with contextlib.closing(connect(database)) as own:
            return sum(_import_segment(own, segment) for segment in segments(spool))


def _import_segment(connection: sqlite3.Connection, segment: Path) -> int:
    # Asked before reading: what a writer that is gone has written is complete.
    is_finished = not is_being_written(segment)
    row = connection.execute("SELECT offset FROM imported WHERE segment = ?", (segment.name,)).fetchone()
    offset = row[0] if row else 0
    n = 0
    for lines in finished_lines(segment, offset, torn_too=is_finished):
        offset += sum(map(len, lines))
        with transaction(connection):
            n += _store(connection, lines)
            connection.execute(
                "INSERT INTO imported VALUES (?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset",
                (segment.name, offset),
            )
    if is_finished:
        segment.unlink()
        connection.execute("DELETE FROM imported WHERE segment = ?", (segment.name,))
    return n


def _store(connection: sqlite3.Connection, lines: Sequence[bytes]) -> int:
    """Insert the rows in `lines`; how many came in. A line that cannot be read is a gap of one row."""
    batches: dict[type, list[tuple[Any, ...]]] = {kind: [] for kind in _INSERT}
    for line in filter(bytes.strip, lines):
        row = _read(line)
        batches[type(row)].append(_values[type(row)](row))
    known = sqlite_periods.last_rows(connection)
    n = {kind: _put(connection, kind, rows) for kind, rows in batches.items()}
    sqlite_periods.add_since(connection, known)
    return sum(n.values()) - n[GapRow]


def _put(connection: sqlite3.Connection, kind: type, rows: list[tuple[Any, ...]]) -> int:
    """Insert rows of one kind; how many came in."""
    n, n_whole = 0, len(rows) - len(rows) % AT_ONCE
    for start in range(0, n_whole, AT_ONCE):
        values = list(chain.from_iterable(rows[start : start + AT_ONCE]))
        n += connection.execute(_INSERT[kind](AT_ONCE), values).rowcount
    if n_whole < len(rows):
        n += connection.executemany(_INSERT[kind](1), rows[n_whole:]).rowcount
    return n


def _read(line: bytes) -> Any:  # noqa: ANN401 - a row of one of the kinds in `_INSERT`
    try:
        decoded: Any = _decode(line)
        row = next((row for row in msgspec.structs.astuple(decoded) if row is not None), None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        row = None
    if row is None or not _is_storable(row):
        now_s = time.time()
        return GapRow(n=1, first_s=now_s, last_s=now_s)
    return row


def _is_storable(row: Any) -> bool:  # noqa: ANN401
    """Whether SQLite can hold it: a token count beyond 64 bits (a broken server) must not stop the import for good."""
    if isinstance(row, InstructionsRow | GradeRow | GapRow):
        return True
    return -_LIMIT <= (row.prompt_tokens or 0) < _LIMIT and -_LIMIT <= (row.completion_tokens or 0) < _LIMIT


class Importer:
    """Imports the spool every half second in a thread of its own.

    A failure (disk full, database locked for long) is said once, kept in `last_error` and tried again: the rows are
    safe in the spool meanwhile.
    """

    def __init__(self, spool: Path, database: Path, *, every_s: float = IMPORT_EVERY_S) -> None:
        self._spool = spool
        self._database = database
        self._every_s = every_s
        self.last_error = ""
        with translated(database):
            self._connection = connect(database)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pilotfish-importer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and import the rest. Close the writer first."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._connection):
            while not self._closing.wait(self._every_s):
                self._import()
            self._import()

    def _import(self) -> None:
        try:
            import_spool(self._spool, self._database, self._connection)
        except StoreError as error:
            if str(error) != self.last_error:
                _log.warning("Logged requests wait in the spool: %s", error)
            self.last_error = str(error)
        else:
            self.last_error = ""
