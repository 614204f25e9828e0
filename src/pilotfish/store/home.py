"""A user's home folder, opened: the log, the registry and the folder of specialists in one hand.

Commands and learning work on one of these. The names of the files in it are known to `build.py`, what stands in them
to the store's other files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilotfish.store.base import Log, Registry
from pilotfish.store.build import open_log, open_registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where commands and learning work. `folder` holds everything; `specialists` one folder per specialist."""

    folder: Path
    log: Log
    registry: Registry

    @property
    def specialists(self) -> Path:
        """The folder of specialists, each named by its content hash."""
        return self.folder / "specialists"


def open_home(folder: Path) -> Home:
    """The home in `folder`, made where it is missing. Raises `StoreError` where it cannot be used."""
    return Home(folder=folder, log=open_log(folder), registry=open_registry(folder))
