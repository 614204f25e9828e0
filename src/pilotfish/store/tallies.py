"""What each key has used, in memory that outlives the process and that all processes of a home share.

Each process maps a file of its own (`usage/0`, `usage/1`, ...) and writes only there; a total is the sum over all
files. So a request is counted in a microsecond, other processes see it at once, and killing the process forgets nothing
(a power loss may forget the last second). A request first enters what it needs and then looks at the total, so two
processes cannot both take the last of a budget. A process locks its file: one without a lock belongs to a process that
has ended. What that one held is given back, what it had counted stays, and the next process takes the file over. What a
limit means is known to `core/key.py`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from pilotfish.core.errors import StoreError
from pilotfish.core.key import KeyRecord, Limits, Unit, month_of, unit_of, window_of
from pilotfish.store.base import Exceeded
from pilotfish.store.sqlite_file import translated

MAGIC = 20261122.0
"""In the first place of each file: another number means another format, or a machine of other byte order."""

# The places of a record, each a double. Counts are followed by those that are only shown.
WINDOWS = ("minute", "day", "month")
_HELD_TOKENS, _HELD_USD = 3, 4
COUNTS = (
    "requests_per_minute",
    "tokens_per_minute",
    "requests_per_day",
    "tokens_per_day",
    "usd_per_day",
    "usd_per_month",
    "usd_total",
    "requests_total",
    "tokens_total",
)
_PLACE = {name: 5 + position for position, name in enumerate(COUNTS)}
_WINDOW_PLACE = {name: WINDOWS.index(window_of(name)) for name in COUNTS if window_of(name) != "total"}
UNITS: tuple[Unit, ...] = ("requests", "tokens", "usd")
_REQUESTS, _TOKENS, _USD = (tuple(_PLACE[name] for name in COUNTS if unit_of(name) == unit) for unit in UNITS)
_Stated = tuple[tuple[str, int, int | None, float], ...]
"""Limits as they are looked at: name, place, the place of the window, value."""
_IN_WINDOW = tuple(
    tuple(_PLACE[name] for name, place in _WINDOW_PLACE.items() if place == window) for window in range(3)
)
RECORD = 16
RECORD_BYTES = 8 * RECORD
GROW_BYTES = 64 << 10
"""Room for 512 keys; key 0, which there is none of, is the file's head."""


class MappedTallies:
    """`Tallies` in a folder. Raises `StoreError` where it cannot be used. For one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with translated(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            self._own = _own_file(folder)
        self._others: dict[str, _File] = {}
        self._known: dict[int, tuple[Limits, tuple[_Stated, _Stated, _Stated]]] = {}
        self.refresh()

    def count_request(self, key: KeyRecord, now_s: float) -> Exceeded | None:
        """Count one request, unless a limit on requests forbids it."""
        at = self._begin(key.number, now_s)
        doubles = self._own.doubles
        for place in _REQUESTS:
            doubles[at + place] += 1
        for name, place, window, limit in self._limits(key)[0]:
            if (used := self._total(at, place, window)) > limit:
                for counted in _REQUESTS:
                    doubles[at + counted] -= 1
                return Exceeded(limit=name, used=used - 1, value=limit)
        return None

    def reserve(
        self, key: KeyRecord, now_s: float, *, tokens: int, usd: float, least: tuple[int, float]
    ) -> Exceeded | None:
        """Hold tokens and money until they are settled, unless `least` of them exceeds what a limit has left."""
        at = self._begin(key.number, now_s)
        doubles = self._own.doubles
        doubles[at + _HELD_TOKENS] += tokens
        doubles[at + _HELD_USD] += usd
        _, *limits = self._limits(key)
        held = ((_HELD_TOKENS, tokens, least[0]), (_HELD_USD, usd, least[1]))
        for stated, (held_place, mine, needed) in zip(limits, held, strict=True):
            others_hold = self._total(at, held_place, None) - mine if stated else 0.0
            for name, place, window, limit in stated:
                used = self._total(at, place, window) + others_hold
                # What is used up is used up, also for a request that is thought to need nothing.
                if used + needed > limit or used >= limit:
                    doubles[at + _HELD_TOKENS] -= tokens
                    doubles[at + _HELD_USD] -= usd
                    return Exceeded(limit=name, used=used, value=limit)
        return None

    def settle(self, key: KeyRecord, now_s: float, *, held: tuple[int, float], used: tuple[int, float]) -> None:
        """Give back what was held, and count what was used in the windows of now."""
        at = self._begin(key.number, now_s)
        doubles = self._own.doubles
        if used[0]:
            for place in _TOKENS:
                doubles[at + place] += used[0]
        if used[1]:
            for place in _USD:
                doubles[at + place] += used[1]
        if held[0]:
            doubles[at + _HELD_TOKENS] = max(0.0, doubles[at + _HELD_TOKENS] - held[0])
        if held[1]:
            doubles[at + _HELD_USD] = max(0.0, doubles[at + _HELD_USD] - held[1])

    def used(self, key: KeyRecord, now_s: float, count: str) -> float:
        """What stands in one count of a key now, over all processes."""
        return self._total(self._begin(key.number, now_s), _PLACE[count], _WINDOW_PLACE.get(count))

    def refresh(self) -> None:
        """Take notice of other processes: those that have begun, and what those that were killed still hold."""
        with translated(self._folder):
            for path in _files(self._folder):
                if path.name != self._own.path.name and path.name not in self._others:
                    self._others[path.name] = _File(path)
            for other in self._others.values():
                if other.path.stat().st_size > len(other.doubles) * 8:
                    other.map()
                with other.locked() as is_ended:
                    if is_ended:
                        other.release_all()

    def flush(self) -> None:
        """Write what was counted to the disk, which guards it against a power loss; takes milliseconds."""
        self._own.memory.flush()

    def close(self) -> None:
        """Let go of the files; what was counted stays."""
        for file in (self._own, *self._others.values()):
            file.close()

    def _limits(self, key: KeyRecord) -> tuple[_Stated, _Stated, _Stated]:
        """The limits of a key by unit: requests, tokens, money."""
        known = self._known.get(key.number)
        if known is None or known[0] is not key.limits:
            stated = [
                (name, _PLACE[name], _WINDOW_PLACE.get(name), limit) for name, limit in key.limits.stated().items()
            ]
            requests, tokens, usd = (tuple(item for item in stated if unit_of(item[0]) == unit) for unit in UNITS)
            known = self._known[key.number] = (key.limits, (requests, tokens, usd))
        return known[1]

    def _begin(self, number: int, now_s: float) -> int:
        """The place of a key's record in our file, with windows that have ended counted from nothing again."""
        at = number * RECORD
        doubles = self._own.doubles
        if at + RECORD > len(doubles):
            with translated(self._own.path):
                self._own.grow((number + 1) * RECORD_BYTES)
            doubles = self._own.doubles
        if doubles[at] != now_s // 60:
            self._begin_windows(at, now_s)
        return at

    def _begin_windows(self, at: int, now_s: float) -> None:
        doubles = self._own.doubles
        for window, current in enumerate(_windows(now_s)):
            if doubles[at + window] != current:
                # In this order: who reads between sees an old window, never old counts in a new one.
                for place in _IN_WINDOW[window]:
                    doubles[at + place] = 0.0
                doubles[at + window] = current

    def _total(self, at: int, place: int, window: int | None) -> float:
        """One count of the record at `at` over all files, in the window that ours stands in."""
        doubles = self._own.doubles
        total = doubles[at + place]
        if self._others:
            current = None if window is None else doubles[at + window]
            for other in self._others.values():
                total += other.count(at, place, window, current)
        return total


