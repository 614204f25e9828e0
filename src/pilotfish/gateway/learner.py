"""The background learner: notices when there is something to learn and starts `pilotfish distil --due`.

It only counts known answers against each task's pace and keeps one low-priority subprocess; what is learnt and
certified is decided there, by the same code as by hand. The loop closes through log and registry. Without a
stated risk nothing is learnt. Where requests are to be asked again, it finds tasks early, since only known ones are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from pilotfish.config.settings import Settings
from pilotfish.core.errors import PilotfishError
from pilotfish.gateway.background import Background
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.jobs import subprocess
from pilotfish.jobs.base import Finished, Job, Progress
from pilotfish.store.base import Log, LogFilter, TaskRecord
from pilotfish.store.home import open_home
from pilotfish.tasks.find import find_tasks
from pilotfish.tasks.survey import MIN_REQUESTS

LEAST_GROWTH = 1.05
"""The subprocess counts a little differently (it finds templates first), so a task that is due here may not be there:
it is looked at again only after this much growth. A run costs about two CPU-seconds."""

FIND_EVERY_S = 60.0
"""Finding tasks reads the log, in seconds where it is long."""

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
        self._not_before: dict[str, int] = {}
        self._find_at: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self._found_s = -math.inf
        self._learning: asyncio.Future[None] | None = None
        self._progress: dict[str, Any] = {}
        self._last_error = ""
        self._work = Background("Learning failed.", self._note_failure)
        self.n_runs = 0

    @property
    def status(self) -> dict[str, Any]:
        """Whether it is learning now, the last progress reported, how often it has run, what went wrong last."""
        return {
            "is_running": self._learning is not None,
            "progress": self._progress,
            "runs": self.n_runs,
            "last_error": self._last_error,
        }

    async def run(self) -> None:
        """Look for ever; cancel to end."""
        while True:
            await asyncio.sleep(self._settings.learning.check_every_s)
            await self._work.guarded(self.look())

    async def look(self) -> None:
        """One look: take over what others decided, and start learning where enough new answers are known."""
        if self._settings.consistency.calls and self._learning is None:
            await asyncio.to_thread(self._find)
        await self._tasks.refresh()
        if self._settings.quality.claim is None or self._learning is not None:
            return
        if await asyncio.to_thread(self._take_due):
            self._learning = self._work.start(self._learn())

    async def aclose(self) -> None:
        """End the subprocess, also one that is just being started."""
        await self._work.aclose()

    def _note_failure(self, error: Exception) -> None:
        self._last_error = str(error)

    def _find(self) -> None:
        """Find tasks long before there is enough to learn, where the answers to some instructions have grown."""
        if time.monotonic() - self._found_s < FIND_EVERY_S:
            return
        closed = {live.record.instructions_id for live in self._tasks.all() if live.record.shape.is_closed}
        known: Counter[str] = Counter()
        for count in self._log.task_counts():
            known[count.instructions_id] += count.n_reference_known
        grown = [name for name in known.keys() - closed if known[name] >= self._find_at.get(name, MIN_REQUESTS)]
        if grown:
            self._find_at.update({name: math.ceil(known[name] * self._settings.learning.growth) for name in grown})
            self._found_s = time.monotonic()
            home = open_home(self._home, self._settings.learning)
            with contextlib.closing(home.registry):
                find_tasks(home)

    def _take_due(self) -> bool:
        """Whether anything is due; what is due is not due again before it has grown."""
        counts = self._log.task_counts()
        by_task: Counter[str] = Counter()
        by_instructions: Counter[str] = Counter()
        for count in counts:
            by_task[count.task_id] += count.n_reference_known
            by_instructions[count.instructions_id] += count.n_reference_known
        closed = [live.record for live in self._tasks.all() if live.record.shape.is_closed]
        due = {record.task_id: by_task[record.task_id] for record in closed if self._is_due(record, by_task)}
        # Where no task is known yet, or none that can be learnt, there may be one by now.
        for found_id in by_instructions.keys() - {record.instructions_id for record in closed}:
            n = by_instructions[found_id]
            if n >= self._not_before.get(found_id, self._settings.learning.first_after):
                due[found_id] = math.ceil(n * self._settings.learning.growth / LEAST_GROWTH)
        self._not_before.update({name: math.ceil(n * LEAST_GROWTH) for name, n in due.items()})
        return bool(due)

    def _is_due(self, record: TaskRecord, known: Counter[str]) -> bool:
        claim, n_known = self._settings.quality.claim, known[record.task_id]
        if record.asked_s is not None and not record.is_held and self._asked.get(record.task_id) != record.asked_s:
            # Once: a subprocess that cannot even begin leaves the wish standing.
            self._asked[record.task_id] = record.asked_s
            return True
        if claim is None or record.is_held or n_known < self._not_before.get(record.task_id, 0):
            return False
        pace = self._tasks.pace(record)
        n_drawn = 0
        if pace.proving_since_s is not None:
            later = self._log.rows(LogFilter(task_id=record.task_id, since_s=pace.proving_since_s))
            n_drawn = sum(row.sampling == "audit" and row.reference_answer is not None for row in later)
        return pace.is_due(n_known, n_drawn, claim.max_risk, self._tasks.n_new(record))

    async def _learn(self) -> None:
        command = [sys.executable, "-m", "pilotfish", "distil", "--due", "--home", str(self._home), "--progress-json"]
        self._progress = {}
        try:
            job = await self._start(command, environment(self._settings), self._note)
            finished = await _ended(job)
        finally:
            self._learning = None
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


async def _ended(job: Job) -> Finished:
    """What it ended with. Cancelled, it is ended first."""
    try:
        return await job.wait()
    except asyncio.CancelledError:
        await job.stop()
        raise


def environment(settings: Settings) -> dict[str, str]:
    """The promise and the pace of these settings, which may come from flags, as the subprocess reads them."""
    values = {
        "QUALITY_MAX_RISK": settings.quality.max_risk,
        "QUALITY_CONFIDENCE": settings.quality.confidence,
        "QUALITY_PER": settings.quality.per,
        "LEARNING_ENCODER": settings.learning.encoder,
        "LEARNING_FINETUNE": settings.learning.finetune,
        "LEARNING_FIRST_AFTER": settings.learning.first_after,
        "LEARNING_GROWTH": settings.learning.growth,
        "LEARNING_ANSWER_OVERLAP": settings.learning.answer_overlap,
        "LEARNING_SHARE_ANSWERS": str(settings.learning.share_answers).lower(),
        "CONSISTENCY_CALLS": settings.consistency.calls,
        "CONSISTENCY_ANSWERS": settings.consistency.answers,
    }
    return {f"PILOTFISH_{name}": str(value) for name, value in values.items() if value is not None}
