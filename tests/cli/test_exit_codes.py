"""What becomes of errors: one sentence, the right exit code, a traceback only where it is our fault or asked for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

import pytest

from pilotfish.cli.main import EXIT_FAULT, EXIT_MODEL, EXIT_USER
from tools.command_line import PILOTFISH, files, shell
from tools.served_home import sentences
from tools.traffic import write_pairs

# Without a terminal Python holds back what is printed.
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}


def _sentence(said):
    """The error is one line without a traceback."""
    assert "Traceback" not in said.err
    (line,) = said.err.strip().splitlines()
    assert line.startswith("pilotfish: ")
    return line


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """A command of our own that fails as told, run in a process of its own."""
    (tmp_path / "failing.py").write_text(
        """
import click
from pilotfish.cli import main
from pilotfish.core import errors

@click.command()
@click.argument("how")
def command(how):
    raise eval(how, {**vars(errors), "OSError": OSError, "KeyError": KeyError})

main.COMMANDS["fail"] = ("failing", "Fail.")
if __name__ == "__main__":
    main.main()
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def fail(how, **environment):
        done = subprocess.run(
            [PILOTFISH[0], tmp_path / "failing.py", "fail", how],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=False,
        )
        return done.returncode, done.stderr

    return fail


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("UserError('Do it.', hint='Now.')", EXIT_USER),
        ("MissingExtraError('learn', 'sklearn')", EXIT_USER),
        ("StoreError('locked')", EXIT_USER),
        ("SpecialistError('tampered')", EXIT_USER),
        ("OSError(28, 'No space left on device', '/x')", EXIT_USER),
        ("ModelTimeoutError('slow')", EXIT_MODEL),
    ],
)
def test_an_error_is_a_sentence_and_its_exit_code(failing, how, code):
    found, err = failing(how)
    assert found == code
    assert "Traceback" not in err
    assert err.startswith("pilotfish: ")
    found, err = failing(how, PILOTFISH_DEBUG="1")
    assert found == code, "asking for the traceback does not change whose turn it is"
    assert "Traceback" in err
    assert "fault of Pilotfish" not in err


def test_what_nobody_expected_is_our_fault(failing):
    code, err = failing("KeyError('x')")
    assert code == EXIT_FAULT
    assert "Traceback" in err
    assert "this is a fault of Pilotfish" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["explain", "pf-x"], "`pilotfish log list`"),
        (["log", "show", "pf-x"], "`pilotfish log list`"),
        (["promote", "nothing"], "No task is known yet"),
        (["demote", "nothing"], "'nothing'"),
        (["certify", "nothing"], "'nothing'"),
        (["distil", "nothing", "--max-risk", "0.05"], "'nothing'"),
        (["log", "list", "--task", "nothing"], "'nothing'"),
        (["log", "export", "--task", "nothing"], "'nothing'"),
        (["distil", "--due"], "--max-risk"),
        (["backtest", "x.jsonl"], "--max-risk 0.02"),
        (["serve"], "--large URL"),
        (["tasks", "--config", "nothing.toml"], "'nothing.toml'"),
        (["config", "check", "--config", "nothing.toml"], "'nothing.toml'"),
        (["demo", "--max-risk", "5"], "max_risk must lie between"),
        (["backtest", "x.jsonl", "--max-risk", "2"], "max_risk must lie between"),
        (["backtest", "x.jsonl", "--max-risk", "nan"], "max_risk must lie between"),
        (["serve", "--large", "127.0.0.1:8000/v1"], "http://"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_user_must_act_and_is_told_how(pilotfish, arguments, named):
    said = pilotfish(*arguments)
    assert said.code == EXIT_USER
    assert said.out == ""
    assert named in _sentence(said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["backtest"],
        ["distil", "--max-risk", "0.05"],
        ["distil", "x", "--due", "--max-risk", "0.05"],
        ["backtest", "x.jsonl", "--max-risk", "0.05", "--observe", "junk"],
        ["backtest", "x.jsonl", "--max-risk", "0.05", "--observe", "-1"],
        ["backtest", "x.jsonl", "--max-risk", "0.05", "--observe", "1.5"],
        ["backtest", "x.jsonl", "--max-risk", "0.05", "--audit-rate", "2"],
        ["backtest", "x.jsonl", "--max-risk", "0.05", "--per", "day"],
        ["backtest", "x.jsonl", "--max-risk", "0.05", "--html", "missing/page.html"],
        ["certify", "x", "--html", "missing/page.html"],
        ["log", "export", "-o", "missing/log.jsonl"],
        ["log", "list", "-n", "0"],
        ["log", "list", "--reason", "bored"],
        ["log", "prune"],
        ["serve", "--port", "99999"],
        ["demo", "--requests", "0"],
        ["tasks", "--jsn"],
    ],
    ids=" ".join,
)
def test_a_wrong_flag_is_named_with_its_usage(pilotfish, arguments):
    said = pilotfish(*arguments)
    assert said.code == EXIT_USER
    assert said.out == ""
    assert said.err.startswith("Usage: pilotfish")
    assert "Error: " in said.err
    assert "Traceback" not in said.err


