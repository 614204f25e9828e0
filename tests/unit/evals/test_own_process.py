from __future__ import annotations

import os
import sys
import threading

import pytest

from pilotfish.core.errors import ModelConnectionError, ModelError, SpecialistError, UserError
from pilotfish.evals.own_process import in_own_process

alone = pytest.mark.skipif(
    sys.platform != "linux" or threading.active_count() > 1, reason="forks only on Linux, and only without threads"
)


@alone
def test_the_work_is_done_by_another_process(tmp_path):
    assert in_own_process(lambda: (tmp_path / "pid").write_text(str(os.getpid())) and None)
    assert (tmp_path / "pid").read_text() != str(os.getpid())


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


@alone
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelConnectionError("nobody there", hint="Start it."), ModelError),
        (SpecialistError("changed"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ValueError("ours"), RuntimeError),
    ],
)
def test_what_goes_wrong_there_is_raised_here(error, kind, capfd):
    def work():
        raise error

    with pytest.raises(kind) as caught:
        in_own_process(work)
    if isinstance(error, ModelError):
        assert str(caught.value) == "nobody there Start it."
    assert ("ValueError: ours" in capfd.readouterr().err) == isinstance(error, ValueError)
