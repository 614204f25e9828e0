"""Where the configuration file and the cache folder are: what a command needs that reads no settings.

Apart from `load.py`, whose tables of settings cost a light command a third of its start.
"""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "PILOTFISH_"
FILE_NAME = "pilotfish.toml"


def cache() -> Path:
    """The folder of what can be built again: encoders, what was measured (`PILOTFISH_CACHE`, else the user's cache)."""
    chosen = os.environ.get(f"{PREFIX}CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pilotfish"
