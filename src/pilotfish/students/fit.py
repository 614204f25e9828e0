"""Fits the students of one field, and the weights that mix them: the only file that knows scikit-learn.

Arrays in, a `Head` out; texts, folders and tasks are `distil.py`'s. The mixture is fitted on predictions
out of fold, so the weights (and the start of the certificate's test) see no student on its own training
rows. Accuracy: `benchmarks/specialist.py`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from pilotfish.core.errors import MissingExtraError
from pilotfish.specialists.ngrams import Rows
from pilotfish.specialists.specialist import (
    N_NEIGHBOURS,
    VOTE_FLOOR,
    Evidence,
    Floats,
    Head,
    mix,
    softmax,
    vote,
)

try:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC
except ImportError as error:
    raise MissingExtraError("learn", error.name or "scikit-learn") from error

DENSE_C = 10.0
"""Inverse regularization on unit embeddings; 10, 30 and 100 measured within 0.2 points of one another."""

FEW_A_CLASS = 50
"""Texts a class, on average, up to which the classes' names may teach: on banking77 logistic regression gained 2 points
by them at 5 texts a class, 0.6 at 10 and 0.3 at 20."""

SPARSE_TOLERANCE = 0.1
"""As accurate as 1e-4 on banking77 (91.4 %) in three quarters of the time; the SVM is the largest cost."""

TEMPERATURES = (0.02, 0.04, 0.08, 0.16)
"""Of the vote: many classes want near neighbours alone (0.02), few and broad ones a wide vote (0.16)."""

START = (0.6, 1.8, 0.4)
"""Mixture weights found on banking77; with one pseudo-example behind them they decide only where data is scarce."""

MAX_MIXTURE_ROWS = 5000
"""Enough for three weights."""

UNSEEN = -10.0
"""Evidence of a class that a fold holds no example of: below any seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the students see of n texts, but for embeddings.

    `folds` numbers the fold of each text; `is_taught` marks the texts whose answer may be learnt.
    """

    rows: Rows
    n_columns: int
    folds: NDArray[np.intp]
    is_taught: NDArray[np.bool_]

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.folds.max()) + 1

    @property
    def sparse(self) -> csr_matrix:
        """The n-gram features."""
        parts = (self.rows.values, self.rows.columns, self.rows.starts)
        return csr_matrix(parts, shape=(len(self.folds), self.n_columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores [n, k] of one student by those of its kind that did not learn from the fold a text is in.

    A class that the other folds lack scores `UNSEEN`.
    """

    values: Floats
    folds: NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear student of one field with k classes: weights [k, columns], biases [k], and its scores out of fold."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    scores: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The taught texts nearest to each text in other folds [n, neighbours], and the nearest's similarity [n]."""

    similarities: Floats
    indices: NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedField:
    """The students of one field, and the probabilities out of fold [n, k] of their mixture and of n-grams alone."""

    head: Head
    out_of_fold: Floats
    alone_out_of_fold: Floats


