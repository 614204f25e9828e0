"""The run-time half of a specialist that gives past answers again: a question it knows first, then what is near.

A question that was always answered alike, word for word, gets that answer without being encoded. Any other goes to the
students of `specialist.py`, among them the vote of the nearest answered questions; one of their classes is "none of the
past answers", which has no certainty. The folder holds hashes of questions, and texts of answers on its card.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilotfish.core.errors import MissingExtraError
from pilotfish.specialists.card import Folder
from pilotfish.specialists.specialist import Predictions, Specialist, tensors_of

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("local", "numpy") from error

if TYPE_CHECKING:  # without an encoder nothing of what runs one is installed
    from pilotfish.specialists.encoder import Encoder

QUESTIONS = "questions"
"""The tensor of hashes of questions that were always answered alike [n, 16 bytes]."""

ANSWERS = "answers"
"""The tensor of the numbers of their answers among the classes [n]."""

CERTAIN = 1.0
"""Certainty and scope of a question that is known word for word: no gate of a certificate is higher."""


class Retriever(Specialist):
    """A loaded specialist that gives past answers again. `predict` may be called from several threads."""

    def __init__(self, folder: Folder, encoder: Encoder | None) -> None:
        super().__init__(folder, encoder)
        tensors = tensors_of(folder)
        (classes,) = folder.card.classes
        self._known = {
            bytes(key): classes[number] for key, number in zip(tensors[QUESTIONS], tensors[ANSWERS], strict=True)
        }

    def predict(self, texts: Sequence[str], embeddings: NDArray[np.float32] | None = None) -> Predictions:
        """The answers to n texts; those known word for word are not encoded."""
        known = self._exact(texts)
        rest = [number for number, value in enumerate(known) if value is None]
        if not rest:
            return self._with_exact(known, None)
        found = super().predict([texts[i] for i in rest], None if embeddings is None else embeddings[rest])
        return self._with_exact(known, found)

    def predict_first(self, texts: Sequence[str]) -> Predictions:
        """The answers of the first tier: questions known word for word, and the n-grams."""
        known = self._exact(texts)
        rest = [text for text, value in zip(texts, known, strict=True) if value is None]
        return self._with_exact(known, super().predict_first(rest) if rest else None)

    def _exact(self, texts: Sequence[str]) -> list[str | None]:
        return [self._known.get(question_key(text)) for text in texts]

    @staticmethod
    def _with_exact(known: Sequence[str | None], rest: Predictions | None) -> Predictions:
        """What is known word for word, and in the other places the predictions of the `rest`, in order."""
        is_rest = np.array([value is None for value in known])
        certainty, scope = np.full(len(known), CERTAIN), np.full(len(known), CERTAIN)
        others = iter(() if rest is None else rest.answers)
        if rest is not None:
            certainty[is_rest], scope[is_rest] = rest.certainty, rest.scope
        answers = [next(others) if value is None else (value,) for value in known]
        return Predictions(answers=answers, certainty=certainty, scope=scope)


def question_key(text: str) -> bytes:
    """The 16 bytes that name a question; case and spaces do not count."""
    folded = " ".join(text.split()).casefold()
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()
