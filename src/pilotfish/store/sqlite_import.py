"""From the spool into SQLite: batches of finished lines, each with the offset up to which they were read.

Offset and rows are committed together, so a crash at any moment neither loses a row nor imports one twice; a segment
is deleted only once its writer is gone and all of it is committed. One process imports at a time (a file lock).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import msgspec

from pilotfish.core.errors import StoreError
from pilotfish.core.log_row import AuditRow, InstructionsRow, LogRow, RepeatRow, RequestRow
from pilotfish.store.spool import GapRow, SpoolLine, finished_lines, is_being_written, segments
from pilotfish.store.sqlite_file import connect, file_lock, transaction, translated
from pilotfish.store.sqlite_log import AUDIT_COLUMNS, INSTRUCTIONS_COLUMNS, REPEAT_COLUMNS, REQUEST_COLUMNS

IMPORT_EVERY_S = 0.5
_LIMIT = 1 << 63

_decode = msgspec.json.Decoder(SpoolLine).decode
_log = logging.getLogger(__name__)


def _insert(table: str, columns: tuple[str, ...], conflict: str) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT {conflict}"  # noqa: S608


_INSERT = {
    RequestRow: _insert("requests", REQUEST_COLUMNS, "DO NOTHING"),
    AuditRow: _insert("audits", AUDIT_COLUMNS, "DO NOTHING"),
    # Written before the call and again after it: the later one says more.
    RepeatRow: _insert(
        "repeats",
        REPEAT_COLUMNS,
        f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in REPEAT_COLUMNS)}",
    ),
    # The newest sighting counts, so that pruning keeps instructions that are in use.
    InstructionsRow: _insert(
        "instructions", INSTRUCTIONS_COLUMNS, "DO UPDATE SET time_s = max(time_s, excluded.time_s)"
    ),
    GapRow: "INSERT INTO gaps (n, first_s, last_s) VALUES (?, ?, ?)",
}
_values = {
    RequestRow: attrgetter(*REQUEST_COLUMNS),
    AuditRow: attrgetter(*AUDIT_COLUMNS),
    RepeatRow: attrgetter(*REPEAT_COLUMNS),
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
    batches: dict[type, list[tuple[object, ...]]] = {kind: [] for kind in _INSERT}
    for line in filter(bytes.strip, lines):
        row = _read(line)
        batches[type(row)].append(_values[type(row)](row))
    n = {kind: connection.executemany(_INSERT[kind], rows).rowcount for kind, rows in batches.items() if rows}
    return sum(n.values()) - n.get(GapRow, 0)


def _read(line: bytes) -> LogRow | GapRow:
    try:
        decoded = _decode(line)
        row = decoded.request or decoded.audit or decoded.repeat or decoded.instructions or decoded.gap
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        row = None
    if row is None or not _is_storable(row):
        now_s = time.time()
        return GapRow(n=1, first_s=now_s, last_s=now_s)
    return row


def _is_storable(row: LogRow | GapRow) -> bool:
    """Whether SQLite can hold it: a token count beyond 64 bits (a broken server) must not stop the import for good."""
    if not isinstance(row, RequestRow | AuditRow | RepeatRow):
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
