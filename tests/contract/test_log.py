"""The promises of `LogWriter` and `Log` together: what was appended is what can be asked for."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pilotfish.core.log_row import LogRow
from pilotfish.store.base import Log, LogFilter
from pilotfish.store.build import open_importer, open_log, open_writer
from pilotfish.store.periods import PeriodFilter
from tools.log_rows import (
    audit_row,
    grade_row,
    instructions_row,
    local_row,
    repeat_row,
    request_row,
    tried_row,
)

TESTS = Path(__file__).parents[1]
Fill = Callable[..., Log]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Appends rows and gives a log that holds them."""

    def filled(*rows: LogRow) -> Log:
        writer = open_writer(tmp_path / "home")
        for row in rows:
            writer.append(row)
        log = open_log(tmp_path / "home")  # the segment is still open
        writer.close()
        return log

    return filled


def ids(log: Log, **where: object) -> list[str]:
    return [row.request_id for row in log.rows(LogFilter(**where))]  # type: ignore[arg-type]


def test_rows_come_back_as_they_were_written(fill: Fill) -> None:
    rows = [
        request_row(),
        request_row("r1", input=None, answer=None, reference_answer=None, cost_usd=None),
        local_row("r2"),
    ]
    log = fill(*rows, instructions_row())
    assert list(log.rows(LogFilter())) == rows
    assert log.row("r1") == rows[1]
    assert log.row("absent") is None
    assert log.instructions("i") == instructions_row()
    assert log.instructions("absent") is None


def test_filters(fill: Fill) -> None:
    log = fill(
        request_row("r3", time_s=3.0),
        request_row("r1", time_s=1.0, task_id="u", reason="uncertain"),
        request_row("r2", time_s=2.0, status=503),
        request_row("r0", time_s=0.0, error="hung up", instructions_id="j"),
        request_row("r2b", time_s=2.0),
    )
    assert ids(log) == ["r0", "r1", "r2", "r2b", "r3"]
    assert ids(log, newest_first=True) == ["r3", "r2b", "r2", "r1", "r0"]
    assert ids(log, task_id="t") == ["r0", "r2", "r2b", "r3"]
    assert ids(log, since_s=2.0) == ["r2", "r2b", "r3"]
    assert ids(log, reason="uncertain") == ["r1"]
    assert ids(log, errors_only=True) == ["r0", "r2"]
    assert ids(log, newest_first=True, limit=2) == ["r3", "r2b"]
    assert ids(log, task_id="t", limit=0) == []


@pytest.mark.parametrize("is_audit_first", [False, True])
@pytest.mark.parametrize("is_apart", [False, True])
def test_an_audit_is_merged_into_its_request_whichever_comes_first(
    fill: Fill, is_audit_first: bool, is_apart: bool
) -> None:
    rows: list[LogRow] = [local_row(probability=0.02), audit_row()]
    rows = rows[::-1] if is_audit_first else rows
    if is_apart:
        fill(rows[0])
    log = fill(*rows[is_apart:])
    merged = local_row(probability=0.02, reference_answer="refund", sampling="audit")
    assert log.row("r0") == merged
    assert list(log.rows(LogFilter())) == [merged]
    assert log.audit("r0") == audit_row()
    assert [count.n_reference_known for count in log.task_counts()] == [1]


def test_a_failed_audit_is_no_evidence(fill: Fill) -> None:
    log = fill(local_row(), audit_row(reference_answer=None, status=500, error="down"))
    assert log.row("r0") == local_row()
    assert log.task_counts()[0].n_reference_known == 0


def test_repeats_are_rows_of_their_own(fill: Fill) -> None:
    asked = repeat_row("r0", 2, status=0, reference_answer=None, cost_usd=None)
    answered = repeat_row("r0", 2, prompt_tokens=3, completion_tokens=1)
    log = fill(request_row(), asked, answered, repeat_row("r0"), repeat_row("r1", is_sampled=False))
    assert log.repeats("r0") == [repeat_row("r0"), answered]
    assert log.repeats() == [repeat_row("r0"), answered, repeat_row("r1", is_sampled=False)]
    assert log.repeats("absent") == []
    assert log.row("r0") == request_row()
    assert log.task_counts()[0].n_reference_known == 1


