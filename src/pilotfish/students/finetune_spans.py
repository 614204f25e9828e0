"""Fine-tunes the last layers of an encoder to point at the words of a passage that answer a question.

As `finetune.py` does for classes, whose run it is; a row here is a window of question and passage. The layers get the
tokens' marks added to what the layers below say, and two numbers a token come out, of a beginning and of an end (Devlin
et al., arXiv 1810.04805). Where an answer stands several times, all its places count together: the loss is that of
their joint probability (Clark and Gardner, arXiv 1710.10723). Texts and words are `reading.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotfish.core.errors import MissingExtraError
from pilotfish.specialists.reader import Window
from pilotfish.students.encoder_graph import SpanHead
from pilotfish.students.finetune import Rows, Run, Step
from pilotfish.students.last_layers import DROPOUT, Layers, padded
from pilotfish.students.recipe import Recipe

try:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("train", error.name or "torch") from error

_IMPOSSIBLE = -1e4
"""The score of a token at which no word begins, or none ends."""

_START_SCALE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanDrill(Rows):
    """Windows, and the first and last token of each place of the answer in them: none where it is in no such place."""

    windows: Sequence[Window]
    places: Sequence[Sequence[tuple[int, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointing:
    """The layers' weights by name, what points at words, and after how many epochs that was."""

    weights: dict[str, NDArray[np.float32]]
    head: SpanHead
    n_epochs: int


class SpanRun(Run):
    """One run over the epochs, in which windows are learnt."""

    drill: SpanDrill

    def start(self) -> list[NDArray[np.float32]]:
        """What each mark adds (nothing yet), and weights and biases of beginnings and ends."""
        width, n_marks = self.drill.activations.values.shape[1], self.drill.windows[0].marks.shape[1]
        random = torch.Generator().manual_seed(self.recipe.seed)
        weight = _START_SCALE * torch.randn(2, width, generator=random)
        return [np.zeros((n_marks, width), np.float32), weight.numpy(), np.zeros(2, np.float32)]

    def loss(self, batch: Sequence[int]) -> torch.Tensor:
        """The mean of -log P(one of the answer's places)."""
        shares = functional.log_softmax(self.scores(batch), dim=1)
        losses = []
        for row, window in enumerate(batch):
            places = torch.tensor(self.drill.places[window] or [(0, 0)])
            losses.append(-torch.logsumexp(shares[row, places[:, 0], 0] + shares[row, places[:, 1], 1], dim=0))
        return torch.stack(losses).mean()

    def scores(self, batch: Sequence[int]) -> torch.Tensor:
        """Of each token of these windows, of a beginning and of an end [windows, tokens, 2]."""
        marks, weight, bias = self.heads
        hidden, mask = padded(self.drill.activations, batch)
        added = torch.zeros(len(batch), hidden.shape[1], len(marks))
        possible = torch.zeros(len(batch), hidden.shape[1], 2, dtype=torch.bool)
        possible[:, 0] = True
        for row, number in enumerate(batch):
            window = self.drill.windows[number]
            added[row, : len(window.marks)] = torch.from_numpy(window.marks)
            for side in range(2):
                possible[row, torch.from_numpy(window.words[:, 1 + side]), side] = True
        states = self.top.states(hidden + added @ marks, mask)
        scores = functional.dropout(states, DROPOUT, self.top.training) @ weight.T + bias
        return scores.masked_fill(~possible, _IMPOSSIBLE)

    def held_out_loss(self) -> float:
        """The mean loss of the windows held out."""
        self.top.eval()
        total = 0.0
        rows = sorted(self.drill.held_out.tolist(), key=self.drill.activations.length)
        with torch.inference_mode():
            for start in range(0, len(rows), self.recipe.batch):
                batch = rows[start : start + self.recipe.batch]
                total += len(batch) * float(self.loss(batch))
        return total / len(rows)

    def pointing(self) -> Pointing:
        """What was learnt, once it is finished."""
        marks, weight, bias = (head.detach().numpy().copy() for head in self.heads)
        layer = self.layers.numbers.start
        head = SpanHead(layer=layer, marks=marks, weight=weight, bias=bias)
        return Pointing(weights=self.weights, head=head, n_epochs=self.best_epoch)


def point(
    drill: SpanDrill, layers: Layers, recipe: Recipe, *, checkpoint: Path | None = None, step: Step | None = None
) -> tuple[Pointing, list[NDArray[np.float32]]]:
    """The layers after the epoch that did best on what is held out, and what torch says of the windows held out
    [tokens, 2]. The checkpoint is as in `finetune.tune`."""
    run = SpanRun(drill, layers, recipe)
    run.finish(checkpoint=checkpoint, step=step)
    found = run.pointing()
    run.top.eval()
    with torch.inference_mode():
        said = [run.scores([number])[0].numpy() for number in drill.held_out]
    return found, said


def cpu_seconds(drill: SpanDrill, layers: Layers, recipe: Recipe) -> float:
    """As `finetune.cpu_seconds`."""
    return SpanRun(drill, layers, recipe).cpu_seconds()