def read_usage(folder: Path, number: int, now_s: float) -> dict[str, float]:
    """What one key has used in the windows of now, by the names of `COUNTS`; for commands."""
    at, current = number * RECORD, _windows(now_s)
    totals = dict.fromkeys(COUNTS, 0.0)
    with translated(folder):
        for path in _files(folder):
            with contextlib.closing(_File(path)) as file:
                for name in COUNTS:
                    window = _WINDOW_PLACE.get(name)
                    moment = None if window is None else current[window]
                    totals[name] += file.count(at, _PLACE[name], window, moment)
    return totals


class _File:
    """One process's file, mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self.fd)
            self.grow(GROW_BYTES)
            if self.doubles[0] not in (0.0, MAGIC):
                raise StoreError(
                    f"{str(path)!r} does not hold the use of keys, or that of another kind of machine.",
                    hint="Delete it to count from nothing again.",
                )
            self.doubles[0] = MAGIC
            undo.pop_all()

    def grow(self, n_bytes: int) -> None:
        """Make room. Zeros are written, since a hole could not be filled any more once the disk is full."""
        size = os.fstat(self.fd).st_size
        wanted = -(-n_bytes // GROW_BYTES) * GROW_BYTES
        if size < wanted:
            written = os.pwrite(self.fd, bytes(wanted - size), size)
            if written < wanted - size:
                os.ftruncate(self.fd, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.map()

    def map(self) -> None:
        """Map the file as long as it is now."""
        self.memory = mmap.mmap(self.fd, os.fstat(self.fd).st_size)
        self.doubles = memoryview(self.memory).cast("d")

    def count(self, at: int, place: int, window: int | None, current: float | None) -> float:
        """One count of the record at `at`, 0 where its window is another than `current`."""
        if at >= len(self.doubles) or (window is not None and self.doubles[at + window] != current):
            return 0.0
        return self.doubles[at + place]

    def release_all(self) -> None:
        """Give back everything that is held."""
        for place in (_HELD_TOKENS, _HELD_USD):
            for at in range(RECORD, len(self.doubles), RECORD):
                if self.doubles[at + place]:
                    self.doubles[at + place] = 0.0

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether nobody else holds the file; nobody does inside."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Unmap and let go of the lock."""
        self.doubles.release()
        self.memory.close()
        os.close(self.fd)


def _own_file(folder: Path) -> _File:
    """The first file that no living process holds, locked; what its last holder held is given back."""
    for number in itertools.count():
        file = _File(folder / str(number))
        try:
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        file.release_all()
        return file
    raise AssertionError


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def _windows(now_s: float) -> tuple[float, float, float]:
    return now_s // 60, now_s // 86400, float(month_of(now_s))
