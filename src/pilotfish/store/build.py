"""From a home folder to the objects of the store: the only place that knows the names of its files.

    HOME/log.db  HOME/spool/  HOME/registry.db  HOME/usage/  HOME/embeddings.safetensors
    HOME/specialists/.tuning/  HOME/answers/ (`answer_sources.py`)  HOME/encoders/  HOME/adopting.lock

The folder is created readable by its owner only, since the log holds what people wrote. Each function raises
`StoreError` where the folder cannot be used or was written by a newer version.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from pilotfish.core.errors import StoreError
from pilotfish.store.spool import Spool
from pilotfish.store.sqlite_by_hand import SqliteByHand
from pilotfish.store.sqlite_file import file_lock
from pilotfish.store.sqlite_import import Importer, import_spool
from pilotfish.store.sqlite_keys import SqliteKeys
from pilotfish.store.sqlite_log import SqliteLog
from pilotfish.store.sqlite_registry import SqliteRegistry
from pilotfish.store.sqlite_routes import SqliteRoutes
from pilotfish.store.tallies import MappedTallies


def open_log(home: Path) -> SqliteLog:
    """The log of a home folder, with everything that its spool holds so far."""
    spool, database = _spool(home), home / "log.db"
    log = SqliteLog(database)
    import_spool(spool, database)
    return log


def prune(home: Path, before_s: float) -> int:
    """Delete requests before a time, and what was made of their texts on the way; how many requests went."""
    embeddings(home).unlink(missing_ok=True)
    shutil.rmtree(tuning(home / "specialists"), ignore_errors=True)
    return open_log(home).prune(before_s)


def embeddings(home: Path) -> Path:
    """Where learning remembers embeddings (`specialists/remembered.py`)."""
    return home / "embeddings.safetensors"


def tuning(specialists: Path) -> Path:
    """Where interrupted fine-tuning stands (`students/tuned.py`), activations of texts among it."""
    return specialists / ".tuning"


def encoder(home: Path, sha256: str) -> Path:
    """Where the own encoder of an adopted route stands, by its hash."""
    return encoders(home) / sha256[:16]


def encoders(home: Path) -> Path:
    """The folder of all of these."""
    return home / "encoders"


def adopting(home: Path) -> AbstractContextManager[None]:
    """Held while a route is adopted: else the encoder of one could go as unused before that route is known."""
    return file_lock(home / "adopting.lock")


def open_writer(home: Path) -> Spool:
    """What the gateway appends its rows to. Close it before the importer."""
    return Spool(_spool(home))


def open_importer(home: Path) -> Importer:
    """A thread that moves the spool into the log; for as long as the gateway runs."""
    spool, database = _spool(home), home / "log.db"
    SqliteLog(database)
    return Importer(spool, database)


def open_registry(home: Path) -> SqliteRegistry:
    """The registry of a home folder."""
    _spool(home)
    return SqliteRegistry(home / "registry.db")


def open_by_hand(home: Path) -> SqliteByHand:
    """What people did on the pages of a home folder's gateway."""
    _spool(home)
    return SqliteByHand(home / "registry.db")


def open_keys(home: Path) -> SqliteKeys:
    """The virtual keys of a home folder."""
    _spool(home)
    return SqliteKeys(home / "registry.db")


def open_routes(home: Path) -> SqliteRoutes:
    """The adopted routes of a home folder."""
    _spool(home)
    return SqliteRoutes(home / "registry.db")


def open_tallies(home: Path) -> MappedTallies:
    """What the keys of a home folder have used, to be counted by this process too."""
    _spool(home)
    return MappedTallies(usage(home))


def open_route_tally(home: Path) -> MappedTallies:
    """What requests under routes have cost in a home folder, to be counted by this process too."""
    _spool(home)
    usage(home).mkdir(mode=0o700, exist_ok=True)
    return MappedTallies(usage(home) / "routes")


def usage(home: Path) -> Path:
    """The folder in which the use of keys is counted."""
    return home / "usage"


def _spool(home: Path) -> Path:
    """The spool folder, created with the home folder where they are missing."""
    spool = home / "spool"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        spool.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The home folder {str(home)!r} cannot be used: {error.strerror}.",
            hint="Choose another with --home or PILOTFISH_HOME.",
        ) from error
    return spool
