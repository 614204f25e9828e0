"""The spool: where request rows go first. One `write()` a row, appended to a segment file.

A row whose `append` has returned lies in the kernel's page cache, so killing the process cannot lose it (a queue in
memory loses what it holds); a thread calls fdatasync against power loss. The same thread opens the next segment, so the
request path only encodes and writes. The writer holds a lock on its segment: a segment without one is finished, even
where its writer was killed. A row that cannot be written (disk full) is counted, and the count is written down
once writing works again. What becomes of the segments is known to `sqlite_import.py`, not here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pilotfish.core.errors import StoreError
from pilotfish.core.log_row import AuditRow, GradeRow, InstructionsRow, LogRow, RepeatRow, RequestRow, TriedRow

SEGMENT_BYTES = 16 << 20
SEGMENT_S = 60.0
SYNC_EVERY_S = 0.5
BATCH_BYTES = 1 << 20
"""What is read at once: about 2,000 rows of 500 bytes."""

_SUFFIX = ".jsonl"
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
_numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """How many rows could not be written between two times."""

    n: int
    first_s: float
    last_s: float


# A line is an object whose only key is the kind of its row.
_PREFIX: dict[type, bytes] = {
    RequestRow: b'{"request":',
    AuditRow: b'{"audit":',
    RepeatRow: b'{"repeat":',
    TriedRow: b'{"tried":',
    GradeRow: b'{"grade":',
    InstructionsRow: b'{"instructions":',
    GapRow: b'{"gap":',
}
_encode = msgspec.json.Encoder().encode


class Spool:
    """A `LogWriter` that appends to segment files in a folder. Safe from several threads and processes."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_s: float = SEGMENT_S,
        sync_every_s: float = SYNC_EVERY_S,
    ) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segment_s = segment_s
        self._sync_every_s = sync_every_s
        self._lock = threading.Lock()
        self._n_gaps = 0
        self._gap: GapRow | None = None
        self._size = 0
        self._is_torn = False
        self._opened_s = time.monotonic()
        try:
            self._fd = _open_segment(folder)
        except OSError as error:
            raise StoreError(f"The log cannot be written in {str(folder)!r}: {error.strerror}.") from error
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._tend, name="pilotfish-spool", daemon=True)
        self._thread.start()

    @property
    def n_gaps(self) -> int:
        """Rows that could not be written since the start."""
        return self._n_gaps

    def is_writable(self) -> bool:
        """Whether rows can be written; how many could not be is written down as soon as that is so again."""
        with self._lock:
            try:
                self._write(b"")
            except OSError:
                return False
            return True

    def append(self, row: LogRow) -> None:
        """Write one row; it survives a kill of the process from here on. A failure is counted as a gap."""
        data = _encoded(row)
        with self._lock:
            try:
                self._write(data)
            except OSError:
                self._count_gap()
        if self._size > self._segment_bytes:
            self._wake.set()

    def close(self) -> None:
        """Report outstanding gaps, sync and let go of the segment. Rows appended later are gaps."""
        self._is_closing = True
        self._wake.set()
        self._thread.join()
        with self._lock:
            with contextlib.suppress(OSError):
                self._write(b"")
            fd, self._fd = self._fd, -1
        if fd >= 0:
            _sync_and_close(fd)

    def _write(self, data: bytes) -> None:
        """One `write()` of a row, with the gap before it where there is one; a half-written row is taken back."""
        if self._gap is not None:
            data = _encoded(self._gap) + data
        if self._is_torn:
            data = b"\n" + data
        if not data:
            return
        written = os.write(self._fd, data)
        if written < len(data):
            self._is_torn = True
            os.ftruncate(self._fd, self._size)
            self._is_torn = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written
        self._is_torn = False
        self._gap = None

    def _count_gap(self) -> None:
        self._n_gaps += 1
        now_s = time.time()
        gap = self._gap or GapRow(n=0, first_s=now_s, last_s=now_s)
        self._gap = GapRow(n=gap.n + 1, first_s=gap.first_s, last_s=now_s)

    def _tend(self) -> None:
        synced_size = 0
        while not self._is_closing:
            self._wake.wait(self._sync_every_s)
            self._wake.clear()
            age_s = time.monotonic() - self._opened_s
            if self._size > self._segment_bytes or (self._size and age_s > self._segment_s):
                self._roll()
                synced_size = 0
            elif self._size != synced_size:
                synced_size = self._size
                _sync_quietly(self._fd)

    def _roll(self) -> None:
        """Go on in a new segment; where none can be opened, in the old one."""
        try:
            fresh = _open_segment(self._folder)
        except OSError:
            time.sleep(self._sync_every_s)
            return
        with self._lock:
            full, self._fd = self._fd, fresh
            self._size = 0
            self._is_torn = False
            self._opened_s = time.monotonic()
        _sync_and_close(full)


def segments(folder: Path) -> list[Path]:
    """The segment files of a spool, oldest first."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def is_being_written(segment: Path) -> bool:
    """Whether a living writer still holds the segment."""
    fd = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def finished_lines(segment: Path, offset: int, *, torn_too: bool) -> Iterator[list[bytes]]:
    """The lines from `offset` on, in lists of about `BATCH_BYTES`.

    A last line without its line break is still being written; `torn_too` gives it as well, when its writer is gone.
    """
    with segment.open("rb") as file:
        file.seek(offset)
        while lines := file.readlines(BATCH_BYTES):
            if not torn_too and not lines[-1].endswith(b"\n"):
                if lines[:-1]:
                    yield lines[:-1]
                return
            yield lines


def _open_segment(folder: Path) -> int:
    """A new, locked segment. It gets its name only once locked, so that nobody takes it for a finished one."""
    # Several a millisecond are told apart by their number, which has its zeros so that names sort as they came.
    name = f"{time.time_ns() // 1_000_000:013d}-{os.getpid()}-{next(_numbers):012d}"
    hidden = folder / f"{name}.new"
    fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        hidden.rename(folder / f"{name}{_SUFFIX}")
    except OSError:
        os.close(fd)
        raise
    return fd


def _encoded(row: LogRow | GapRow) -> bytes:
    try:
        data = _encode(row)
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can spell and UTF-8 cannot, becomes a question mark.
        data = json.dumps(dataclasses.asdict(row), ensure_ascii=False).encode("utf-8", "replace")
    return _PREFIX[type(row)] + data + b"}\n"


def _sync_quietly(fd: int) -> None:
    # The rows stay readable in the page cache; nobody could act on a failed sync before the next one.
    with contextlib.suppress(OSError):
        _sync(fd)


def _sync_and_close(fd: int) -> None:
    _sync_quietly(fd)
    os.close(fd)
