"""Several worker processes on one port: real processes, real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_log, open_registry
from tools.served_home import TASK_ID, Learnt, adopt, messages
from tools.upstream import Reply, upstream

WITHIN_S = 15.0


@contextmanager
def serving(home: Path, url: str, *arguments: str, workers: int = 2, **environment: str) -> Iterator[tuple[int, int]]:
    """Port and process id of a gateway's parent."""
    command = [sys.executable, "-m", "pilotfish", "serve", "--large", url, "--model", "big", "--port", "0"]
    command += ["--home", str(home), "--workers", str(workers), *arguments]
    names = {f"PILOTFISH_{name}": value for name, value in environment.items()}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | names
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        try:
            assert "Pilotfish answers at" in first, process.stderr.read()
            yield int(first.partition("127.0.0.1:")[2].partition("/")[0]), process.pid
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(WITHIN_S)


def get(port: int, path: str, body: dict[str, object] | None = None) -> tuple[dict[str, str], dict[str, object]]:
    """Headers and answer, over a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
    reply = connection.getresponse()
    found = json.loads(reply.read())
    connection.close()
    return {name.lower(): value for name, value in reply.getheaders()}, found


def processes(port: int, n: int, without: int = 0) -> set[int]:
    """The process ids of the workers, once `n` of them have answered."""
    found: set[int] = set()
    deadline = time.monotonic() + WITHIN_S
    while len(found) < n:
        assert time.monotonic() < deadline, found
        try:
            found.add(int(str(get(port, "/pilotfish/status")[1]["process"])))
        except OSError:
            time.sleep(0.02)
        found.discard(without)
    return found


def test_a_dead_worker_is_started_again_and_a_signal_ends_all(home: Path) -> None:
    with upstream((Reply(),)) as behind:
        with serving(home, behind.url) as (port, parent):
            pids = processes(port, 2)
            assert parent not in pids
            for _ in range(20):
                get(port, "/v1/chat/completions", {"model": "big", "messages": [{"role": "user", "content": "x"}]})
            killed = pids.pop()
            os.kill(killed, signal.SIGKILL)
            alive = processes(port, 2, without=killed)
            assert pids < alive
        for pid in alive:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    # Whoever reads imports what every worker has written, the killed one too.
    assert len(list(open_log(home).rows(LogFilter()))) == 20


def test_a_withdrawal_is_known_to_every_worker_at_once(served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    body: dict[str, object] = {"model": "auto", "messages": messages("my cup is red")}
    settings = {"LEARNING_ENCODER": learnt.encoder, "QUALITY_AUDIT_RATE": "0"}
    with (
        upstream((Reply(),)) as behind,
        serving(served_home, behind.url, "--max-risk", "0.05", **settings) as (port, _),
    ):
        processes(port, 2)
        reasons = {get(port, "/v1/chat/completions", body)[0]["x-pilotfish-reason"] for _ in range(20)}
        assert reasons == {"certified"}
        registry = open_registry(served_home)
        registry.update_task(TASK_ID, mode="observe", certificate_id="")
        registry.close()
        time.sleep(0.5)
        reasons = {get(port, "/v1/chat/completions", body)[0]["x-pilotfish-reason"] for _ in range(20)}
        assert reasons == {"observing"}


def test_workers_end_with_a_parent_that_was_killed(home: Path) -> None:
    with serving(home, "http://127.0.0.1:9/v1") as (port, parent):
        pids = processes(port, 2)
        os.kill(parent, signal.SIGKILL)
        deadline = time.monotonic() + WITHIN_S
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_port_that_others_serve_is_not_shared_with_them(home: Path, tmp_path: Path) -> None:
    with serving(home, "http://127.0.0.1:9/v1") as (port, _):
        command = [sys.executable, "-m", "pilotfish", "serve", "--large", "http://127.0.0.1:9/v1", "--model", "big"]
        command += ["--port", str(port), "--home", str(tmp_path / "other"), "--workers", "2"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert said.returncode == 2
    assert "cannot listen" in said.stderr


def test_what_keeps_a_worker_from_starting_is_said_once(home: Path) -> None:
    home.mkdir()
    (home / "registry.db").write_bytes(b"no database" * 100)
    command = [sys.executable, "-m", "pilotfish", "serve", "--large", "http://127.0.0.1:9/v1", "--model", "big"]
    command += ["--port", "0", "--home", str(home), "--workers", "2"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert said.returncode != 0
    assert said.stderr.count("registry.db") == 1
    assert "Traceback" not in said.stderr