def project(embeddings: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """The first principal directions [dimension, d]: near texts stay near in a quarter of them."""
    _, vectors = np.linalg.eigh(embeddings.T.astype(np.float64) @ embeddings)
    return np.ascontiguousarray(vectors[:, ::-1][:, :dimension].T, np.float32)


def find_neighbours(
    projected: NDArray[np.float32], folds: NDArray[np.intp], is_taught: NDArray[np.bool_]
) -> Neighbours:
    """The nearest taught texts of each text among those of other folds; `projected` are of length 1."""
    n_folds = int(folds.max()) + 1
    size = min(N_NEIGHBOURS, *(int((is_taught & (folds != fold)).sum()) for fold in range(n_folds)))
    similarities = np.empty((len(folds), size))
    indices = np.empty((len(folds), size), np.intp)
    for fold in range(n_folds):
        own, teachers = np.flatnonzero(folds == fold), np.flatnonzero(is_taught & (folds != fold))
        similarities[own], indices[own] = nearest(projected, own, teachers, size)
    return Neighbours(similarities=similarities, indices=indices)


def nearest(
    projected: NDArray[np.float32], own: NDArray[np.intp], teachers: NDArray[np.intp], size: int
) -> tuple[Floats, NDArray[np.intp]]:
    """The `size` nearest teachers of each of the texts `own`: similarities and text numbers [own, size]."""
    similarities = np.empty((len(own), size))
    indices = np.empty((len(own), size), np.intp)
    for chunk in np.array_split(np.arange(len(own)), len(own) // 1000 + 1):
        found = projected[own[chunk]] @ projected[teachers].T
        near = np.argpartition(found, -size, axis=1)[:, -size:]
        similarities[chunk] = np.take_along_axis(found, near, axis=1)
        indices[chunk] = teachers[near]
    return similarities, indices


def fit_dense(
    embeddings: NDArray[np.float32], inputs: Inputs, labels: NDArray[np.int16], names: NDArray[np.float32]
) -> Linear:
    """Logistic regression on embeddings, for classes `labels` [n] (any number where a text is not taught).

    `names` are the embeddings of the classes' own names. Where texts are few, each is one more text of its class, if
    that is right more often out of fold: names may say nothing, or mislead.
    """
    plain = _fit_linear(embeddings, inputs, labels, len(names))
    is_telling = _telling(inputs.is_taught, labels, inputs.folds)
    if np.count_nonzero(inputs.is_taught) > FEW_A_CLASS * len(names) or not is_telling.any():
        return plain
    named = _fit_linear(embeddings, inputs, labels, len(names), names)

    def agreement(student: Linear) -> float:
        return float((student.scores.values.argmax(axis=1) == labels)[is_telling].mean())

    return named if agreement(named) > agreement(plain) else plain


def fit_field(
    inputs: Inputs, neighbours: Neighbours, dense: Scores, labels: NDArray[np.int16], n_classes: int
) -> FittedField:
    """The students of one field with classes `labels` [n], mixed; the head lacks the one whose scores are `dense`."""
    words = _fit_linear(inputs.sparse, inputs, labels, n_classes)
    is_telling = _telling(inputs.is_taught, labels, dense.folds)
    evidence = Evidence(
        dense=dense.values,
        sparse=words.scores.values,
        similarities=neighbours.similarities,
        labels=labels[neighbours.indices],
    )
    mixture = fit_mixture(evidence, labels, is_telling)
    alone = fit_alone(words.scores.values, labels, is_telling)
    head = Head(
        sparse=np.ascontiguousarray(words.weight.T),
        sparse_bias=words.bias,
        labels=labels[inputs.is_taught],
        mixture=mixture,
        alone=alone,
    )
    return FittedField(
        head=head, out_of_fold=mix(evidence, mixture), alone_out_of_fold=softmax(alone * words.scores.values)
    )


def fit_words(inputs: Inputs, labels: NDArray[np.int16], n_classes: int) -> tuple[Head, Floats]:
    """The n-gram student of one field alone, and its probabilities out of fold [n, n_classes]."""
    words = _fit_linear(inputs.sparse, inputs, labels, n_classes)
    alone = fit_alone(words.scores.values, labels, _telling(inputs.is_taught, labels, inputs.folds))
    head = Head(sparse=np.ascontiguousarray(words.weight.T), sparse_bias=words.bias, alone=alone)
    return head, softmax(alone * words.scores.values)


def _fit_linear(
    features: NDArray[np.float32] | csr_matrix,
    inputs: Inputs,
    labels: NDArray[np.int16],
    n_classes: int,
    names: NDArray[np.float32] | None = None,
) -> Linear:
    """A student of each fold, and one of all; `names` are one more row a class, in every fold."""

    def fitted(rows: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if names is None:
            return _linear(features[rows], labels[rows], n_classes)
        both = np.concatenate([features[rows], names])
        return _linear(both, np.concatenate([labels[rows], np.arange(n_classes, dtype=np.int16)]), n_classes)

    scores = np.empty((len(labels), n_classes))
    for fold in range(inputs.n_folds):
        own = inputs.folds == fold
        weight, bias = fitted(inputs.is_taught & ~own)
        scores[own] = features[own] @ weight.T + bias
    weight, bias = fitted(inputs.is_taught)
    return Linear(weight=weight, bias=bias, scores=Scores(values=scores, folds=inputs.folds))


def _telling(is_taught: NDArray[np.bool_], labels: NDArray[np.int16], folds: NDArray[np.intp]) -> NDArray[np.bool_]:
    """A class that stands in one fold only could be told by nobody, which says nothing about the students."""
    is_telling = is_taught.copy()
    for fold in range(int(folds.max()) + 1):
        own, others = folds == fold, is_taught & (folds != fold)
        is_telling[own] &= np.isin(labels[own], labels[others])
    return is_telling


def fit_mixture(evidence: Evidence, labels: NDArray[np.int16], is_telling: NDArray[np.bool_]) -> Floats:
    """The three weights and the vote's temperature that make the labels of the telling rows likeliest."""
    rows = _mixture_rows(is_telling)
    if not len(rows):
        return np.array([*START, TEMPERATURES[0]])
    n_classes = evidence.dense.shape[1]
    found: list[tuple[float, Floats]] = []
    for temperature in TEMPERATURES:
        votes = vote(evidence.similarities[rows], evidence.labels[rows], n_classes, temperature)
        features = np.stack([evidence.dense[rows], evidence.sparse[rows], np.log(votes + VOTE_FLOOR)])
        loss, weights = _likeliest(features, labels[rows], np.array(START))
        found.append((loss, np.array([*weights, temperature])))
    return min(found, key=lambda fitted: fitted[0])[1]


def fit_alone(sparse: Floats, labels: NDArray[np.int16], is_telling: NDArray[np.bool_]) -> Floats:
    """The one weight [1] of the n-gram evidence alone (an inverse temperature) that makes the labels likeliest."""
    rows, start = _mixture_rows(is_telling), np.array([START[1]])
    return _likeliest(sparse[rows][None], labels[rows], start)[1] if len(rows) else start


def _mixture_rows(is_telling: NDArray[np.bool_]) -> NDArray[np.intp]:
    rows = np.flatnonzero(is_telling)
    if len(rows) > MAX_MIXTURE_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MAX_MIXTURE_ROWS, replace=False))
    return rows


def _likeliest(features: Floats, labels: NDArray[np.int16], start: Floats) -> tuple[float, Floats]:
    """The weights w that minimize the mean of -log softmax(w · features)[label], by damped Newton steps.

    `features` is [students, n, classes]. The problem is convex; one pseudo-example pulls towards `start`.
    """
    weights, row = start, np.arange(len(labels))

    def losses(candidate: Floats) -> tuple[float, Floats]:
        total = np.tensordot(candidate, features, 1)
        total -= total.max(axis=1, keepdims=True)
        shares = np.exp(total)
        shares /= shares.sum(axis=1, keepdims=True)
        pull = ((candidate - start) ** 2).sum() / (2 * len(row))
        return float(pull - np.log(np.maximum(shares[row, labels], 1e-300)).mean()), shares

    loss, shares = losses(weights)
    for _ in range(50):
        means = np.einsum("nk,fnk->fn", shares, features)
        gradient = (means - features[:, row, labels]).mean(axis=1) + (weights - start) / len(row)
        squares = np.array([[(shares * one * two).sum() for one in features] for two in features])
        curvature = (squares - means @ means.T + np.eye(len(weights))) / len(row)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (found := losses(weights - size * step))[0] > loss and size > 1e-6:
            size /= 2
        if loss - found[0] < 1e-7:
            break
        weights, (loss, shares) = weights - size * step, found
    return loss, weights


def _linear(
    features: NDArray[np.float32] | csr_matrix, labels: NDArray[np.int16], n_classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One-line students: weights [n_classes, columns] and biases of logistic regression (dense) or an SVM (sparse)."""
    weight = np.zeros((n_classes, features.shape[1]), np.float32)
    bias = np.full(n_classes, UNSEEN, np.float32)
    seen = np.unique(labels)
    if len(seen) == 1:
        bias[seen] = 0
        return weight, bias
    if isinstance(features, csr_matrix):
        model = LinearSVC(tol=SPARSE_TOLERANCE, max_iter=200, random_state=0)
    else:
        model = LogisticRegression(C=DENSE_C, tol=1e-3, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Few rows of many classes at a first look are expected here.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        model.fit(features, labels)
    coefficients, intercept = model.coef_, model.intercept_
    if len(seen) == 2:
        # Two classes share one direction; half of it each keeps the difference of logistic regression.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    weight[seen], bias[seen] = coefficients, intercept
    return weight, bias
