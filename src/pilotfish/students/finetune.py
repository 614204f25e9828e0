"""Fine-tunes the last layers of a sentence encoder, with a cosine head per field, in torch.

Arrays in, arrays out: what the layers below say of each text, which is computed once and stays as it is, and the
numbers of the answers; out come the layers' new weights and the heads. Texts, folds and files are `tuned.py`'s. Seeds
are fixed, also of the dropout of each epoch, so that a run which was interrupted ends as one which was not. What heads
are and what they are to say is a `Run`'s own: `finetune_scores.py` has others.
"""

from __future__ import annotations

import json
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.core.errors import MissingExtraError
from pilotfish.students.activations import Activations
from pilotfish.students.last_layers import LastLayers, Layers, embed_all, padded, to_weights
from pilotfish.students.recipe import Recipe

try:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("train", error.name or "torch") from error

SCALE = 20.0
"""Of the cosines before the softmax; the mixture's weight of this student is fitted out of fold anyway."""

TEMPERED = (0.25, 0.5, 0.75, 1.0, 1.5)
"""For the same reason the loss on what is held out is that at the best of these multiples of `SCALE`: on sst2 the loss
as it is rose from the first epoch on, while of the answers 2 points more became right."""

MAX_START = 2000
"""Texts that the class means are made from, as many of each class as that allows."""

HEAD_RATE = 10.0
"""The heads learn so many times faster than the layers: their class means are a start, not an answer."""

WARM_UP = 0.1
CLIP = 1.0
WEIGHT_DECAY = 0.01
MOMENTUM = 0.9
SGD_RATE = 100.0
"""Steps of stochastic gradient descent are not scaled by the gradient's size, so their rate is so many times larger."""

PATIENCE = 2

_BUCKET = 20
"""Batches drawn at once and sorted by length among themselves, so that little is padded."""

