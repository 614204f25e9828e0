"""New tasks made from examples that somebody uploads: kept in the home, and distilled one after the other.

Each has a folder HOME/new-tasks/ID with what was uploaded and `about.json`, which any worker process may read. The work
itself is `pilotfish distil --on`, a subprocess like the learner's: what a page starts can be had again at a prompt. A
worker holds a lock for as long as a job of its own waits or runs, so that the others know which were interrupted; those
can be started again and go on with the rows that stand in the log. What was uploaded is deleted once it was learnt.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from pilotfish.config.settings import Settings
from pilotfish.core.certificate import Claim
from pilotfish.core.errors import DataError, LimitError, StoreError, UserError
from pilotfish.gateway.admission import Admission, check_keeps_text
from pilotfish.gateway.background import Background
from pilotfish.gateway.columns import Choice, Converted, Sheet, convert, read_sheet, too_many
from pilotfish.gateway.learner import environment
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.jobs import subprocess
from pilotfish.jobs.base import Finished, Job, Progress
from pilotfish.store.base import Registry
from pilotfish.tasks.find import MAX_ROWS

FOLDER = "new-tasks"
MOST_KEPT = 100
MOST_WAITING = 8
MOST_LINES = 10 * MAX_ROWS
"""Of a file: a row may have several, and reading more than that would take gigabytes."""

POLL_S = 0.25
"""How soon a job is told that it was cancelled, and its progress written down."""

_ID = re.compile(r"[0-9a-f]{16}")
_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
_EXAMPLES = "examples.jsonl"

State = Literal["uploaded", "waiting", "running", "done", "failed", "cancelled", "interrupted"]
Start = Callable[[Sequence[str], dict[str, str], Progress], Awaitable[Job]]


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """One upload and what became of it.

    `file` is what it was called, for people only. `is_sample` says that the user states that the rows were chosen
    without regard to what they say. `told` is the last that the work told of its progress, in the end what came of it.
    """

    id: str
    made_s: float
    file: str
    instructions: str
    state: State = "uploaded"
    choice: Choice = Choice()
    claim: Claim | None = None
    is_sample: bool = False
    n_examples: int = 0
    message: str = ""
    told: dict[str, Any] = {}

    @property
    def is_under_way(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")

    @property
    def may_start(self) -> bool:
        """Whether it may be started, for the first time or again."""
        return self.state in ("uploaded", "failed", "cancelled", "interrupted")


class NewTasks:
    """The new tasks of one home, as one worker process sees them."""

    def __init__(
        self, settings: Settings, home: Path, *, registry: Registry, tasks: LiveTasks, start: Start | None = None
    ) -> None:
        self._settings = settings
        self._home = home
        self._registry = registry
        self._tasks = tasks
        self._start = start or self._start_subprocess
        self._turn = asyncio.Lock()
        self._work = Background("A new task failed.")

    def all(self) -> list[NewTask]:
        """Every one, the newest first."""
        with contextlib.suppress(FileNotFoundError):
            found = [self.get(folder.name) for folder in (self._home / FOLDER).iterdir()]
            return sorted((task for task in found if task is not None), key=lambda task: -task.made_s)
        return []

    def get(self, task_id: str) -> NewTask | None:
        """The one of that id; None where there is none, and for anything that is no id."""
        if not _ID.fullmatch(task_id):
            return None
        folder = self._home / FOLDER / task_id
        try:
            found = msgspec.json.decode((folder / "about.json").read_bytes(), type=NewTask)
            if not found.is_under_way:
                return found
            if not _is_locked(folder):
                return msgspec.structs.replace(found, state="interrupted")
            with contextlib.suppress(FileNotFoundError):
                told = msgspec.json.decode((folder / "progress.json").read_bytes(), type=dict[str, Any])
                return msgspec.structs.replace(found, told=told)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StoreError(f"New task {task_id} cannot be read: {error}.", hint="Delete its folder.") from error
        return found

    @contextlib.contextmanager
    def receiving(self) -> Iterator[Path]:
        """A place to receive an upload at, gone afterwards unless `create` took it. `LimitError` where there are many.

        Raises `ConfigError` where the settings keep no text.
        """
        check_keeps_text(self._settings)
        parent = self._home / FOLDER
        parent.mkdir(mode=0o700, exist_ok=True)
        # What a gateway that was killed was receiving; uploads end by themselves within an hour.
        for left in parent.glob(".upload-*"):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink(missing_ok=True)
        if sum(1 for _ in parent.iterdir()) >= MOST_KEPT:
            raise LimitError(
                f"{MOST_KEPT} new tasks are kept already.",
                param="",
                status=429,
                retry_after_s=60,
                hint="Discard some that are done.",
            )
        path = parent / f".upload-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def create(self, received: Path, file: str, instructions: str) -> NewTask:
        """A new task of what was received. Raises `DataError` where that is no table of examples, or where these need
        instructions and have none."""
        with received.open("rb") as stream:
            begins = stream.read(4096)
            n_lines = begins.count(b"\n") + sum(
                piece.count(b"\n") for piece in iter(partial(stream.read, 1 << 20), b"")
            )
        if not begins.strip():
            raise DataError("The file is empty.", hint="Upload CSV with a line of names, or JSON lines.")
        if b"\0" in begins or begins.startswith(b"\x1f\x8b"):
            raise DataError("Expected text, got something binary or compressed.", hint="Upload it unpacked.")
        if n_lines > MOST_LINES:
            raise too_many(f"{n_lines:,} lines")
        task = NewTask(id=secrets.token_hex(8), made_s=time.time(), file=file, instructions=instructions)
        folder = self._home / FOLDER / task.id
        folder.mkdir(mode=0o700)
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, folder)
            received.rename(folder / f"upload.{_kind(file, begins)}")
            if not self.sheet(task).is_recorded and not instructions:
                raise DataError(
                    "Expected instructions, got none.",
                    hint="A task is recognised by them: write what your program will say before each text.",
                )
            self._write(task)
            undo.pop_all()
        return task

    def sheet(self, task: NewTask) -> Sheet:
        """What was uploaded. Raises `DataError` where it cannot be read, or is deleted already."""
        found = next((self._home / FOLDER / task.id).glob("upload.*"), None)
        if found is None:
            raise DataError("What was uploaded was deleted once it had been learnt.", hint="Upload it again.")
        return read_sheet(found)

    def convert(self, task: NewTask, choice: Choice) -> Converted:
        """Write the examples down as they will be learnt."""
        admit = Admission(self._settings, self._registry)
        return convert(self.sheet(task), choice, task.instructions, admit, self._home / FOLDER / task.id / _EXAMPLES)

    def begin(self, task: NewTask) -> None:
        """Let it wait for its turn, from the event loop. Raises `LimitError` where too many wait, `UserError` where it
        is done or has begun."""
        if not task.may_start or task.claim is None:
            raise UserError(f"This task is {task.state} already.")
        if len(self._work) >= MOST_WAITING:
            raise LimitError(
                f"{MOST_WAITING} new tasks wait already.",
                param="",
                status=429,
                retry_after_s=60,
                hint="Start this one once one of them is done; nothing of it is lost.",
            )
        folder = self._home / FOLDER / task.id
        lock = _lock(folder)
        if lock is None:
            raise UserError("This task waits or runs already.")
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, lock)
            (folder / "cancel").unlink(missing_ok=True)
            (folder / "progress.json").unlink(missing_ok=True)
            waiting = msgspec.structs.replace(task, state="waiting", message="", told={})
            self._write(waiting)
            undo.pop_all()
        self._work.start(self._run(waiting, lock))

    def reopen(self, task: NewTask) -> None:
        """Let its columns and its promise be chosen again. Raises `UserError` where it cannot be started."""
        if not task.may_start:
            raise UserError(f"This task is {task.state}.", hint="Upload the examples again.")
        self._write(msgspec.structs.replace(task, state="uploaded", message="", told={}))

    def cancel(self, task: NewTask) -> None:
        """Ask the worker that has it to end it; soon after nothing of it runs."""
        if task.is_under_way:
            (self._home / FOLDER / task.id / "cancel").touch(mode=0o600)

    def discard(self, task: NewTask) -> None:
        """Forget the upload. What has been learnt stays. Raises `UserError` while it waits or runs."""
        if task.is_under_way:
            raise UserError("This task waits or runs.", hint="Cancel it first.")
        shutil.rmtree(self._home / FOLDER / task.id)

    async def aclose(self) -> None:
        """End what runs; it can be started again."""
        await self._work.aclose()

    async def _run(self, task: NewTask, lock: int) -> None:
        """One job, from its turn to its end."""
        folder = self._home / FOLDER / task.id
        try:
            async with self._turn:
                if (folder / "cancel").exists():
                    self._write(msgspec.structs.replace(task, state="cancelled"))
                    return
                running = msgspec.structs.replace(task, state="running")
                self._write(running)
                self._write(await self._distil(running, folder))
            await self._tasks.refresh()
        finally:
            os.close(lock)

    async def _distil(self, task: NewTask, folder: Path) -> NewTask:
        told: dict[str, Any] = {}
        job = await self._start(_command(task, self._home, folder), environment(self._settings), told.update)
        waiting = asyncio.ensure_future(job.wait())
        seen: dict[str, Any] = {}
        try:
            while not waiting.done():
                await asyncio.wait((waiting,), timeout=POLL_S)
                if (folder / "cancel").exists():
                    await job.stop()
                    return msgspec.structs.replace(task, state="cancelled", told={})
                if told != seen and not waiting.done():
                    seen = dict(told)
                    _replace(folder / "progress.json", msgspec.json.encode(seen))
        except asyncio.CancelledError:
            await job.stop()
            raise
        return _ended(task, folder, waiting.result())

    def _write(self, task: NewTask) -> None:
        _replace(self._home / FOLDER / task.id / "about.json", msgspec.json.encode(task))

    async def _start_subprocess(self, command: Sequence[str], environment: dict[str, str], progress: Progress) -> Job:
        return await subprocess.start(
            command, niceness=self._settings.learning.niceness, progress=progress, environment=environment
        )


def _command(task: NewTask, home: Path, folder: Path) -> list[str]:
    claim = task.claim
    assert claim is not None
    command = [sys.executable, "-m", "pilotfish", "distil", "--on", str(folder / _EXAMPLES), "--home", str(home)]
    command += ["--max-risk", repr(claim.max_risk), "--confidence", repr(claim.confidence), "--per", claim.per]
    return [*command, "--progress-json", *([] if task.is_sample else ["--teach-only"])]


def _ended(task: NewTask, folder: Path, finished: Finished) -> NewTask:
    """What became of it. What was uploaded stays only where it may be needed again."""
    told = finished.last or {}
    if finished.exit_code not in (0, 1) or "outcomes" not in told:
        said = finished.stderr_tail.strip()[-1000:] or f"It ended with exit code {finished.exit_code}."
        return msgspec.structs.replace(task, state="failed", message=said, told={})
    for path in folder.iterdir():
        if path.name.startswith(("upload.", _EXAMPLES)):
            path.unlink()
    return msgspec.structs.replace(task, state="done", message=finished.stderr_tail.strip()[-1000:], told=told)


def _kind(file: str, begins: bytes) -> str:
    """Which of the formats it is: by the name where that says it, else by how it begins."""
    is_json = begins.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"["))
    return _SUFFIXES.get(Path(file).suffix.lower(), "jsonl" if is_json else "csv")


def _lock(folder: Path) -> int | None:
    """The job's lock, None where another has it."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _is_locked(folder: Path) -> bool:
    fd = _lock(folder)
    if fd is not None:
        os.close(fd)
    return fd is None


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f".{path.name}")
    fresh.write_bytes(data)
    fresh.replace(path)
