"""What asking the next larger model is expected to bring for one request: learnt numbers, evaluated without any
library.

The expected gain is its score less that of the answer at hand. It is a weighted sum of parts: a straight line and
small trees over signals of the answer and features of the prompt, an offset for the task, and two heads on a
sentence's embedding ("the larger model is right", "the smaller is right"). How they were fitted is `fit.py`'s
business. What a signal in use cannot read makes the gain unknown (None): whoever decides then asks the larger model.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilotfish.core.outcome import Outcome, Tried
from pilotfish.routing import prompt
from pilotfish.routing.signals import BY_NAME, ending

UNUSUAL_ENDING = "unusual ending"
"""A signal that is learnt without labels: how rarely the small model's answers to this workload end in this shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A binary tree in arrays. A row goes left where feature <= threshold; a leaf has the feature -1."""

    features: tuple[int, ...]
    thresholds: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    values: tuple[float, ...]

    def __call__(self, row: Sequence[float]) -> float:
        """The value of the leaf that the row falls into."""
        # Looked up once: this loop is the larger part of a decision.
        features, thresholds, left, right = self.features, self.thresholds, self.left, self.right
        place, feature = 0, features[0]
        while feature >= 0:
            place = left[place] if row[feature] <= thresholds[place] else right[place]
            feature = features[place]
        return self.values[place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Two logistic heads on an embedding: that the larger, and that the smaller model is right. `part` is their
    weight."""

    encoder_sha256: str
    larger: tuple[float, ...]
    smaller: tuple[float, ...]
    biases: tuple[float, float]
    part: float = 1.0

    def __call__(self, embedding: Sequence[float]) -> float:
        """The difference of the two probabilities."""
        larger = _product(self.larger, embedding) + self.biases[0]
        smaller = _product(self.smaller, embedding) + self.biases[1]
        return _logistic(larger) - _logistic(smaller)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The expected gain, as `intercept` plus the parts that were learnt. `signals` name what of the answer is read."""

    signals: tuple[str, ...] = ()
    reads_prompt: bool = False
    weights: tuple[float, ...] = ()
    trees: tuple[Tree, ...] = ()
    trees_part: float = 0.0
    intercept: float = 0.0
    tasks: Mapping[str, float] = field(default_factory=dict)
    endings: Mapping[str, int] = field(default_factory=dict)
    heads: Heads | None = None

    def __call__(self, outcome: Outcome, tried: Tried | None, embedding: Sequence[float] | None = None) -> float | None:
        """The expected gain for a request, given the answer at hand where signals are used; None where one is
        unknown."""
        row = self.row(outcome, tried)
        if row is None or (self.heads is not None and embedding is None):
            return None
        value = self.intercept + self.tasks.get(outcome.task, 0.0)
        value += _product(self.weights, row) if self.weights else 0.0
        if self.trees:
            value += self.trees_part * math.fsum([tree(row) for tree in self.trees])
        if self.heads is not None and embedding is not None:
            value += self.heads.part * self.heads(embedding)
        return value

    def row(self, outcome: Outcome, tried: Tried | None) -> list[float] | None:
        """The numbers that line and trees see; None where a signal cannot be read."""
        values: list[float] = []
        for name in self.signals:
            value = None if tried is None else self.read(name, outcome, tried)
            if value is None or not math.isfinite(value):
                return None
            values.append(value)
        return values + prompt.features(outcome.prompt) if self.reads_prompt else values

    def read(self, name: str, outcome: Outcome, tried: Tried) -> float | None:
        """One signal of an answer, None where it does not carry it."""
        if name == UNUSUAL_ENDING:
            return unusual(tried.text, self.endings)
        return BY_NAME[name].read(outcome, tried)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Gain:
        """The gain that `to_json` wrote. KeyError, TypeError or ValueError where it is none, or needs newer code."""
        trees = tuple(Tree(**{key: tuple(values) for key, values in tree.items()}) for tree in row["trees"])
        heads = None if row["heads"] is None else _heads(row["heads"])
        unknown = set(row["signals"]) - BY_NAME.keys() - {UNUSUAL_ENDING}
        if unknown:
            raise ValueError(f"the signal {min(unknown)!r} is not known here")
        lists = {key: tuple(row[key]) for key in ("signals", "weights")}
        n_columns = len(lists["signals"]) + len(prompt.NAMES) * bool(row["reads_prompt"])
        if len(lists["weights"]) not in (0, n_columns):
            raise ValueError("it was learnt from other features of the prompt; learn it again")
        return cls(**{**row, **lists, "trees": trees, "heads": heads})


def _heads(row: dict[str, Any]) -> Heads:
    return Heads(
        encoder_sha256=row["encoder_sha256"],
        larger=tuple(row["larger"]),
        smaller=tuple(row["smaller"]),
        biases=(row["biases"][0], row["biases"][1]),
        part=row["part"],
    )


def unusual(text: str | None, endings: Mapping[str, int]) -> float | None:
    """How rare the shape of the answer's end is, as a negative log share of the endings that were seen."""
    if text is None:
        return None
    return -math.log((endings.get(ending(text), 0) + 1.0) / (sum(endings.values()) + 1.0))


def _product(weights: Sequence[float], values: Sequence[float]) -> float:
    if len(weights) != len(values):
        raise ValueError(f"{len(weights)} weights for {len(values)} values")
    return math.fsum(map(operator.mul, weights, values))


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value)) if value > -500.0 else 0.0