Step = Callable[[int, int, float], None]
"""Called with the steps done, those there are, and the loss of late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Texts to learn from: `rows` teach, `held_out` say when to stop (empty: after all epochs)."""

    activations: Activations
    rows: NDArray[np.intp]
    held_out: NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill(Rows):
    """What is learnt: the numbers of the answers, `labels`, a field each."""

    labels: Sequence[NDArray[np.int16]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """The layers' weights by name, the heads [classes seen, dimension] (times `SCALE`), the classes that each of them
    knows, and after how many epochs that was."""

    weights: dict[str, NDArray[np.float32]]
    heads: list[NDArray[np.float32]]
    seen: list[NDArray[np.int16]]
    n_epochs: int


def tune(
    drill: Drill,
    layers: Layers,
    recipe: Recipe,
    *,
    heads: Sequence[NDArray[np.float32]] = (),
    checkpoint: Path | None = None,
    step: Step | None = None,
) -> Tuned:
    """The layers after the epoch that did best on what is held out; where nothing is, after the recipe's last.

    `heads`, a row for each class seen, are where the heads begin, if not at the class means. With a `checkpoint` it is
    written after each epoch, and taken up where it is there. It is the caller's to remove, and to name after everything
    that decides what is learnt.
    """
    run = _Fields(drill, layers, recipe, heads)
    run.finish(checkpoint=checkpoint, step=step)
    return run.outcome()


def mean(halves: Sequence[Tuned], drill: Drill) -> Tuned:
    """The mean of their layers and heads, for the classes that the drill teaches; 0 where none has seen a class."""
    heads = []
    for field, labels in enumerate(drill.labels):
        seen = np.unique(labels[drill.rows])
        total = np.zeros((len(seen), halves[0].heads[field].shape[1]), np.float32)
        for half in halves:
            total[np.searchsorted(seen, half.seen[field])] += half.heads[field]
        heads.append(total)
    weights = {name: np.mean([half.weights[name] for half in halves], axis=0) for name in halves[0].weights}
    return Tuned(weights=weights, heads=heads, seen=[], n_epochs=0)


def cpu_seconds(drill: Drill, layers: Layers, recipe: Recipe) -> float:
    """CPU-seconds that one epoch over the drill's rows will take, from one step on a usual batch (after another)."""
    return _Fields(drill, layers, recipe).cpu_seconds()


class Run(ABC):
    """One run over the epochs: model, heads and optimizer, and what the epochs so far led to.

    What is learnt says at what heads it starts, and how wrong they are.
    """

    def __init__(self, drill: Rows, layers: Layers, recipe: Recipe) -> None:
        self.drill, self.layers, self.recipe = drill, layers, recipe
        self.top = LastLayers(layers)
        self.heads = nn.ParameterList([nn.Parameter(torch.tensor(head)) for head in self.start()])
        self.optimizer = _optimizer(self.top, self.heads, recipe)
        self.n_epochs = recipe.epochs(len(drill.rows))
        self.epoch = 0
        self.losses: list[float] = []
        self.best_epoch = 0
        self.best = self._state()

    def finish(self, *, checkpoint: Path | None = None, step: Step | None = None) -> None:
        """Go through what is left of the epochs, and end with the best layers; as `tune`."""
        if checkpoint is not None:
            self.resume(checkpoint)
        while self.epoch < self.n_epochs and not self.is_over:
            self.one_epoch(step)
            if checkpoint is not None:
                self.save(checkpoint)
        self._take(self.best)

    @property
    def n_steps(self) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self.drill.rows) / self.recipe.batch)

    @property
    def is_over(self) -> bool:
        """The loss on what is held out has not fallen for `PATIENCE` epochs."""
        return len(self.losses) > PATIENCE and min(self.losses[-PATIENCE:]) > min(self.losses)

    def one_epoch(self, step: Step | None) -> None:
        """Every row once, then how well what is held out is told."""
        torch.manual_seed(self.recipe.seed * 1000 + self.epoch)
        total, done = self.n_steps * self.n_epochs, self.n_steps * self.epoch
        loss = 0.0
        for number, batch in enumerate(self._batches()):
            found = self.step(batch, _pace((done + number) / total))
            loss = found if not number else 0.95 * loss + 0.05 * found
            if step is not None:
                step(done + number + 1, total, loss)
        self.epoch += 1
        if len(self.drill.held_out):
            self.losses.append(self.held_out_loss())
        if not self.losses or self.losses[-1] == min(self.losses):
            self.best_epoch, self.best = self.epoch, self._state()

    def step(self, batch: Sequence[int], pace: float) -> float:
        """One step down the gradient of a batch; the loss before it."""
        self.top.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * pace
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*self.top.parameters(), *self.heads], CLIP)
        self.optimizer.step()
        return float(loss.detach())

    def cpu_seconds(self) -> float:
        """CPU-seconds that one epoch will take; the run is of no use after."""
        length = self.drill.activations.length
        by_length = sorted(self.drill.rows.tolist(), key=length)
        middle = len(by_length) // 2
        batch = by_length[middle : middle + self.recipe.batch]
        self.step(batch, 0.0)
        started = time.process_time()
        self.step(batch, 0.0)
        return (time.process_time() - started) * sum(map(length, by_length)) / sum(map(length, batch))

    @abstractmethod
    def start(self) -> list[NDArray[np.float32]]:
        """What the heads start from; `self.top` is there already."""

    @abstractmethod
    def loss(self, batch: Sequence[int]) -> torch.Tensor:
        """How wrong layers and heads are about a batch."""

    @abstractmethod
    def held_out_loss(self) -> float:
        """How wrong they are about what is held out."""

    def _batches(self) -> list[list[int]]:
        rng = random.Random(self.recipe.seed * 1000 + self.epoch)
        order, size = self.drill.rows.tolist(), self.recipe.batch
        rng.shuffle(order)
        batches: list[list[int]] = []
        for start in range(0, len(order), size * _BUCKET):
            drawn = sorted(order[start : start + size * _BUCKET], key=self.drill.activations.length)
            batches += [drawn[place : place + size] for place in range(0, len(drawn), size)]
        rng.shuffle(batches)
        return batches

    def _state(self) -> dict[str, torch.Tensor]:
        both = {**self.top.state_dict(), **{f"head {n}": head.detach() for n, head in enumerate(self.heads)}}
        return {name: tensor.clone() for name, tensor in both.items()}

    def _take(self, state: Mapping[str, torch.Tensor]) -> None:
        self.top.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("head ")})
        with torch.no_grad():
            for n, head in enumerate(self.heads):
                head.copy_(state[f"head {n}"])

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The layers' weights by name, as they are now."""
        return to_weights(self.top.state_dict())

    def save(self, path: Path) -> None:
        """Write down all that `resume` needs."""
        tensors = {f"now {name}": tensor for name, tensor in self._state().items()}
        tensors |= {f"best {name}": tensor for name, tensor in self.best.items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer {number} {name}": tensor for name, tensor in state.items()}
        told = {"epoch": self.epoch, "losses": self.losses, "best_epoch": self.best_epoch}
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, {"run": json.dumps(told)})
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Take up what was saved; where there is nothing, or it is broken, from the start."""
        try:
            with safe_open(path, framework="pt") as file:
                told = json.loads(file.metadata()["run"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError, KeyError, ValueError):
            return
        parts: dict[str, dict[str, torch.Tensor]] = {"now": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(" ")
            parts[part][rest] = tensor
        self._take(parts["now"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            number, _, rest = name.partition(" ")
            state.setdefault(int(number), {})[rest] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.epoch, self.losses, self.best_epoch = told["epoch"], told["losses"], told["best_epoch"]
        self.best = parts["best"]


class TextRun(Run):
    """A run whose heads read one embedding a text."""

    def loss(self, batch: Sequence[int]) -> torch.Tensor:
        """How wrong the heads are about the embeddings of a batch."""
        return self.loss_of(self.top(*padded(self.drill.activations, batch)), batch)

    def held_out_loss(self) -> float:
        """How wrong they are about what is held out, as `judged` counts it."""
        rows = self.drill.held_out.tolist()
        with torch.inference_mode():
            return float(self.judged(torch.tensor(embed_all(self.top, self.drill.activations, rows)), rows))

    @abstractmethod
    def loss_of(self, embeddings: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """How wrong the heads are about these embeddings of rows."""

    def judged(self, embeddings: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The loss by which epochs are compared: the same."""
        return self.loss_of(embeddings, rows)


