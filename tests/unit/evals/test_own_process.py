from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from pilotfish.evals.own_process import in_own_process

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="forks only on Linux")


def in_a_fresh_interpreter(code: str) -> tuple[str, str]:
    """What `code` prints on standard output and error where no other test has left a thread."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip(), done.stderr


@on_linux
def test_the_work_is_done_by_another_process():
    said, _ = in_a_fresh_interpreter(
        "import os\nfrom pilotfish.evals.own_process import in_own_process\n"
        "print(os.getpid(), in_own_process(lambda: print(os.getpid())))"
    )
    child, parent, is_child = said.split()
    assert is_child == "True"
    assert child != parent


def test_with_other_threads_the_work_is_done_here(tmp_path):
    is_over = threading.Event()
    thread = threading.Thread(target=is_over.wait)
    thread.start()
    try:
        assert not in_own_process(lambda: (tmp_path / "pid").write_text(str(os.getpid())) and None)
    finally:
        is_over.set()
        thread.join()
    assert (tmp_path / "pid").read_text() == str(os.getpid())


@on_linux
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("ModelConnectionError('nobody there', hint='Start it.')", "ModelError nobody there Start it."),
        ("SpecialistError('changed')", "UserError changed"),
        ("KeyboardInterrupt()", "KeyboardInterrupt"),
        ("ValueError('ours')", "RuntimeError"),
    ],
)
def test_what_goes_wrong_there_is_raised_here(error, kind):
    said, complaint = in_a_fresh_interpreter(
        "from pilotfish.core.errors import *\nfrom pilotfish.core.errors import ModelConnectionError, SpecialistError\n"
        "from pilotfish.evals.own_process import in_own_process\n"
        f"def work():\n    raise {error}\n"
        "try:\n    in_own_process(work)\n"
        "except BaseException as error:\n    print(type(error).__name__, error)"
    )
    assert said.startswith(kind)
    assert ("ValueError: ours" in complaint) == ("ValueError" in error)
