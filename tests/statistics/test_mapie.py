"""MAPIE's Learn-then-Test as the oracle: the same valid thresholds, never more coverage than ours."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pilotfish.stats import bounded, sequence

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mapie.risk_control import BinaryClassificationController
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

ALPHA, DELTA = 0.05, 0.05


def _draw(rng, n):
    u = rng.random(n)
    return u, rng.random(n) < 0.002 + 0.6 * (1 - u) ** 3


def _mapie_coverage(u, differs, method):
    controller = BinaryClassificationController(
        lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
        risk="precision",
        target_level=1 - ALPHA,
        confidence_level=1 - DELTA,
        list_predict_params=np.linspace(0, 0.99, 60),
        fwer_method=method,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        controller.calibrate(u[:, None], (~differs).astype(int))
    valid = np.asarray(controller.valid_predict_params)
    return (u >= valid.min()).mean() if valid.size else 0.0


@pytest.mark.parametrize(
    ("mean", "n", "risk"), [(0.01, 500, 0.03), (0.0, 100, 0.02), (0.04, 2000, 0.05), (0.3, 50, 0.2)]
)
def test_hoeffding_bentkus_equals_mapie(mean, n, risk):
    theirs = compute_hoeffding_bentkus_p_value(np.array([mean]), n, np.array([risk])).item()
    assert bounded.hoeffding_bentkus(mean, n, risk) == pytest.approx(min(1.0, theirs), rel=1e-6)


@pytest.mark.parametrize("method", ["bonferroni_holm", "bonferroni"])
def test_coverage_is_never_less_than_that_of_mapie(method):
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for _ in range(15):
        fold_u, fold_differs = _draw(rng, 3000)
        order = sequence.plan(sequence.curve(fold_u.tolist(), fold_differs.astype(float).tolist()), 1000, ALPHA, DELTA)
        u, differs = _draw(rng, 1000)
        rows = sequence.curve(u.tolist(), differs.astype(float).tolist())
        choice = sequence.per_answer(rows, order, ALPHA, DELTA)
        ours.append(choice.n_served / 1000 if choice else 0.0)
        theirs.append(_mapie_coverage(u, differs, method))
    assert np.mean(theirs) > 0.3
    assert all(mine >= other for mine, other in zip(ours, theirs, strict=True))
