"""Loads specialists by the hash that the registry names; only here does the gateway touch numerical libraries.

They are imported with the first specialist, so that a gateway that observes needs none of them.
"""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.config.settings import NO_ENCODER
from pilotfish.core.errors import SpecialistError, UserError
from pilotfish.gateway.local import Predictor
from pilotfish.store import build as store

if TYPE_CHECKING:
    from pilotfish.specialists.encoder import Encoder


NEEDED = ("numpy", "onnxruntime", "tokenizers")
"""What runs the encoder, of the `local` extra."""


class SpecialistFolder:
    """The specialists of one home, with the encoder they share."""

    def __init__(self, folder: Path, *, cache: Path, encoder: str) -> None:
        """`encoder` is the setting: a known name, a folder or a hub id; `cache` where it is kept once built."""
        self._folder = folder
        self._cache = cache
        self._source = encoder
        self._encoder: Encoder | None = None
        self._lock = threading.Lock()

    def load(self, sha256: str) -> Predictor:
        """The specialist with this hash, warmed up by one text.

        Raises `SpecialistError` where its folder is missing, changed or another's, `UserError` where the libraries
        are not installed (`MissingExtraError`) or the encoder's weights are missing.
        """
        from pilotfish.specialists import load  # noqa: PLC0415
        from pilotfish.specialists.card import read_folder  # noqa: PLC0415

        folder = read_folder(self._folder / sha256[:16])
        # One with an encoder of its own, or with none, leaves the shared one where it is.
        specialist = load.of(folder, self.encoder() if folder.card.shares_encoder else None)
        if specialist.sha256 != sha256:
            raise SpecialistError(f"The folder {sha256[:16]} holds another specialist than the registry names.")
        specialist.predict(["warm-up"])
        return specialist

    def own_encoder(self, sha256: str) -> Encoder | None:
        """The own encoder of an adopted route; None where there is none. `SpecialistError` where it is broken."""
        from pilotfish.specialists.encoder import Encoder  # noqa: PLC0415

        folder = store.encoder(self._folder.parent, sha256)
        return Encoder.load(folder) if folder.is_dir() else None

    @property
    def encoder_name(self) -> str:
        """What clients call the encoder: the setting, of a folder only its own name."""
        path = Path(self._source)
        return path.name if path.is_dir() else self._source

    @property
    def has_libraries(self) -> bool:
        """Whether there is to be an encoder, and what runs it is installed; nothing of it is imported."""
        return self._source != NO_ENCODER and all(importlib.util.find_spec(module) is not None for module in NEEDED)

    def encoder(self) -> Encoder:
        """The encoder, loaded once, from any thread.

        Raises `UserError` where its weights are missing or none is wanted, `SpecialistError` where it cannot be loaded.
        """
        from pilotfish.students.encoder_cache import open_encoder  # noqa: PLC0415

        if self._source == NO_ENCODER:
            raise UserError("There is no encoder here.", hint="Name one in [learning] encoder.")
        with self._lock:
            if self._encoder is None:
                self._encoder = open_encoder(self._cache, self._source)
        return self._encoder
