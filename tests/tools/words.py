"""A task whose answer follows from one word, and an encoder that sees the words, so distilling is quick."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pilotfish.core.example import Example
from pilotfish.core.task import AnswerShape, Field, Task

CLASSES = {"refund": "money back return", "hours": "open close today", "login": "password account enter"}
FILLER = [
    "please",
    "hello",
    "could",
    "you",
    "tell",
    "me",
    "about",
    "the",
    "my",
    "your",
    "now",
    "again",
    "thanks",
    "order",
]


class WordEncoder:
    """A real, tiny encoder: the normalised sum of a fixed random vector a word."""

    dimension = 32
    name = "words"
    sha256 = "0" * 64

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = np.array([sum(self._vector(word) for word in text.split()) for text in texts], np.float32)
        scaled: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return scaled

    def _vector(self, word: str) -> npt.NDArray[np.float64]:
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
        return np.random.default_rng(seed).normal(size=self.dimension)


ENCODER = WordEncoder()
SHAPE = AnswerShape(kind="label", fields=(Field(name="", values=tuple(CLASSES)),))
TASK = Task(id="a" * 16, name="intent", instructions_id="b" * 16, instructions="Which intent?", shape=SHAPE)


def word_examples(n: int, vague: float = 0.15, seed: int = 0) -> list[Example]:
    """`n` examples; the share `vague` of them says nothing of its answer."""
    source = random.Random(seed)
    rows = []
    for i in range(n):
        name = source.choice(list(CLASSES))
        words = [*source.sample(FILLER, 4), source.choice(CLASSES[name].split())]
        source.shuffle(words)
        if source.random() < vague:
            words = source.sample(FILLER, 5)
            name = source.choice(list(CLASSES))
        answer = name
        rows.append(Example(text=" ".join(words), answer=(answer,), time_s=float(i), request_id=f"r{i}"))
    return rows
