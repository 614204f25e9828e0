"""The spool: what is on disk after an append, a kill, a full disk, a roll."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from pilotfish.core.errors import StoreError
from pilotfish.core.log_row import AuditRow, InstructionsRow, RequestRow
from pilotfish.store.spool import GapRow, Spool, finished_lines, is_being_written, segments
from tools.log_rows import audit_row, instructions_row, local_row, request_row

TESTS = Path(__file__).parents[2]


class Line(msgspec.Struct):
    """One line of a segment: an object whose only key is the kind of its row."""

    request: RequestRow | None = None
    audit: AuditRow | None = None
    instructions: InstructionsRow | None = None
    gap: GapRow | None = None


decode = msgspec.json.Decoder(Line).decode


def lines(folder: Path) -> list[Line]:
    return [decode(line) for segment in segments(folder) for line in segment.read_bytes().splitlines()]


def test_a_row_is_on_disk_as_it_was_when_append_returns(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    rows = [request_row(), local_row("r1"), audit_row("r1"), instructions_row()]
    for row in rows:
        spool.append(row)
    found = lines(tmp_path)
    spool.close()
    assert [line.request or line.audit or line.instructions for line in found] == rows
    assert spool.n_gaps == 0


def test_half_a_surrogate_pair_does_not_lose_the_row(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(request_row(input="a\ud83d\u00fc"))
    spool.close()
    assert lines(tmp_path)[0].request == request_row(input="a?\u00fc")


def test_a_segment_is_held_while_its_writer_lives(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (segment,) = segments(tmp_path)
    assert is_being_written(segment)
    spool.close()
    assert not is_being_written(segment)


def test_segments_roll_by_size_and_by_age(tmp_path: Path) -> None:
    for folder, limits in (("size", {"segment_bytes": 2000}), ("age", {"segment_s": 0.02})):
        (tmp_path / folder).mkdir()
        spool = Spool(tmp_path / folder, sync_every_s=0.01, **limits)
        deadline = time.monotonic() + 120
        n = 0
        while len(segments(tmp_path / folder)) < 3 and time.monotonic() < deadline:
            spool.append(request_row(f"r{n}"))
            n += 1
            time.sleep(0.001)
        spool.close()
        assert len(segments(tmp_path / folder)) >= 3
        assert [line.request.request_id for line in lines(tmp_path / folder) if line.request] == [
            f"r{i}" for i in range(n)
        ]


def test_several_threads_may_append_while_segments_roll(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=20_000, sync_every_s=0.001)
    names = [[f"r{thread}-{i}" for i in range(300)] for thread in range(4)]
    threads = [
        threading.Thread(target=lambda mine=mine: [spool.append(request_row(n)) for n in mine]) for mine in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.close()
    assert spool.n_gaps == 0
    assert sorted(line.request.request_id for line in lines(tmp_path) if line.request) == sorted(
        itertools.chain(*names)
    )


def test_only_finished_lines_are_given_until_the_writer_is_gone(tmp_path: Path) -> None:
    segment = tmp_path / "1.jsonl"
    segment.write_bytes(b"one\ntwo\nthr")
    assert list(finished_lines(segment, 0, torn_too=False)) == [[b"one\n", b"two\n"]]
    assert list(finished_lines(segment, 4, torn_too=False)) == [[b"two\n"]]
    assert list(finished_lines(segment, 8, torn_too=False)) == []
    assert list(finished_lines(segment, 8, torn_too=True)) == [[b"thr"]]


FULL_DISK = """
import resource, sys
from pathlib import Path
from pilotfish.core.log_row import AuditRow, InstructionsRow, RequestRow
from pilotfish.store.spool import Spool
from tools.log_rows import request_row
spool = Spool(Path(sys.argv[1]))
n_written = 0
def fill(until):
    global n_written
    for i in range(until):
        before = spool.n_gaps
        spool.append(request_row(f"r{i}", input="x" * 1000))
        if spool.n_gaps == before:
            print(f"r{i}", flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
fill(20)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append(request_row("after"))
spool.append(request_row("later"))
print("gaps", spool.n_gaps, flush=True)
if sys.argv[2] == "close":
    spool.close()
else:
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("ending", ["close", "kill"])
def test_a_full_disk_costs_rows_but_no_reply_and_is_written_down(tmp_path: Path, ending: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), ending],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=TESTS,
    )
    assert done.stderr == ""
    *written, last = done.stdout.splitlines()
    n_gaps = int(last.removeprefix("gaps "))
    assert 0 < len(written) < 20
    assert n_gaps == 20 - len(written)
    found = lines(tmp_path)
    assert [line.request.request_id for line in found if line.request] == [*written, "after", "later"]
    assert [line.gap.n for line in found if line.gap] == [n_gaps]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left_never_raises(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, spool._fd)
    os.close(full)
    for i in range(3):
        spool.append(request_row(f"r{i}"))
    assert spool.n_gaps == 3
    spool.close()


def test_rows_after_close_are_gaps(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.close()
    spool.append(request_row())
    assert spool.n_gaps == 1
    assert lines(tmp_path) == []
    spool.close()


def test_where_no_new_segment_can_be_opened_the_old_one_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=100, sync_every_s=0.01)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        for i in range(5):
            spool.append(request_row(f"r{i}"))
            time.sleep(0.02)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    first = segments(tmp_path)[0]  # another may have been opened since it can be
    assert len(first.read_bytes().splitlines()) == 5
    spool.close()
    assert spool.n_gaps == 0


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        Spool(tmp_path / "absent")


def test_segments_of_one_millisecond_stay_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    expected = []
    for i in range(120):
        spool = Spool(tmp_path)
        spool.append(request_row(f"r{i}"))
        spool.close()
        expected.append(f"r{i}")
    assert [line.request.request_id for line in lines(tmp_path) if line.request] == expected


WRITER = """
import os, sys
from pathlib import Path
from pilotfish.core.log_row import AuditRow, InstructionsRow, RequestRow
from pilotfish.store.spool import Spool
from tools.log_rows import request_row
spool = Spool(Path(sys.argv[1]), segment_bytes=50_000, sync_every_s=0.01)
i = 0
while True:
    spool.append(request_row(f"r{i}"))
    os.write(1, f"r{i}\\n".encode())
    i += 1
"""


def test_a_killed_writer_leaves_every_acknowledged_row_and_unlocked_segments(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=TESTS)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(2000)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [line for line in process.stdout if line.endswith(b"\n")]
    process.stdout.close()
    process.wait()
    written = [line for segment in segments(tmp_path) for line in segment.read_bytes().splitlines(keepends=True)]
    names = [f"{row.request.request_id}\n".encode() for line in written if (row := decode(line)).request]
    assert names[: len(acknowledged)] == acknowledged
    assert not any(is_being_written(segment) for segment in segments(tmp_path))
