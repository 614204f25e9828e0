"""An encoder of a route's own: its last layers fine-tuned on how well models answered, with a head for each of them.

One encoder serves all models of a cascade, so a live decision reads a prompt once. What some rows taught is remembered
by those rows, in memory and in `folder`, so that the folds of the next model cost nothing and an interrupted run goes
on. What is written for the live path is an int8 graph, checked against torch; it needs no torch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pilotfish.core.ids import sha256
from pilotfish.specialists.encoder import Encoder
from pilotfish.students import encoder_cache, last_layers, tuned
from pilotfish.students.activations import Progress, compute
from pilotfish.students.finetune_scores import ScoreDrill, TunedScores, tune_scores
from pilotfish.students.recipe import Recipe, Tuning

N_LAYERS = 3
"""That learn, where the recipe does not say. All six cost twice as much."""

RECIPE = Recipe(n_layers=N_LAYERS, n_epochs=2, learning_rate=1e-4)
"""Twice over the rows and no more: outcomes are noisy, and what is learnt later is the noise (two CPU-minutes for 3,000
prompts)."""

NAME = "route"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What some rows taught: `heads` [models, dimension] and `biases` [models] of logistic heads, and the embeddings of
    all prompts [n, dimension] that they go with. `encoder_sha256` is that of the encoder written, if one was."""

    heads: NDArray[np.float32]
    biases: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    encoder_sha256: str = ""


class OutcomeReader:
    """Learns from prompts and the scores [n, models] of the answers to them. `folder` is the caller's to remove."""

    def __init__(
        self,
        prompts: Sequence[str],
        scores: Sequence[Sequence[float]],
        encoder: Encoder,
        tuning: Tuning,
        folder: Path,
        progress: Progress | None = None,
    ) -> None:
        """`encoder` is the one of the weights that `tuning` starts from. Raises `UserError` where these are missing."""
        self._prompts, self._tuning, self._progress = prompts, tuning, progress
        self._scores = np.array(scores, np.float32)
        decides = [sha256(json.dumps(list(prompts)).encode()), sha256(self._scores.tobytes())]
        decides += [encoder.sha256, tuning.weights.sha256, json.dumps(dataclasses.asdict(tuning.recipe))]
        self._folder = folder / sha256("".join(decides).encode())[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._layers, lower = tuned.cut(tuning, N_LAYERS)
        self._activations = compute(prompts, encoder, lower, self._folder / "activations.npy", progress)
        self._known: dict[str, Read] = {}
        self._own: Encoder | None = None
        self.files: Mapping[str, bytes] = {}

    @property
    def encoder(self) -> Encoder:
        """The int8 encoder that all rows taught; it is learnt where it has not been yet."""
        assert self.whole
        assert self._own is not None
        return self._own

    @property
    def whole(self) -> Read:
        """What all rows teach."""
        return self.read(np.arange(len(self._prompts)))

    def read(self, rows: NDArray[np.intp]) -> Read:
        """What these rows teach. Of all rows the embeddings are those of the int8 encoder that will serve."""
        name = sha256(np.sort(rows).astype(np.int64).tobytes())[:16]
        if name not in self._known:
            learnt = self._tune(np.sort(rows), name)
            every = len(rows) == len(self._prompts)
            vectors = self._served(learnt) if every else self._exact(learnt, np.arange(len(self._prompts)))
            own = self._own.sha256 if every and self._own is not None else ""
            self._known[name] = Read(heads=learnt.heads, biases=learnt.biases, embeddings=vectors, encoder_sha256=own)
        return self._known[name]

    def _tune(self, rows: NDArray[np.intp], name: str) -> TunedScores:
        def step(done: int, total: int, loss: float) -> None:
            if self._progress is not None:
                self._progress(f"fine-tune on {len(rows):,}: loss {loss:.3f}", done, total)

        drill = ScoreDrill(activations=self._activations, rows=rows, held_out=np.empty(0, np.intp), scores=self._scores)
        checkpoint = self._folder / f"{name}.safetensors"
        return tune_scores(drill, self._layers, self._tuning.recipe, checkpoint=checkpoint, step=step)

    def _served(self, learnt: TunedScores) -> NDArray[np.float32]:
        """What the encoder made of all rows says, as it will live. Raises `SpecialistError` where it is broken."""
        weights = self._tuning.weights
        self.files = encoder_cache.contents(weights, replaced=learnt.weights, name=f"{weights.name}, fine-tuned")
        self._own = Encoder.of(self.files, NAME)
        vectors = self._own.encode(self._prompts)
        rows = tuned.some(len(vectors))
        tuned.checked(self._exact(learnt, rows), vectors[rows], NAME)
        return vectors

    def _exact(self, learnt: TunedScores, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return last_layers.embed(self._activations, rows, self._layers, learnt.weights)