def test_pruning_forgets_what_was_said_again_but_not_that_it_was_paid(fill: Fill) -> None:
    log = fill(request_row("r0", time_s=1.0), request_row("r1", time_s=3.0), repeat_row("r0"), repeat_row("r1"))
    assert log.prune(2.5) == 1
    (old, new) = log.repeats()
    assert (old.reference_answer, old.is_answered, old.cost_usd, old.task_id) == (None, False, 0.25, "t")
    assert new == repeat_row("r1")


def test_what_a_smaller_model_said_and_how_it_was_graded_are_rows_of_their_own(fill: Fill) -> None:
    asked = tried_row(status=0, tried=None, cost_usd=None)
    later = grade_row(time_s=3.0, scores='{"big": 0.0}', comment=None, key_id="k")
    log = fill(request_row(), asked, tried_row(), tried_row("r1", time_s=9.0), grade_row(), later)
    assert log.tried("r0") == [tried_row()]
    assert log.tried() == [tried_row(), tried_row("r1", time_s=9.0)]
    assert log.grades("r0") == [later]
    assert (log.tried("absent"), log.grades("absent")) == ([], [])
    assert log.row("r0") == request_row()


def test_what_collecting_cost_is_what_was_set_aside_where_that_is_not_known(fill: Fill) -> None:
    log = fill(
        tried_row("r0"),
        tried_row("r1", cost_usd=None),
        tried_row("r2", purpose="audit"),
        tried_row("r3", time_s=0.5),
    )
    assert log.collected_usd(1.0) == 0.25 + 0.5
    assert log.collected_usd(5.0) == 0.0


def test_pruning_forgets_what_was_collected_and_marked_but_not_that_it_was_paid(fill: Fill) -> None:
    log = fill(request_row("r0", time_s=1.0), tried_row("r0"), tried_row("r1", time_s=9.0), grade_row("r0"))
    log.prune(2.5)
    (old, new) = log.tried()
    assert (old.prompt, old.tried, old.cost_usd) == (None, None, 0.25)
    assert new == tried_row("r1", time_s=9.0)
    assert log.grades()[0].comment is None


def test_periods_add_up_what_happened(fill: Fill) -> None:
    fill(
        request_row("r0"),
        request_row("r1", cost_usd=None, latency_s=1.5),
        request_row("r2", status=503, error="down", cost_usd=None),
        local_row("r3", cost_usd=0.0, latency_s=0.01),
        request_row("r4", task_id="u", reason="other-model", sampling="none"),
        repeat_row("r0", status=0, reference_answer=None, cost_usd=None),
    )
    log = fill(
        request_row("r0"),  # twice in the spool is once in the log
        local_row("r5", time_s=3700.0, cost_usd=0.0),
        audit_row("r3", task_id="t", loss=1.0, cost_usd=0.5, latency_s=2.0),
        audit_row("r5", task_id="t", time_s=3701.0, error="down", status=503),
        repeat_row("r0"),
    )
    (every,) = log.periods(PeriodFilter(since_s=0.0))
    assert (every.task_id, every.n_requests, every.n_local, every.n_failed) == ("", 6, 2, 1)
    task, other = log.periods(PeriodFilter(since_s=0.0, by="task"))
    assert (task.n_requests, task.n_reference, task.reference_s, task.n_reference_priced) == (5, 2, 2.0, 1)
    assert (task.reference_usd, task.cost_usd, task.n_unpriced, task.local_s) == (0.25, 0.25, 1, 0.51)
    assert (task.n_audits, task.n_audits_priced, task.audit_usd, task.audit_s) == (1, 1, 0.5, 2.0)
    assert (task.n_judged, task.losses, task.n_repeats, task.repeat_usd) == (1, 1.0, 1, 0.25)
    assert (other.task_id, other.n_requests, other.n_reference, other.cost_usd) == ("u", 1, 0, 0.25)
    assert [(p.start_s, p.n_requests) for p in log.periods(PeriodFilter(since_s=0.0, step_s=3600, task_id="t"))] == [
        (0.0, 4),
        (3600.0, 1),
    ]
    assert [p.n_requests for p in log.periods(PeriodFilter(since_s=3599.0, step_s=7200))] == [6]
    assert log.periods(PeriodFilter(since_s=3600.0))[0].n_requests == 1
    assert log.periods(PeriodFilter(since_s=0.0, until_s=3600.0))[0].n_requests == 5
    assert [row.request_id for row in log.differing("t", 5)] == ["r3"]
    by_model = log.periods(PeriodFilter(since_s=0.0, by="model"))
    assert sum(period.n_requests for period in by_model) == every.n_requests
    assert sum(period.cost_usd for period in by_model) == every.cost_usd
    assert all(period.model and not period.n_audits for period in by_model)


