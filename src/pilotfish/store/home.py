"""A user's home folder, opened: the log, the registry and the folder of specialists in one hand.

Commands and learning work on one of these. The names of the files in it are known to `build.py`, what stands in them
to the store's other files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pilotfish.config.settings import LearningSettings
from pilotfish.core.errors import StoreError
from pilotfish.store.answer_sources import AnswerSources
from pilotfish.store.base import Log, Registry
from pilotfish.store.build import open_log, open_registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where commands and learning work. `folder` holds everything; `specialists` one folder per specialist.

    `learning` says, among others, what two retrieved answers must have in common, and who may have them.
    """

    folder: Path
    log: Log
    registry: Registry
    learning: LearningSettings = field(default_factory=LearningSettings)

    @property
    def answers(self) -> AnswerSources:
        """What users gave of their own."""
        return AnswerSources(self.folder)

    @property
    def specialists(self) -> Path:
        """The folder of specialists, each named by its content hash."""
        return self.folder / "specialists"

    @contextlib.contextmanager
    def learning_alone(self, say_waiting: Callable[[], None]) -> Iterator[None]:
        """Wait until no other process learns in this home, then keep others waiting. `say_waiting` where it has to.

        Two at once would each count the attempts that had been made before, and spend the same share of delta twice.
        The kernel lets go of the lock however the process ends.
        """
        path = self.folder / "learning.lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{str(path)!r} cannot be used: {error.strerror}.") from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say_waiting()
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def open_home(folder: Path, learning: LearningSettings | None = None) -> Home:
    """The home in `folder`, made where it is missing, for learning with these settings (the default ones).

    Raises `StoreError` where it cannot be used.
    """
    log, registry = open_log(folder), open_registry(folder)
    return Home(folder=folder, log=log, registry=registry, learning=learning or LearningSettings())
