"""Fits a tagger: a linear-chain conditional random field by minibatches of AdaGrad, numpy alone.

Arrays in, a `Tagger` out; texts and tasks are `extraction.py`'s. The sums over all sequences run forward and
backward over a whole batch at once (Sutton and McCallum, Foundations and Trends in Machine Learning 4, 2012), the
steps shrink with the gradients so far (Duchi et al., JMLR 12, 2011) and to 0 at the end. The seed is fixed: equal input
gives an equal tagger on one machine. Accuracy: `benchmarks/students/extraction.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.core.errors import MissingExtraError
from pilotfish.specialists.tagging import Tagger, allowed

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("learn", "numpy") from error

BATCH = 32
RATE, DENSE_RATE = 0.1, 0.05
"""Of the hashed features, and of the encoder's states, which are larger; 0.05 to 0.2 measured within two points."""

MIN_EPOCHS, MAX_EPOCHS, WORDS_READ = 4, 30, 400_000
"""So many words are read in all, each at least 4 times and at most 30: on wnut17 6 epochs found as much as 12."""

MAX_COLUMNS = 50_000
"""The columns with the largest weights are kept: half of those of snips, with which as many frames were right."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """The words of n texts: text i has rows `starts[i]` to before `starts[i + 1]`.

    `rows` are positions in `columns` [words, features] (their number where a column is not known), `states` those of
    the encoder [words, d], `tags` what is to be learnt [words].
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    rows: NDArray[np.intp]
    states: NDArray[np.float16]
    tags: NDArray[np.int64]
    n_fields: int


@dataclass(slots=True, kw_only=True)
class _Weights:
    """A parameter, and the sum of its squared gradients."""

    value: Array
    squares: Array

    @classmethod
    def zeros(cls, *shape: int) -> _Weights:
        return cls(value=np.zeros(shape, np.float32), squares=np.full(shape, 1e-6, np.float32))

    def step(self, gradient: Array, rate: float, rows: Array | slice = slice(None)) -> None:
        squares = self.squares[rows] + gradient * gradient
        self.squares[rows] = squares
        self.value[rows] -= rate * gradient / np.sqrt(squares)