class _Fields(TextRun):
    """Cosine heads, one a field, that start from the means of its classes, or from heads that are given."""

    drill: Drill

    def __init__(self, drill: Drill, layers: Layers, recipe: Recipe, heads: Sequence[NDArray[np.float32]] = ()) -> None:
        self.seen = [np.unique(labels[drill.rows]) for labels in drill.labels]
        # A class that is not among those seen has no place in the softmax.
        self.numbers = [
            torch.tensor(np.searchsorted(seen, labels).clip(max=len(seen) - 1))
            for seen, labels in zip(self.seen, drill.labels, strict=True)
        ]
        self.given = heads
        super().__init__(drill, layers, recipe)

    def start(self) -> list[NDArray[np.float32]]:
        """The means of the classes, or the heads given."""
        heads = self.given or list(map(self._class_means, self.seen, self.drill.labels))
        return [functional.normalize(torch.tensor(head), dim=-1).numpy() for head in heads]

    def _class_means(self, seen: NDArray[np.int16], labels: NDArray[np.int16]) -> NDArray[np.float32]:
        rng, most, own = np.random.default_rng(0), math.ceil(MAX_START / len(seen)), labels[self.drill.rows]
        rows = [rng.permutation(self.drill.rows[own == label])[:most] for label in seen]
        start = embed_all(self.top, self.drill.activations, np.concatenate(rows))
        return np.stack([part.mean(axis=0) for part in np.split(start, np.cumsum(list(map(len, rows)))[:-1])])

    def loss_of(self, embeddings: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The fields' losses together."""
        return self._losses(embeddings, rows, SCALE).sum()

    def judged(self, embeddings: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The same at the best of `TEMPERED`, for each field."""
        return torch.stack([self._losses(embeddings, rows, SCALE * times) for times in TEMPERED]).min(0).values.sum()

    def _losses(self, embeddings: torch.Tensor, rows: Sequence[int], scale: float) -> torch.Tensor:
        """The mean cross-entropy of each field."""
        losses = [
            functional.cross_entropy(scale * embeddings @ functional.normalize(head, dim=-1).T, numbers[rows])
            for head, numbers in zip(self.heads, self.numbers, strict=True)
        ]
        return torch.stack(losses)

    def outcome(self) -> Tuned:
        """What was learnt, once it is finished."""
        return Tuned(
            weights=self.weights,
            heads=[SCALE * functional.normalize(head.detach(), dim=-1).numpy() for head in self.heads],
            seen=self.seen,
            n_epochs=self.best_epoch,
        )


def _optimizer(top: LastLayers, heads: nn.ParameterList, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in top.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in top.parameters() if parameter.dim() == 1]
    rate = recipe.learning_rate * (SGD_RATE if recipe.optimizer == "sgd" else 1.0)
    groups: list[dict[str, Any]] = [
        {"params": matrices, "full_lr": rate, "weight_decay": WEIGHT_DECAY},
        {"params": others, "full_lr": rate, "weight_decay": 0.0},
        {"params": list(heads), "full_lr": HEAD_RATE * rate, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def _pace(share: float) -> float:
    """The part of the full rate after this share of the steps: a linear warm-up, then half a cosine down to 0."""
    if share < WARM_UP:
        return (share + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
