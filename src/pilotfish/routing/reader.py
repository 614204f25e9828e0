"""What an encoder makes of prompts, for `learn.py`: heads that some outcomes teach, and the embeddings they go with.

An encoder that stays as it is is read here; one that learns from the outcomes itself comes from above
(`guarantees/route_attempt.py`), since training is not known on this layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.core.outcome import Outcome
from pilotfish.routing import fit
from pilotfish.routing.gain import Heads

NAME = "encoder"
"""What an encoder is called among the signals."""


class Reader(Protocol):
    """An encoder that has read the prompts of some outcomes."""

    @property
    def n_folds(self) -> int:
        """The folds that it is worth to tell out of: fewer where learning takes minutes."""

    @property
    def embeddings(self) -> NDArray[np.floating[Any]]:
        """Those [n, d] of all outcomes, by the encoder that will serve."""

    def heads(self, rows: NDArray[np.intp], smaller: str, larger: str) -> tuple[Heads, NDArray[np.floating[Any]]]:
        """The heads for two models that these rows teach, and the embeddings [n, d] of all outcomes they go with."""


class Frozen:
    """Embeddings [n, d] of the outcomes' prompts by an encoder that stays as it is."""

    n_folds = 5

    def __init__(self, outcomes: Sequence[Outcome], embeddings: NDArray[np.floating[Any]], sha256: str) -> None:
        """`sha256` is the encoder's."""
        self._outcomes, self.embeddings, self._sha256 = outcomes, embeddings, sha256

    def heads(self, rows: NDArray[np.intp], smaller: str, larger: str) -> tuple[Heads, NDArray[np.floating[Any]]]:
        """As `Reader` says."""
        scores = [[self._outcomes[i].tried[name].score for i in rows] for name in (smaller, larger)]
        return fit.heads(self.embeddings[rows], scores[0], scores[1], self._sha256), self.embeddings