def test_a_home_that_is_a_file(pilotfish, tmp_path):
    (tmp_path / "file").write_text("x")
    for command in (["tasks"], ["log", "list"], ["demo"]):
        said = pilotfish(*command, "--home", tmp_path / "file")
        assert said.code == EXIT_USER
        assert str(tmp_path / "file") in _sentence(said)


def test_a_home_that_is_no_database(pilotfish, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "log.db").write_bytes(b"this is no database, but long enough to be one" * 20)
    said = pilotfish("tasks", "--home", tmp_path / "home")
    assert said.code == EXIT_USER
    assert "log.db" in _sentence(said)
    said = pilotfish("doctor", "--home", tmp_path / "home")
    assert said.code == 1
    assert "log.db" in said.out


def test_a_port_that_is_taken(pilotfish):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = pilotfish("serve", "--large", "http://127.0.0.1:9/v1", "--model", "big", "--port", port)
    assert said.code == EXIT_USER
    assert f"127.0.0.1:{port}" in _sentence(said)


def test_an_unknown_setting_is_refused_with_the_nearest_one(pilotfish, tmp_path):
    (tmp_path / "p.toml").write_text("[quality]\nmax_rsk = 0.02\n")
    said = pilotfish("config", "check", "--config", tmp_path / "p.toml")
    assert said.code == EXIT_USER
    assert "Did you mean 'max_risk'?" in _sentence(said)


def test_a_pattern_of_no_use_is_told_before_anything_is_served(pilotfish, tmp_path):
    (tmp_path / "p.toml").write_text('[privacy.patterns]\nbad = "("\n')
    said = pilotfish("config", "check", "--config", tmp_path / "p.toml")
    assert said.code == EXIT_USER
    assert "[privacy.patterns] bad is no regular expression" in _sentence(said)


@pytest.mark.parametrize("command", [["config", "show"], ["log", "export"], ["log", "list", "--json"]], ids=" ".join)
def test_a_reader_that_leaves_is_no_error(observed, command):
    """`pilotfish log export | head -1`."""
    arguments = [*command, *([] if command[0] == "config" else ["--home", str(observed)])]
    with subprocess.Popen([*PILOTFISH, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=120) == 0, err
    assert b"Traceback" not in err
    assert b"Broken" not in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_backtest_leaves_nothing_behind(tmp_path, tiny, number, code):
    traffic = write_pairs(tmp_path / "traffic.jsonl", sentences(6000))
    room = tmp_path / "room"
    room.mkdir()
    command = [*PILOTFISH, "backtest", str(traffic), "--max-risk", "0.05", "--instructions", "Name the colour."]
    environment = {**os.environ, "TMPDIR": str(room)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        deadline = time.monotonic() + 120
        while not list(room.glob("pilotfish-backtest-*/*")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert files(room) == []
    assert b"Traceback" not in err
    assert out == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_gateway_that_is_told_to_end_closes_its_home(tmp_path, number):
    command = [*PILOTFISH, "serve", "--large", "http://127.0.0.1:9/v1", "--model", "big", "--port", "0"]
    command += ["--home", str(tmp_path / "home")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert b"Pilotfish answers at" in process.stdout.readline(), process.stderr.read()
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert [line.split()[2] for line in err.decode().splitlines()] == ["start:", "stop:"]
    assert files(tmp_path / "home" / "spool") == ["import.lock"], "every segment is closed and imported"


def test_a_gateway_that_may_route_does_not_say_that_the_large_model_gets_every_request(tmp_path):
    (tmp_path / "p.toml").write_text(
        '[large]\nurl = "http://127.0.0.1:9/v1"\nmodel = "big"\n[models.small]\nurl = "http://127.0.0.1:9/v1"\n'
        '[routing]\nmodels = ["small"]\nmargin = 0.05\njudge = "big"\n'
    )
    command = [*PILOTFISH, "serve", "--config", str(tmp_path / "p.toml"), "--port", "0", "--home", str(tmp_path / "h")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        lines = [process.stdout.readline().decode() for _ in range(4)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert lines[2] == "It learns no specialist: set [quality] max_risk for that.\n"
    assert lines[3].startswith("Open requests: small may answer, under an adopted route")


def test_the_module_is_the_command():
    said = shell("explain", "pf-x")
    assert (said.code, said.out) == (EXIT_USER, "")
    _sentence(said)
