"""Fits the parts of an expected gain: the only file here that knows scikit-learn. Arrays in, plain numbers out.

What is fitted is the gain itself (the larger model's score less the smaller's), not how hard a request is: where both
fail, asking further brings nothing. The trees leave as arrays, so that whoever decides needs no library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilotfish.core.errors import MissingExtraError
from pilotfish.routing.gain import Heads, Tree

try:
    import numpy as np
    from numpy.typing import NDArray
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import LogisticRegression
except ImportError as error:
    raise MissingExtraError("learn", error.name or "scikit-learn") from error

Floats = NDArray[np.float64]

TREES = 100
DEPTH = 8
SHARE = 0.3
"""Of the columns are looked at for a cut, each at one random place: outcomes are noisy, and the best cut is chance.

On MMLU's training subjects, each left out in turn, such a forest has an APGR of .60, boosted trees .57, a line .55.
"""

_FEW = 6
"""So few columns are all looked at: of one alone a random place often leaves too small a leaf, and no cut is made."""

_HEADS_C = 0.3


def line(rows: Floats, gains: Floats, alpha: float) -> tuple[Floats, float]:
    """Weights and intercept of ridge regression on standardized columns, stated for the columns as they are.

    `alpha` is in rows: so many pseudo-rows without any gain hold each weight at zero.
    """
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 1e-12, scale, np.inf)
    standard = (rows - mean) / scale
    centred = gains - gains.mean()
    solved = np.linalg.solve(standard.T @ standard + alpha * np.eye(rows.shape[1]), standard.T @ centred)
    weights: Floats = solved / scale
    return weights, float(gains.mean() - weights @ mean)


def forest(rows: Floats, gains: Floats, seed: int = 0) -> tuple[Tree, ...]:
    """Extremely randomized trees (Geurts et al., 2006) of the gain less its mean; their sum is the estimate."""
    model = ExtraTreesRegressor(
        n_estimators=TREES,
        max_depth=DEPTH,
        max_features=min(rows.shape[1], max(_FEW, round(SHARE * rows.shape[1]))),
        min_samples_leaf=max(10, len(rows) // 150),
        random_state=seed,
    )
    model.fit(rows.astype(np.float32), gains - gains.mean())
    return tuple(_exported(one.tree_) for one in model.estimators_)


def heads(
    embeddings: NDArray[np.floating[Any]], smaller: Sequence[float], larger: Sequence[float], encoder_sha256: str
) -> Heads:
    """The two heads on frozen embeddings, by logistic regression; a graded score is a share of a right answer."""
    fitted = [_head(embeddings, np.asarray(scores, np.float64)) for scores in (larger, smaller)]
    return Heads(
        encoder_sha256=encoder_sha256,
        larger=tuple(fitted[0][0].tolist()),
        smaller=tuple(fitted[1][0].tolist()),
        biases=(fitted[0][1], fitted[1][1]),
    )


def _head(embeddings: NDArray[np.floating[Any]], scores: Floats) -> tuple[Floats, float]:
    if scores.min() == scores.max():
        share = min(max(float(scores[0]), 1e-3), 1.0 - 1e-3)
        return np.zeros(embeddings.shape[1]), float(np.log(share / (1.0 - share)))
    rows = np.concatenate([embeddings, embeddings])
    labels = np.repeat([1, 0], len(scores))
    model = LogisticRegression(C=_HEADS_C, max_iter=500)
    model.fit(rows, labels, sample_weight=np.concatenate([scores, 1.0 - scores]))
    return model.coef_[0], float(model.intercept_[0])


def _exported(tree: object) -> Tree:
    values = tree.value[:, 0, 0] / TREES  # type: ignore[attr-defined]
    return Tree(
        features=tuple(int(max(-1, feature)) for feature in tree.feature),  # type: ignore[attr-defined]
        thresholds=tuple(tree.threshold.tolist()),  # type: ignore[attr-defined]
        left=tuple(tree.children_left.tolist()),  # type: ignore[attr-defined]
        right=tuple(tree.children_right.tolist()),  # type: ignore[attr-defined]
        values=tuple(values.tolist()),
    )
