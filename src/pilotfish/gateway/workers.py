"""Several processes that serve one port: forked before anything runs in them, started again when one dies.

The parent serves nothing. It holds the port, passes signals on, and reports once every worker answers; a worker whose
parent is gone ends by itself, since a pipe to it then closes. What a worker does is not known here. On Linux the kernel
spreads connections over the workers, by a hash.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from pilotfish.core.errors import ConfigError, PilotfishError

PAUSE_S = 1.0
"""Between two starts of the same worker: one that dies at once must not keep the machine busy."""

Work = Callable[[int, Callable[[], None], int], None]
"""Serves as the worker with a number until a signal comes or the descriptor can be read; calls back when ready."""

_log = logging.getLogger(__name__)


class Workers:
    """The workers of one gateway, seen from their parent."""

    def __init__(self, n: int, work: Work) -> None:
        self._n = n
        self._work = work
        self._pids: dict[int, int] = {}
        self._is_ending = False
        # Read by the workers, written by nobody: it closes when this process ends.
        self._lifeline, self._held = os.pipe()

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until a signal says to end. Raises `ConfigError` where a worker cannot start."""
        with self._signals():
            try:
                for number in range(self._n):
                    self._start(number)
                if not self._is_ending:
                    on_ready()
                self._look_after()
            finally:
                if not self._is_ending:
                    self._end()
                while self._pids and (pid := _ended()[0]) > 0:
                    self._pids.pop(pid, None)

    def _start(self, number: int) -> None:
        """Start a worker and wait until it answers."""
        said, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._be_worker(number, said, say)
        os.close(say)
        self._pids[pid] = number
        with open(said, "rb") as file:
            told = file.read()
        if told and not self._is_ending:
            error = json.loads(told)
            raise ConfigError(error["message"], hint=error["hint"])

    def _be_worker(self, number: int, said: int, say: int) -> None:
        """Never returns. Its own group, so that Ctrl-C reaches only the parent, which passes it on once."""
        exit_code = 1
        is_ready = False

        def ready() -> None:
            nonlocal is_ready
            is_ready = True
            os.close(say)

        def tell(message: str, hint: str) -> None:
            if not is_ready:
                os.write(say, json.dumps({"message": message, "hint": hint}).encode())

        try:
            os.setpgid(0, 0)
            for one in (signal.SIGTERM, signal.SIGINT):
                signal.signal(one, signal.SIG_DFL)
            os.close(said)
            os.close(self._held)
            self._work(number, ready, self._lifeline)
            exit_code = 0
        except PilotfishError as error:
            tell(error.message, error.hint)
        finally:
            # This process must not go on as its parent, whatever failed and whoever is left to tell.
            try:
                if (failure := sys.exception()) is not None:
                    _log.error("A worker failed.", exc_info=failure)
                    tell("A worker of the gateway failed at its start.", "What failed stands above.")
            finally:
                os._exit(exit_code)

    def _look_after(self) -> None:
        while self._pids and not self._is_ending:
            pid, status = _ended()
            if pid < 0:
                return
            number = self._pids.pop(pid, None)
            if number is None or self._is_ending:
                continue
            _log.warning("The worker %d ended (%d) and is started again.", number, os.waitstatus_to_exitcode(status))
            time.sleep(PAUSE_S)
            try:
                self._start(number)
            except ConfigError as error:
                _log.error("The worker %d cannot start: %s", number, error)
                self._is_ending = not self._pids

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before = {one: signal.signal(one, self._told) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
            os.close(self._held)
            os.close(self._lifeline)

    def _told(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_ending = True
        self._end()

    def _end(self) -> None:
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _ended() -> tuple[int, int]:
    """The process id and status of the next worker that ends, -1 where there is none."""
    try:
        return os.waitpid(-1, 0)
    except ChildProcessError:
        return -1, 0
