"""Tags the words of a text: a linear-chain conditional random field over hashed features and encoder states.

Each extracted field has two tags, begin and inside, beside the one for words outside of all (Lafferty et al., ICML
2001). The likeliest sequence is found by Viterbi, its probability by the forward sums. numpy only: it learns nothing
(`students/fit_tags.py`) and knows no answers (`extractor.py`). A text is always tagged alone, and its evidence rounded,
so that a threshold sees one number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

from pilotfish.core.errors import MissingExtraError

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("local", "numpy") from error

N_COLUMNS = 1 << 18
N_FEATURES = 20
"""Of each word: 8 of its own, 12 with its neighbours."""

DECIMALS = 4
"""Evidence is rounded to these, as in `specialist.py`."""

FORBIDDEN = -1e4
"""Evidence of what cannot be: inside a field that did not begin."""

_DIGIT = re.compile(r"\d")
_DIGITS = re.compile(r"\d+")
_CAPITALS = re.compile(r"[A-Z]+")
_SMALL = re.compile(r"[a-z]+")
_LONGEST_SHAPE = 8
_LONGEST_WORD = 12

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagger:
    """The weights of a field with k tags over m known columns and states of d dimensions."""

    columns: NDArray[np.int32]  # [m], sorted
    sparse: NDArray[np.int8]  # [m + 1, k]; the last row, of columns that are not known, is 0
    scales: NDArray[np.float32]  # [m + 1], of the rows of `sparse`
    dense: NDArray[np.float32]  # [d, k]
    bias: NDArray[np.float32]  # [k]
    transitions: NDArray[np.float32]  # [k, k]

    def known(self, columns: NDArray[np.int32]) -> NDArray[np.intp]:
        """The rows of `sparse` of some columns."""
        return rows_of(columns, self.columns)

    def tag(self, rows: NDArray[np.intp], states: NDArray[np.float32]) -> tuple[list[int], float]:
        """The likeliest tags of the words of one text, and the probability of all of them together."""
        if not len(rows):
            return [], 1.0
        seen = (self.sparse[rows] * self.scales[rows][:, :, None]).sum(axis=1)
        evidence = seen + states @ self.dense + self.bias
        return best_path(np.round(evidence.astype(np.float64), DECIMALS), self.transitions.astype(np.float64))


def rows_of(columns: NDArray[np.int32], known: NDArray[np.int32]) -> NDArray[np.intp]:
    """The position of each column among those `known` (sorted); their number where it is none of them."""
    at = np.searchsorted(known, columns)
    is_known = known[np.minimum(at, len(known) - 1)] == columns if len(known) else np.zeros(columns.shape, bool)
    return np.where(is_known, at, len(known))


def allowed(n_fields: int) -> tuple[Floats, Floats]:
    """0 or `FORBIDDEN` for each pair of tags that follow one another [k, k], and for each first tag [k].

    Field f has the tags 1 + 2f (begin) and 2 + 2f (inside).
    """
    n_tags = 1 + 2 * n_fields
    pairs, first = np.zeros((n_tags, n_tags)), np.zeros(n_tags)
    inside = np.arange(2, n_tags, 2)
    first[inside] = FORBIDDEN
    pairs[:, inside] = FORBIDDEN
    pairs[inside, inside] = pairs[inside - 1, inside] = 0
    return pairs, first


def best_path(evidence: Floats, transitions: Floats) -> tuple[list[int], float]:
    """The likeliest tags under evidence [words, k] and transitions [k, k], and the probability of their sequence."""
    n_tags = evidence.shape[1]
    forbidden, first = allowed((n_tags - 1) // 2)
    steps = transitions + forbidden
    weights = np.exp(steps)
    best = total = evidence[0] + first
    choices = []
    for word in evidence[1:]:
        reached = best[:, None] + steps
        choice = reached.argmax(axis=0)
        choices.append(choice)
        best = reached[choice, np.arange(n_tags)] + word
        highest = total.max()
        total = np.log(np.maximum(np.exp(total - highest) @ weights, 1e-300)) + highest + word
    tags = [int(best.argmax())]
    for choice in reversed(choices):
        tags.append(int(choice[tags[-1]]))
    highest = total.max()
    partition = highest + np.log(np.exp(total - highest).sum())
    return tags[::-1], float(min(1.0, np.exp(best.max() - partition)))


def spans(tags: Sequence[int]) -> list[tuple[int, int, int]]:
    """(field, first, end) of what the tags mark, from left to right."""
    found = []
    for position, tag in enumerate(tags):
        if tag % 2:
            end = position + 1
            while end < len(tags) and tags[end] == tag + 1:
                end += 1
            found.append(((tag - 1) // 2, position, end))
    return found


def features(words: Sequence[str]) -> NDArray[np.int32]:
    """The columns [words, N_FEATURES] of the words of one text: each word's look, and its neighbours'."""
    plain = [_plain(word) for word in words]
    padded = ["<3", "<2", "<1", *plain, "1>", "2>", "3>"]
    looks = ["<", *(_look(word) for word in words), ">"]
    found = np.empty((len(words), N_FEATURES), np.int32)
    for at, word in enumerate(words):
        before3, before2, before, here, after, after2, after3 = padded[at : at + 7]
        near = (
            f"-1 {before}",
            f"+1 {after}",
            f"-2 {before2}",
            f"+2 {after2}",
            f"-3 {before3}",
            f"+3 {after3}",
            f"-10 {before} {here}",
            f"01 {here} {after}",
            f"-2-1 {before2} {before}",
            f"12 {after} {after2}",
            f"-11 {before} {after}",
            f"look {looks[at]} {looks[at + 1]} {looks[at + 2]}",
        )
        found[at] = (*_own(word), *map(_column, near))
    return found


@lru_cache(maxsize=1 << 15)
def _own(word: str) -> tuple[int, ...]:
    plain = _plain(word)
    looks = (
        f"word {plain}",
        f"look {_look(word)}",
        f"start {plain[:2]}",
        f"start {plain[:3]}",
        f"end {plain[-2:]}",
        f"end {plain[-3:]}",
        f"end {plain[-4:]}",
        f"length {min(len(word), _LONGEST_WORD)}",
    )
    return tuple(map(_column, looks))


def _plain(word: str) -> str:
    return _DIGIT.sub("0", word.casefold())


@lru_cache(maxsize=1 << 15)
def _look(word: str) -> str:
    """Runs of capitals, small letters and digits as one sign each: `iPhone12` is `xXx9`."""
    return _SMALL.sub("x", _CAPITALS.sub("X", _DIGITS.sub("9", word)))[:_LONGEST_SHAPE]


def _column(feature: str) -> int:
    return crc32(feature.encode("utf-8", "replace")) & (N_COLUMNS - 1)
