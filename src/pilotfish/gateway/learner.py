"""The background learner: notices when there is something to learn and starts `pilotfish distil --due`.

It only counts known answers and keeps one low-priority subprocess; what is due, learnt and certified is decided
there, by the same code as by hand. The loop closes through log and registry. Without a stated
risk nothing is learnt.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from pilotfish.config.settings import Settings
from pilotfish.core.errors import PilotfishError
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.jobs import subprocess
from pilotfish.jobs.base import Job, Progress
from pilotfish.store.base import Log

LOOK_GROWTH = 1.1
"""A look costs about a CPU-second. Growing by a tenth, looks stay rarer than one in a tenth of the traffic,
and a task whose instructions share an id with others is met at most a tenth late."""

Start = Callable[[Sequence[str], dict[str, str], Progress], Awaitable[Job]]

_log = logging.getLogger(__name__)


class Learner:
    """Keeps the tasks of one gateway up with its registry, and starts learning where it may pay."""

    def __init__(
        self, settings: Settings, home: Path, *, log: Log, tasks: LiveTasks, start: Start | None = None
    ) -> None:
        self._settings = settings
        self._home = home
        self._log = log
        self._tasks = tasks
        self._start = start or self._start_subprocess
        self._due_at: dict[str, int] = {}
        self._job: Job | None = None
        self._learning: asyncio.Future[None] | None = None
        self._progress: dict[str, Any] = {}
        self.n_runs = 0

    @property
    def status(self) -> dict[str, Any]:
        """Whether it is learning now, with the last progress reported, and how often it has run."""
        return {"is_running": self._learning is not None, "progress": self._progress, "runs": self.n_runs}

    async def run(self) -> None:
        """Look for ever; cancel to end."""
        while True:
            await asyncio.sleep(self._settings.learning.check_every_s)
            await self._guarded(self.look())

    async def look(self) -> None:
        """One look: take over what others decided, and start learning where enough new answers are known."""
        await self._tasks.refresh()
        if self._settings.quality.claim is None or self._learning is not None:
            return
        known = await asyncio.to_thread(self._known)
        due = {
            found_id: math.ceil(n * LOOK_GROWTH)
            for found_id, n in known.items()
            if n >= self._due_at.get(found_id, self._settings.learning.first_after)
        }
        if due:
            self._due_at.update(due)
            self._learning = asyncio.ensure_future(self._guarded(self._learn()))

    async def aclose(self) -> None:
        """End the subprocess."""
        job = self._job
        if self._learning is not None:
            self._learning.cancel()
        if job is not None:
            await job.stop()

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - the boundary of a background job
            _log.exception("Learning failed.")

    def _known(self) -> Counter[str]:
        """Known answers by instructions: one id may hold several tasks whose templates are not known yet."""
        known: Counter[str] = Counter()
        for count in self._log.task_counts():
            known[count.instructions_id] += count.n_reference_known
        return known

    async def _learn(self) -> None:
        command = [sys.executable, "-m", "pilotfish", "distil", "--due", "--home", str(self._home), "--progress-json"]
        self._progress = {}
        self._job = await self._start(command, environment(self._settings), self._note)
        try:
            finished = await self._job.wait()
        finally:
            self._job = self._learning = None
            self.n_runs += 1
        await self._tasks.refresh()
        if finished.exit_code not in (0, 1):
            raise PilotfishError(f"Learning ended with exit code {finished.exit_code}: {finished.stderr_tail.strip()}")

    def _note(self, report: dict[str, Any]) -> None:
        self._progress = report

    async def _start_subprocess(self, command: Sequence[str], environment: dict[str, str], progress: Progress) -> Job:
        return await subprocess.start(
            command, niceness=self._settings.learning.niceness, progress=progress, environment=environment
        )


def environment(settings: Settings) -> dict[str, str]:
    """The promise and the pace of these settings, which may come from flags, as the subprocess reads them."""
    values = {
        "QUALITY_MAX_RISK": settings.quality.max_risk,
        "QUALITY_CONFIDENCE": settings.quality.confidence,
        "QUALITY_PER": settings.quality.per,
        "LEARNING_ENCODER": settings.learning.encoder,
        "LEARNING_FIRST_AFTER": settings.learning.first_after,
        "LEARNING_GROWTH": settings.learning.growth,
    }
    return {f"PILOTFISH_{name}": str(value) for name, value in values.items() if value is not None}