def test_periods_come_a_page_at_a_time(fill: Fill) -> None:
    times = (10.0, 20.0, 3700.0, 7300.0)
    log = fill(*(request_row(f"r{at}", time_s=at, task_id="tu"[at == 20.0]) for at in times))
    where = PeriodFilter(since_s=0.0, step_s=3600, by="task")
    every = [(period.start_s, period.task_id) for period in log.periods(where)]
    assert every == [(0.0, "t"), (0.0, "u"), (3600.0, "t"), (7200.0, "t")]
    page = log.periods(dataclasses.replace(where, after=every[0], limit=2))
    assert [(period.start_s, period.task_id) for period in page] == every[1:3]
    whole = dataclasses.replace(where, step_s=0, after=(0.0, "t"))
    assert [(period.task_id, period.n_requests) for period in log.periods(whole)] == [("u", 1)]


def test_a_reader_notices_what_others_have_changed(fill: Fill) -> None:
    with closing(fill(request_row("r0")).reader()) as reader:
        version = reader.version()
        assert reader.version() == version
        fill(request_row("r1"))
        assert reader.version() != version
        assert reader.periods(PeriodFilter(since_s=0.0))[0].n_requests == 2


def test_pruning_takes_its_part_out_of_the_periods(fill: Fill) -> None:
    times = {"r0": 10.0, "r1": 3700.0, "r2": 3800.0, "r3": 7300.0}
    audits = [audit_row(name, task_id="t", time_s=times[name] + 1) for name in ("r1", "r2")]
    log = fill(*(local_row(name, time_s=time_s) for name, time_s in times.items()), *audits)
    log.prune(3750.0)
    assert [(p.start_s, p.n_requests, p.n_audits) for p in log.periods(PeriodFilter(since_s=0.0, step_s=3600))] == [
        (3600.0, 1, 1), (7200.0, 1, 0),
    ]  # fmt: skip
    assert [p.n_requests for p in log.periods(PeriodFilter(since_s=0.0, step_s=3600, by="model"))] == [1, 1]


def test_rows_before_a_request(fill: Fill) -> None:
    log = fill(request_row("r0"), request_row("r1"), request_row("r2"), request_row("r3", task_id="u", time_s=2.0))
    assert ids(log, newest_first=True, before_id="r3", limit=2) == ["r2", "r1"]
    assert ids(log, newest_first=True, before_id="r1", task_id="t") == ["r0"]
    assert ids(log, before_id="absent") == []


def test_task_counts(fill: Fill) -> None:
    log = fill(
        local_row("r0", time_s=5.0),
        request_row("r1", time_s=2.0),
        request_row("r2", time_s=9.0, reference_answer=None),
        request_row("r3", time_s=4.0, task_id="u", instructions_id="j"),
    )
    first, second = log.task_counts()
    assert (first.task_id, first.instructions_id, first.n_requests, first.n_local, first.n_reference_known) == (
        "t", "i", 3, 1, 1,
    )  # fmt: skip
    assert (first.first_s, first.last_s) == (2.0, 9.0)
    assert first.n_first == 0
    assert (second.task_id, second.n_requests) == ("u", 1)