def fit_tags(texts: Tagged, taught: Sequence[int] | NDArray[np.intp]) -> Tagger:
    """The tagger of the texts whose numbers are `taught`."""
    rng = np.random.default_rng(0)
    n_tags, n_columns = 1 + 2 * texts.n_fields, len(texts.columns)
    sparse, dense = _Weights.zeros(n_columns + 1, n_tags), _Weights.zeros(texts.states.shape[1], n_tags)
    bias, transitions = _Weights.zeros(n_tags), _Weights.zeros(n_tags, n_tags)
    chosen = np.array([i for i in taught if texts.starts[i] < texts.starts[i + 1]], np.intp)
    n_words = int((texts.starts[chosen + 1] - texts.starts[chosen]).sum())
    n_epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, WORDS_READ // max(1, n_words)))
    n_batches = -(-len(chosen) // BATCH)
    for epoch in range(n_epochs):
        order = rng.permutation(chosen)
        for number in range(n_batches):
            left = 1 - (epoch * n_batches + number) / (n_epochs * n_batches)
            batch = _Batch(texts, order[number * BATCH : (number + 1) * BATCH])
            evidence = sparse.value[batch.rows].sum(axis=1) + batch.states @ dense.value + bias.value
            by_word, by_pair = batch.gradients(evidence, transitions.value)
            columns, by_column = _by_column(batch.rows, by_word)
            sparse.step(by_column, RATE * left, columns)
            dense.step(batch.states.T @ by_word, DENSE_RATE * left)
            bias.step(by_word.sum(axis=0), RATE * left)
            transitions.step(by_pair, RATE * left)
    sparse.value[n_columns] = 0
    largest = np.abs(sparse.value).max(axis=1)
    # Unknown columns stand behind the others and are 0 already, so that they are never among the strongest.
    sparse.value[np.argsort(-largest, kind="stable")[MAX_COLUMNS:]] = 0
    # In 8 bits as accurate as in 32 (snips: frames right 0.888 and 0.8875), and a quarter as large.
    scales = np.maximum(largest, 1e-9) / 127
    return Tagger(
        columns=texts.columns,
        sparse=np.rint(sparse.value / scales[:, None]).astype(np.int8),
        scales=scales,
        dense=dense.value,
        bias=bias.value,
        transitions=transitions.value,
    )


class _Batch:
    """Some texts side by side: word w of text t stands at [w, t] of a lattice."""

    def __init__(self, texts: Tagged, chosen: NDArray[np.intp]) -> None:
        lengths = texts.starts[chosen + 1] - texts.starts[chosen]
        self.n_texts, self.longest = len(chosen), int(lengths.max())
        self.text = np.repeat(np.arange(len(chosen)), lengths)
        self.word = np.arange(len(self.text)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        at = np.repeat(texts.starts[chosen], lengths) + self.word
        self.rows, self.tags = texts.rows[at], texts.tags[at]
        self.states = texts.states[at].astype(np.float32)
        self.pairs, self.first = (array.astype(np.float32) for array in allowed(texts.n_fields))

    def gradients(self, evidence: Array, transitions: Array) -> tuple[Array, Array]:
        """The gradient of the mean of -log P(tags) by the evidence of each word, and by the transitions."""
        steps = np.exp(transitions + self.pairs)
        lattice = np.zeros((self.longest, self.n_texts, evidence.shape[1]), np.float32)
        lattice[self.word, self.text] = evidence
        is_word = np.zeros((self.longest, self.n_texts, 1), bool)
        is_word[self.word, self.text] = True
        forward, backward = self._forward(lattice, is_word, steps), self._backward(lattice, is_word, steps)
        highest = forward[-1].max(axis=1)
        partition = (highest + np.log(np.exp(forward[-1] - highest[:, None]).sum(axis=1)))[self.text]
        seen, to_come = forward[self.word, self.text], backward[self.word, self.text]
        by_word = np.exp(seen + to_come - partition[:, None])
        later = np.flatnonzero(self.word > 0)
        before = forward[self.word[later] - 1, self.text[later]]
        after = to_come[later] + evidence[later] - partition[later, None]
        shift = before.max(axis=1, keepdims=True)
        by_pair = steps * (np.exp(before - shift).T @ np.exp(np.minimum(after + shift, 80)))
        by_word[np.arange(len(self.tags)), self.tags] -= 1
        np.subtract.at(by_pair, (self.tags[later - 1], self.tags[later]), 1)
        return by_word / self.n_texts, by_pair / self.n_texts

    def _forward(self, lattice: Array, is_word: Array, steps: Array) -> Array:
        forward = np.empty_like(lattice)
        forward[0] = lattice[0] + self.first
        for word in range(1, self.longest):
            highest = forward[word - 1].max(axis=1, keepdims=True)
            reached = np.log(np.exp(forward[word - 1] - highest) @ steps + 1e-30) + highest + lattice[word]
            forward[word] = np.where(is_word[word], reached, forward[word - 1])
        return forward

    def _backward(self, lattice: Array, is_word: Array, steps: Array) -> Array:
        backward = np.zeros_like(lattice)
        for word in range(self.longest - 2, -1, -1):
            ahead = backward[word + 1] + lattice[word + 1]
            highest = ahead.max(axis=1, keepdims=True)
            reached = np.log(np.exp(ahead - highest) @ steps.T + 1e-30) + highest
            backward[word] = np.where(is_word[word + 1], reached, 0)
        return backward


def _by_column(rows: NDArray[np.intp], by_word: Array) -> tuple[Array, Array]:
    """The rows that occur, each once, and the sum of the gradients of their words."""
    flat = rows.ravel()
    order = np.argsort(flat, kind="stable")
    arranged = flat[order]
    firsts = np.flatnonzero(np.concatenate([[True], arranged[1:] != arranged[:-1]]))
    return arranged[firsts], np.add.reduceat(by_word[order // rows.shape[1]], firsts, axis=0)
