"""What a model says of one text, in the words that quantized models are compared in (`guarantees/quantized.py`).

Whoever opens a model says it in these: torch or llama.cpp, a classifier or a language model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a model says of one text: its label, or the likeliest token at each place, with their probabilities.

    `score` is the share of right ones, None where nobody knows what is right; `loss` the mean negative log-likelihood
    of the text's tokens in nats, None for classifiers.
    """

    answers: list[str]
    confidence: list[float]
    score: float | None
    loss: float | None = None
