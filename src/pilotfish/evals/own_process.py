"""Runs one model's turn in a process of its own, so that its memory is its own and not what others left behind.

The process is forked: it shares what is loaded already and opens the model itself. Where forking is unsafe (other
threads are running, or no Linux) the work is done here instead, and the memory meter's "there before" says what that
costs. What the work does is not known here.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

from pilotfish.core.errors import ModelError, PilotfishError, UserError

_FAULT, _REPORTED, _INTERRUPTED = 4, 2, 130


def in_own_process(work: Callable[[], None]) -> bool:
    """Do `work` in a child where that is safe, else here; whether it was a child.

    A `PilotfishError` of the child is raised here with its message: as a `ModelError` where it was one, else as a
    `UserError`. So is a KeyboardInterrupt. RuntimeError where the child was killed or broke.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        work()
        return False
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_the_child(work, write_end)
    os.close(write_end)
    status = None
    try:
        with os.fdopen(read_end, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
    finally:
        if status is None:
            os.kill(child, signal.SIGINT)
            os.waitpid(child, 0)
    _raise_for(os.waitstatus_to_exitcode(status), said)
    return True


def _be_the_child(work: Callable[[], None], write_end: int) -> None:
    """Never returns: the parent's stack must not be unwound twice."""
    # 1 is PR_SET_PDEATHSIG: a parent that is killed leaves nobody behind who holds the run file.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    code = _FAULT
    try:
        work()
        code = 0
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except PilotfishError as error:
        said = {"is_model": isinstance(error, ModelError), "message": error.message, "hint": error.hint}
        os.write(write_end, json.dumps(said).encode())
        code = _REPORTED
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if code == _FAULT:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _raise_for(code: int, said: bytes) -> None:
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code == _REPORTED and said:
        row = json.loads(said)
        raise (ModelError if row["is_model"] else UserError)(row["message"], hint=row["hint"])
    if code:
        raise RuntimeError(f"The process of the model ended with {code}.")
