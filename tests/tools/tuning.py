"""Tasks that features frozen in advance cannot tell apart, and what fine-tuning a tiny encoder for them takes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.scoring.answers import parse, settle
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


READING = Recipe(n_layers=2, n_epochs=4, learning_rate=2e-3, batch=8)
"""Of the same encoder, for `questions`."""


def questions(n: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """`n` passages of made-up words, each with a question which of two words stands in it, and the answer."""
    rng = random.Random(seed)
    syllables = [consonant + vowel for consonant in "bcdfgklmnprst" for vowel in "aeiou"]
    found = []
    for _ in range(n):
        words = rng.sample([one + other for one in syllables for other in syllables], 9)
        answer = rng.choice(words[:8])
        asked = rng.sample([answer, words[8]], 2)
        found.append((f"{' '.join(words[:8])}\n\nQuestion: {asked[0]} or {asked[1]}?", answer))
    return found


def reading_task(pairs: list[tuple[str, str]]) -> Task:
    """Their task, as recognised."""
    shape = settle([answer for _, answer in pairs], [text for text, _ in pairs])
    return Task(id="4" * 16, name="which-word", instructions_id="5" * 16, instructions="Answer.", shape=shape)


def question_examples(pairs: list[tuple[str, str]], task: Task) -> list[Example]:
    """The pairs as examples, in order."""
    return [
        Example(text=text, answer=parse(task.shape, answer), time_s=float(number), request_id=f"r{number}")
        for number, (text, answer) in enumerate(pairs)
    ]


def tuning(folder: Path, recipe: Recipe = RECIPE, **options: Any) -> Tuning:
    """Fine-tuning of the tiny encoder in `folder`."""
    return Tuning(weights=weights.find(str(folder / "tiny-bert")), recipe=recipe, **options)
