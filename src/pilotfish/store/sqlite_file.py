"""Opening an SQLite file: settings, schema migrations, and the translation of its errors.

It knows how Pilotfish treats any of its databases, and nothing of what stands in them. Migrations are numbered by
their position, append-only and applied once; a database written by a newer version is refused rather than guessed at.
`sqlite3.Error` leaves the store as `StoreError` only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from pilotfish.core.errors import StoreError

BUSY_S = 30.0
"""How long a writer waits for another one; a pruning of a million rows takes seconds."""


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise any `sqlite3.Error` or `OSError` inside as a `StoreError` that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{str(path)!r} cannot be used: {error}.") from error
    except OSError as error:
        raise StoreError(f"{error.filename or str(path)!r} cannot be used: {error.strerror or error}.") from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from any one thread at a time. Raises `sqlite3.Error`.

    Write-ahead logging lets readers run beside the writer. Commits are synced (FULL, not NORMAL): the importer
    deletes spool segments after a commit, which must then survive a power loss. One sync a batch costs 4 ms.
    """
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All writes inside, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def migrate(path: Path, migrations: Sequence[str]) -> None:
    """Create the database where there is none (readable by its owner only) and bring its schema up to date.

    Raises `StoreError` where it cannot be written, is no database, or was written by a newer version.
    """
    with translated(path), file_lock(path.with_suffix(".lock")), contextlib.closing(_owned(path)) as connection:
        done = connection.execute("PRAGMA user_version").fetchone()[0]
        if done > len(migrations):
            raise StoreError(
                f"{str(path)!r} was written by a newer Pilotfish (schema {done}; this one knows {len(migrations)}).",
                hint="Upgrade Pilotfish, or choose another --home.",
            )
        for number, migration in enumerate(migrations[done:], start=done + 1):
            connection.executescript(f"BEGIN IMMEDIATE; {migration}; PRAGMA user_version = {number}; COMMIT;")


def _owned(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    connection = connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for, then hold, the lock that `path` stands for. The kernel lets go of it however the process ends."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
