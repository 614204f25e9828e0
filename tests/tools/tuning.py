"""A task that features frozen in advance cannot tell apart, and what fine-tuning a tiny encoder for it takes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.students import weights
from pilotfish.students.recipe import Recipe, Tuning
from tools.tiny_tasks import label_task

RECIPE = Recipe(n_layers=2, n_epochs=4, learning_rate=1e-2, batch=8)
"""Of an encoder with random weights, which takes larger steps than one that was trained."""


def order_task() -> Task:
    """Which of q and z comes first in a text."""
    return label_task(("q", "z"))


def in_order(n: int, *, seed: int = 0) -> list[Example]:
    """`n` examples of `order_task`: all texts of one answer hold the same letters as those of the other."""
    rng = random.Random(seed)
    found = []
    for index in range(n):
        letters = [*rng.sample("abcdefghijklmnoprstuvwxy", 2), "q", "z"]
        rng.shuffle(letters)
        answer = min("qz", key=letters.index)
        found.append(Example(text=" ".join(letters), answer=(answer,), time_s=float(index), request_id=f"r{index}"))
    return found


def tuning(folder: Path, recipe: Recipe = RECIPE, **options: Any) -> Tuning:
    """Fine-tuning of the tiny encoder in `folder`."""
    return Tuning(weights=weights.find(str(folder / "tiny-bert")), recipe=recipe, **options)