def test_a_row_written_twice_is_there_once(fill: Fill) -> None:
    fill(request_row(), audit_row(), instructions_row())
    log = fill(request_row(), audit_row(), instructions_row())
    assert ids(log) == ["r0"]
    assert log.task_counts()[0].n_requests == 1


def test_prune_takes_what_is_old_and_what_hangs_on_it(fill: Fill) -> None:
    log = fill(
        instructions_row("i", time_s=1.0),
        instructions_row("j", time_s=1.0),
        local_row("r0", time_s=1.0, instructions_id="j"),
        audit_row("r0", time_s=1.0),
        request_row("r1", time_s=1.5),
        request_row("r2", time_s=3.0),
    )
    assert log.prune(3.0) == 2
    assert ids(log) == ["r2"]
    assert log.audit("r0") is None
    assert log.instructions("j") is None
    assert log.instructions("i") is not None
    (count,) = log.task_counts()
    assert (count.n_requests, count.n_local, count.first_s) == (1, 0, 3.0)
    assert log.prune(3.0) == 0


def test_an_empty_log(fill: Fill) -> None:
    log = fill()
    assert (ids(log), log.task_counts(), log.n_gaps(), log.prune(1e12)) == ([], [], 0, 0)


def test_gaps_are_counted_for_ever(fill: Fill, tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "home")
    fd, writer._fd = writer._fd, -1  # every write fails
    writer.append(request_row("lost"))
    writer.append(request_row("lost too"))
    writer._fd = fd
    writer.append(request_row("r1"))
    writer.close()
    log = fill(request_row("r2"))
    assert writer.n_gaps == 2
    assert log.n_gaps() == 2
    assert ids(log) == ["r1", "r2"]


def test_readers_do_not_wait_for_the_importer_and_see_whole_batches(tmp_path: Path) -> None:
    home = tmp_path / "home"
    log, writer, importer = open_log(home), open_writer(home), open_importer(home)
    stop = threading.Event()
    slowest = 0.0

    def write() -> None:
        i = 0
        while not stop.is_set():
            writer.append(request_row(f"r{i}", time_s=float(i)))
            i += 1
            time.sleep(0.0001)

    thread = threading.Thread(target=write)
    thread.start()
    deadline = time.monotonic() + 0.8
    while time.monotonic() < deadline:
        start = time.monotonic()
        names = ids(log, newest_first=True, limit=5)
        slowest = max(slowest, time.monotonic() - start)
        assert names == [f"r{int(names[0][1:]) - i}" for i in range(len(names))] if names else True
    stop.set()
    thread.join()
    writer.close()
    importer.close()
    assert importer.last_error == ""
    assert names
    assert slowest < 4  # SQLite waits 5 s for a lock


WRITER = """
import os, sys
from pathlib import Path
from pilotfish.store.build import open_importer, open_writer
from tools.log_rows import request_row
home = Path(sys.argv[1])
writer, importer = open_writer(home), open_importer(home)
for i in range(10**9):
    writer.append(request_row(f"{os.getpid()}-{i}"))
    os.write(1, f"{os.getpid()}-{i}\\n".encode())
"""


def test_kill_9_loses_no_row_whose_append_returned(tmp_path: Path) -> None:
    """Two rounds, with the importer at work in the killed process as well."""
    acknowledged: set[str] = set()
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=TESTS)
        assert process.stdout is not None
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            acknowledged.add(process.stdout.readline().decode().strip())
        process.send_signal(signal.SIGKILL)
        acknowledged |= {line.decode().strip() for line in process.stdout if line.endswith(b"\n")}
        process.stdout.close()
        process.wait()
    log = open_log(tmp_path)
    found = ids(log)
    assert len(found) == len(set(found)) == log.task_counts()[0].n_requests
    assert acknowledged <= set(found)
    assert list((tmp_path / "spool").glob("*.jsonl")) == []
