"""How an encoder's last layers are to be fine-tuned, and when; needs nothing installed, so that anyone may hold one.

What is done with it is known to `tuned.py` and `finetune.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pilotfish.students.weights import Weights

Optimizer = Literal["adamw", "sgd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the layers learn. `n_layers` are the last ones, as many as suit the task where it is None. `n_epochs` is the
    most: fewer where what is held out says so."""

    n_layers: int | None = None
    n_epochs: int = 3
    learning_rate: float = 2e-4
    optimizer: Optimizer = "adamw"
    batch: int = 32
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Fine-tuning as an attempt may do it: from these weights, always or only where it is expected to pay.

    `announce` is told in a sentence what it is about to cost.
    """

    weights: Weights
    recipe: Recipe = field(default_factory=Recipe)
    is_forced: bool = False
    announce: Callable[[str], None] | None = None
