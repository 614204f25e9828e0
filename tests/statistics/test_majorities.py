"""An inconsistent reference of known truth: what its repeats rule out, and promises about its majority of three.

It gives its likeliest answer with probability 1 - e, else one of three others at random. A student is certain to a
degree u, uniform in [0, 1], and gives that likeliest answer with probability 1 - 0.4 (1 - u)^3, else one of the others.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from pilotfish.guarantees.consistency import Repeated, least_disagreement, why_impossible
from pilotfish.scoring.answers import disagreement, majority
from pilotfish.stats import sequence

DELTA = 0.05
ANSWERS = [(name,) for name in "abcd"]


def _answers(rng, shape, e):
    """0 for the likeliest answer, 1 to 3 for the others."""
    return np.where(rng.random(shape) < e, rng.integers(1, 4, shape), 0)


def _majority_is(e):
    """The probabilities that the majority of three is the likeliest answer, and that it is a given other one."""
    return [p**3 + 3 * p**2 * (1 - p) for p in (1 - e, e / 3)]


def _risk(t, e):
    """Of serving all u >= t, against the majority."""
    wrong = 0.1 * (1 - t) ** 3
    likeliest, other = _majority_is(e)
    return 1 - (1 - wrong) * likeliest - wrong * other


def _draw(rng, n, e):
    u = rng.random(n)
    student = np.where(rng.random(n) < 0.4 * (1 - u) ** 3, rng.integers(1, 4, n), 0)
    said = _answers(rng, (n, 3), e)
    losses = [
        disagreement(ANSWERS[mine], majority([ANSWERS[x] for x in three]))
        for mine, three in zip(student, said, strict=True)
    ]
    return sequence.curve(u.tolist(), losses)


@pytest.mark.parametrize(("e", "max_risk", "n"), [(0.06, 0.05, 600), (0.06, 0.02, 1000), (0.1, 0.05, 1000)])
def test_promises_about_the_majority_are_kept(e, max_risk, n):
    rng = np.random.default_rng(n)
    order = sequence.plan(_draw(rng, 2000, e), n, max_risk, DELTA)
    runs, broken, served = 150, 0, 0
    for _ in range(runs):
        choice = sequence.per_answer(_draw(rng, n, e), order, max_risk, DELTA)
        served += choice is not None
        broken += choice is not None and _risk(choice.threshold, e) > max_risk
    assert broken <= binom.ppf(0.9999, runs, DELTA)
    if (e, max_risk) == (0.06, 0.05):
        assert served > runs / 2  # a promise about single answers could not be kept by anybody: 6 % differ


def _repeated(rng, n, e):
    said = _answers(rng, (n, 2), e)
    return Repeated(int((said[:, 0] != said[:, 1]).sum()), n)


@pytest.mark.parametrize("is_surest_known", [True, False])
def test_six_per_cent_of_random_answers_rule_two_per_cent_out(is_surest_known):
    rng = np.random.default_rng(6)
    refused = 0
    for _ in range(200):
        seen = _repeated(rng, 150, 0.06)
        known = seen if is_surest_known else None
        refused += why_impossible(seen, known, max_risk=0.02, served=1.0, n_votes=1) is not None
    assert refused >= 190


@pytest.mark.parametrize(("e", "n_votes"), [(0.02, 1), (0.05, 1), (0.05, 3), (0.2, 3)])
def test_a_promise_that_could_be_kept_is_rarely_ruled_out(e, n_votes):
    """At most once in twenty, at a tolerated risk that the best student just meets."""
    rng = np.random.default_rng(int(100 * e) + n_votes)
    best = e if n_votes == 1 else 1 - _majority_is(e)[0]
    itself = 1 - ((1 - e) ** 2 + e**2 / 3)
    assert least_disagreement(itself, n_votes) <= best
    refused = 0
    for _ in range(300):
        seen = _repeated(rng, 300, e)
        refused += why_impossible(seen, seen, max_risk=best, served=1.0, n_votes=n_votes) is not None
    assert refused <= binom.ppf(0.9999, 300, 0.05)
