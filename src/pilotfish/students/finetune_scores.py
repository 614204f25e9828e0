"""Fine-tunes the last layers of a sentence encoder on graded answers, with a logistic head per model, in torch.

As `finetune.py`, which has the run: a head says with what probability its model answers a text well. Heads are learnt
together over one encoder, which reads a text once for all of them. Nothing is held out: outcomes are too noisy to tell
one epoch from the next, so the recipe's epochs are all done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotfish.core.errors import MissingExtraError
from pilotfish.students.finetune import SCALE, Rows, Step, TextRun
from pilotfish.students.last_layers import Layers
from pilotfish.students.recipe import Recipe

try:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("train", error.name or "torch") from error

_LEAST_SHARE = 1e-2
"""The heads start from each model's mean score, kept so far from 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDrill(Rows):
    """What is learnt: how good each model's answer to each text was, `scores` [n, models] in 0..1."""

    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedScores:
    """The layers' weights by name, and the logistic heads on their embeddings: `heads` [models, dimension] and
    `biases` [models]."""

    weights: dict[str, NDArray[np.float32]]
    heads: NDArray[np.float32]
    biases: NDArray[np.float32]


def tune_scores(
    drill: ScoreDrill, layers: Layers, recipe: Recipe, *, checkpoint: Path | None = None, step: Step | None = None
) -> TunedScores:
    """The layers and heads after the recipe's epochs; `checkpoint` as in `finetune.tune`."""
    run = _Models(drill, layers, recipe)
    run.finish(checkpoint=checkpoint, step=step)
    heads, biases = (head.detach().numpy().copy() for head in run.heads)
    return TunedScores(weights=run.weights, heads=SCALE * heads, biases=biases)


class _Models(TextRun):
    """Logistic heads, one a model, that start from its mean score."""

    drill: ScoreDrill

    def start(self) -> list[NDArray[np.float32]]:
        """Heads that say nothing yet, with each model's mean score."""
        scores = self.drill.scores
        self.scores = torch.tensor(scores)
        shares = scores[self.drill.rows].mean(axis=0).clip(_LEAST_SHARE, 1.0 - _LEAST_SHARE)
        heads = np.zeros((scores.shape[1], self.drill.activations.values.shape[1]), np.float32)
        return [heads, np.log(shares / (1.0 - shares)).astype(np.float32)]

    def loss_of(self, embeddings: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The mean cross-entropy of the scores; a graded one counts as a share of a right answer."""
        heads, biases = self.heads
        return functional.binary_cross_entropy_with_logits(SCALE * embeddings @ heads.T + biases, self.scores[rows])
