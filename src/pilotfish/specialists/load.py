"""Loads a specialist of whatever kind its card says: callers know one protocol, that of `Specialist`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.specialists.card import Folder, read_folder
from pilotfish.specialists.retriever import Retriever
from pilotfish.specialists.specialist import Specialist

if TYPE_CHECKING:  # without an encoder nothing of what runs one is installed
    from pilotfish.specialists.encoder import Encoder


def load(folder: Path, encoder: Encoder | None) -> Specialist:
    """The specialist in `folder`. Raises `SpecialistError` as `Specialist.load` does."""
    return of(read_folder(folder), encoder)


def of(folder: Folder, encoder: Encoder | None) -> Specialist:
    """The same of a folder that has been read."""
    if folder.card.shape.kind == "extraction":
        # They need what runs an encoder, which specialists of n-grams alone do without.
        from pilotfish.specialists.extractor import Extractor  # noqa: PLC0415
        from pilotfish.specialists.reader import Reader  # noqa: PLC0415

        reads = Extractor if folder.card.shares_encoder else Reader
        return reads.of(folder, encoder)
    kind = Retriever if folder.card.shape.is_retrieved else Specialist
    return kind.of(folder, encoder)
