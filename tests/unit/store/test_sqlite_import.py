"""The importer: torn lines, crashes between any two steps, two importers at once, a full disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from pilotfish.core.errors import StoreError
from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_importer, open_log
from pilotfish.store.spool import Spool, segments
from pilotfish.store.sqlite_import import AT_ONCE, import_spool
from pilotfish.store.sqlite_log import SqliteLog
from tools.log_rows import request_row


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    SqliteLog(tmp_path / "log.db")
    return tmp_path / "spool"


def write(spool: Path, *names: str) -> None:
    writer = Spool(spool)
    for name in names:
        writer.append(request_row(name))
    writer.close()


def ids(spool: Path) -> list[str]:
    return [row.request_id for row in SqliteLog(spool.parent / "log.db").rows(LogFilter())]


def run(spool: Path) -> int:
    return import_spool(spool, spool.parent / "log.db")


def test_the_open_segment_is_imported_line_by_line_and_kept(spool: Path) -> None:
    writer = Spool(spool)
    writer.append(request_row("a"))
    assert (run(spool), run(spool)) == (1, 0)
    assert len(segments(spool)) == 1
    writer.append(request_row("b"))
    writer.append(request_row("c"))
    assert run(spool) == 2
    writer.close()
    assert run(spool) == 0
    assert segments(spool) == []
    assert ids(spool) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "torn", [b'{"request":{"request_id":"x","ti', b"\x00" * 40, b"\xff\xfe{", b'{"request":{}}\n', b"{}\n"]
)
def test_a_torn_line_is_skipped_and_counted(spool: Path, torn: bytes) -> None:
    write(spool, "a", "b")
    (segment,) = segments(spool)
    segment.write_bytes(segment.read_bytes() + torn)
    write(spool, "c")
    assert run(spool) == 3
    assert ids(spool) == ["a", "b", "c"]
    assert SqliteLog(spool.parent / "log.db").n_gaps() == 1
    assert segments(spool) == []


def test_a_torn_line_in_the_middle_costs_only_itself(spool: Path) -> None:
    write(spool, "a", "b", "c")
    (segment,) = segments(spool)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(lines[0] + lines[1][:50] + b"\n\n" + lines[2])
    assert run(spool) == 2
    assert SqliteLog(spool.parent / "log.db").n_gaps() == 1


def test_a_number_too_large_for_the_database_does_not_stop_the_import(spool: Path) -> None:
    writer = Spool(spool)
    writer.append(request_row("a", prompt_tokens=1 << 70))
    writer.append(request_row("b"))
    writer.close()
    assert run(spool) == 1
    assert ids(spool) == ["b"]
    assert SqliteLog(spool.parent / "log.db").n_gaps() == 1


def test_a_crash_between_commit_and_deletion_repeats_nothing(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Spool(spool)
    writer.append(request_row("a"))
    fd, writer._fd = writer._fd, -1
    writer.append(request_row("lost"))
    writer._fd = fd
    writer.append(request_row("b"))
    writer.close()
    monkeypatch.setattr(Path, "unlink", lambda self: (_ for _ in ()).throw(OSError(5, "crashed here")))
    with pytest.raises(StoreError, match="crashed here"):
        run(spool)
    monkeypatch.undo()
    assert run(spool) == 0
    assert ids(spool) == ["a", "b"]
    assert SqliteLog(spool.parent / "log.db").n_gaps() == 1
    assert segments(spool) == []


IMPORTER = """
import sys
from pathlib import Path
from pilotfish.store.sqlite_import import import_spool
home = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(import_spool(home / "spool", home / "log.db"))
"""


def start_importer(spool: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTER, str(spool.parent)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_importers_at_once_share_the_rows_and_repeat_none(spool: Path) -> None:
    names = [f"r{i}" for i in range(20_000)]
    write(spool, *names)
    processes = [start_importer(spool) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    done = [process.communicate(timeout=120) for process in processes]
    assert [error for _, error in done] == ["", ""]
    assert sorted(int(out) for out, _ in done) == [0, 20_000]
    assert sorted(ids(spool)) == sorted(names)


def test_a_killed_importer_neither_loses_nor_repeats(spool: Path) -> None:
    names = [f"r{i}" for i in range(20_000)]
    write(spool, *names)
    process = start_importer(spool)
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    deadline = time.monotonic() + 120
    while not ids(spool) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    already = len(ids(spool))
    assert 0 < already < 20_000
    assert run(spool) == 20_000 - already
    assert sorted(ids(spool)) == sorted(names)


FULL = """
import resource, sys
from pathlib import Path
from pilotfish.core.errors import StoreError
from pilotfish.store.sqlite_import import import_spool
home = Path(sys.argv[1])
limit = (home / "log.db").stat().st_size + 200_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    import_spool(home / "spool", home / "log.db")
except StoreError as error:
    print(error)
"""


def test_a_full_disk_while_importing_keeps_the_rows_in_the_spool(spool: Path) -> None:
    names = [f"r{i}" for i in range(2000)]
    write(spool, *names)
    done = subprocess.run([sys.executable, "-c", FULL, str(spool.parent)], capture_output=True, text=True, check=True)
    assert "log.db" in done.stdout
    assert done.stderr == ""
    assert len(segments(spool)) == 1
    assert run(spool) == 2000
    assert len(ids(spool)) == 2000


def test_the_importer_thread_outlives_a_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = open_log(tmp_path)
    importer = open_importer(tmp_path)
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        connection.execute("ALTER TABLE requests RENAME TO away")
        write(tmp_path / "spool", "a")
        deadline = time.monotonic() + 120
        while not importer.last_error and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "requests" in importer.last_error
        connection.execute("ALTER TABLE away RENAME TO requests")
    importer.close()
    assert importer.last_error == ""
    assert [record.getMessage()[:33] for record in caplog.records] == ["Logged requests wait in the spool"]
    assert [row.request_id for row in log.rows(LogFilter())] == ["a"]
    assert os.listdir(tmp_path / "spool") == ["import.lock"]


def test_rows_beyond_one_statement_are_all_counted_and_come_once(spool: Path) -> None:
    names = [f"{number:03}" for number in range(2 * AT_ONCE + 1)]
    write(spool, *names, "000", "001")
    assert run(spool) == len(names)
    assert ids(spool) == names
