"""Jobs as subprocesses: low priority, JSON lines as progress, no orphan.

A process of its own, because fitting a specialist would hold the gateway's interpreter lock. The child
is made to end with its parent even when the parent is killed: on Linux the kernel sends it a signal,
elsewhere only an orderly end of the parent reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence

from pilotfish.jobs.base import Finished, Progress

STDERR_TAIL_CHARACTERS = 4000
GRACE_S = 3.0
"""Seconds between asking a job to end and killing it."""

LINE_LIMIT_BYTES = 1 << 20

# Runs before the command in the child itself: a hook between fork and exec is unsafe where threads run. 1 is
# PR_SET_PDEATHSIG. The parent may have gone before the signal was asked for, hence the comparison.
_PRELUDE = """
import ctypes, os, signal, sys
parent, niceness, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != parent:
    sys.exit(1)
os.nice(niceness)
os.execv(command[0], command)
"""


class SubprocessJob:
    """A running command. Made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, progress: Progress | None) -> None:
        self._process = process
        self._progress = progress
        self._finished = asyncio.ensure_future(self._follow())

    @property
    def pid(self) -> int:
        """The process id, which stays that of the command."""
        return self._process.pid

    async def wait(self) -> Finished:
        """Exit code (negative: the signal that ended it), last report and end of stderr."""
        return await asyncio.shield(self._finished)

    async def stop(self) -> None:
        """Ask the job and its children to end, kill them after `GRACE_S`."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), GRACE_S)
            return
        self._signal(signal.SIGKILL)
        await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _follow(self) -> Finished:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        last, tail, exit_code = await asyncio.gather(
            self._read_progress(self._process.stdout), _read_tail(self._process.stderr), self._process.wait()
        )
        return Finished(exit_code=exit_code, last=last, stderr_tail=tail)

    async def _read_progress(self, stream: asyncio.StreamReader) -> dict[str, object] | None:
        last = None
        async for line in stream:
            try:
                report = json.loads(line)
            except ValueError:
                continue
            if isinstance(report, dict):
                last = report
                if self._progress is not None:
                    self._progress(report)
        return last


async def _read_tail(stream: asyncio.StreamReader) -> str:
    pieces: deque[bytes] = deque(maxlen=2)
    while piece := await stream.read(STDERR_TAIL_CHARACTERS):
        pieces.append(piece)
    return b"".join(pieces).decode("utf-8", "replace")[-STDERR_TAIL_CHARACTERS:]


async def start(
    command: Sequence[str],
    *,
    niceness: int = 0,
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
) -> SubprocessJob:
    """Start `command` (an absolute program path first) at `niceness`, in a process group of its own.

    `environment` adds to that of this process. Cancelled meanwhile, it ends the process before it ends itself.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PRELUDE,
            str(os.getpid()),
            str(niceness),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LINE_LIMIT_BYTES,
            env={**os.environ, **(environment or {})},
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await SubprocessJob(await starting, None).stop()
        raise
    return SubprocessJob(process, progress)
