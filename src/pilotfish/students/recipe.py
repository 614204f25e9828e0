"""How an encoder's last layers are to be fine-tuned, and when; needs nothing installed, so that anyone may hold one.

What is done with it is known to `tuned.py` and `finetune.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pilotfish.students.weights import Weights

Optimizer = Literal["adamw", "sgd"]

MIN_EPOCHS, MAX_EPOCHS, MIN_STEPS = 3, 8, 200
"""As many epochs as make so many steps, within these bounds: of 770 rows (77 intents, 10 each) 3 epochs are 75 steps,
whose layers told 84.9 % of 1,500 others, those of 8 epochs 85.7 %, of 12 84.7 %. From 2,113 rows on 3 suffice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the layers learn. `n_layers` are the last ones, as many as suit the task where it is None. `n_epochs` is the
    most, as many as suit the rows where it is None: fewer where what is held out says so."""

    n_layers: int | None = None
    n_epochs: int | None = None
    learning_rate: float = 2e-4
    optimizer: Optimizer = "adamw"
    batch: int = 32
    seed: int = 0

    def epochs(self, n_rows: int) -> int:
        """The most that so many rows are gone through."""
        if self.n_epochs is not None:
            return self.n_epochs
        wanted = math.ceil(MIN_STEPS / math.ceil(n_rows / self.batch))
        return min(max(wanted, MIN_EPOCHS), MAX_EPOCHS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Fine-tuning as an attempt may do it: from these weights, always or only where it is expected to pay.

    `announce` is told in a sentence what it is about to cost.
    """

    weights: Weights
    recipe: Recipe = field(default_factory=Recipe)
    is_forced: bool = False
    announce: Callable[[str], None] | None = None
