"""`distil --on FILE`: examples on file become log rows, a task, and what `distil` makes of any task."""

from __future__ import annotations

import json
import threading

import pytest

from pilotfish.cli.main import EXIT_NO, EXIT_USER
from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_log, open_registry
from pilotfish.store.home import open_home
from pilotfish.store.periods import PeriodFilter
from tools.served_home import INSTRUCTIONS, TASK_ID, sentences

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def distil(pilotfish, tmp_path):
    """The command on a file of so many examples, on the home of the test."""

    def run(n, *flags):
        path = tmp_path / "examples.jsonl"
        path.write_text(
            "".join(json.dumps({"input": a, "output": b}) + "\n" for a, b in sentences(300)[:n]) + "{torn\n"
        )
        place = ("--max-risk", "0.05", "--encoder", "none", "--home", tmp_path / "home")
        return pilotfish("distil", "--on", path, "--instructions", INSTRUCTIONS, *place, *flags)

    return run


def test_examples_on_file_are_certified_and_can_be_verified(pilotfish, distil, tmp_path):
    said = distil(240)
    assert said.code == 0, said.err
    assert "240 examples are new in the log, 0 stood there" in said.err
    assert "line 241: not JSON" in said.err
    home = ("--home", tmp_path / "home")
    assert pilotfish("certify", TASK_ID, "--verify", *home, "--json").json["verified"]
    log = open_log(tmp_path / "home")
    assert {(row.reason, row.sampling) for row in log.rows(LogFilter())} == {("imported", "observe")}
    assert [row.input for row in log.rows(LogFilter())] == [text for text, _ in sentences(300)[:240]]
    assert sum(period.n_requests for period in log.periods(PeriodFilter(since_s=0.0))) == 0  # nobody asked this gateway
    again = distil(250)
    assert "10 examples are new in the log, 240 stood there" in again.err
    log.prune(max(row.time_s for row in log.rows(LogFilter())))
    assert sum(period.n_requests for period in log.periods(PeriodFilter(since_s=0.0))) == 0


def test_examples_that_are_no_fair_sample_teach_and_certify_nothing(distil, tmp_path):
    said = distil(240, "--teach-only", "--json")
    assert said.code == EXIT_NO
    assert said.json[0]["short_of"] == "examples"
    assert said.json[0]["delta_spent"] == 0
    with_task = open_registry(tmp_path / "home")
    assert with_task.task(TASK_ID).certificate_id == ""
    with_task.close()


@pytest.mark.parametrize(
    ("n", "flags", "said"),
    [
        (5, (), "5 examples share instructions, and a task needs 20"),
        (30, ("--due",), "Name one TASK"),
        (30, ("name-colour",), "Name one TASK"),
    ],
)
def test_what_makes_no_task_is_told(distil, n, flags, said):
    got = distil(n, *flags)
    assert got.code == EXIT_USER
    assert said in got.err


def test_nothing_is_imported_where_the_log_keeps_no_text(distil, monkeypatch, tmp_path):
    monkeypatch.setenv("PILOTFISH_LOG_KEEP_TEXT", "false")
    got = distil(30)
    assert got.code == EXIT_USER
    assert "the settings keep no text" in got.err
    assert list(open_log(tmp_path / "home").rows(LogFilter())) == []


def test_learning_waits_for_other_learning(tmp_path):
    home, is_waiting, told = open_home(tmp_path / "home"), threading.Event(), []

    def second():
        with home.learning_alone(is_waiting.set):
            told.append("second")

    thread = threading.Thread(target=second)
    with home.learning_alone(lambda: told.append("nobody learns yet")):
        thread.start()
        assert is_waiting.wait(120)
        assert told == []
    thread.join(20)
    assert told == ["second"]
