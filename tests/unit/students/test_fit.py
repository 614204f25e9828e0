import numpy as np
import pytest

from pilotfish.specialists.specialist import Evidence, mix
from pilotfish.students.fit import START, fit_alone, fit_mixture, project


def evidence_of(rng, labels, *, dense, sparse, vote):
    """Evidence in which each student is right about each text with the given probability."""

    def scores(accuracy):
        said = np.where(rng.random(len(labels)) < accuracy, labels, (labels + 1) % 3)
        return np.eye(3)[said] * 4.0, said

    neighbours = np.repeat(scores(vote)[1][:, None], 5, axis=1).astype(np.int16)
    return Evidence(
        dense=scores(dense)[0],
        sparse=scores(sparse)[0],
        similarities=np.full((len(labels), 5), 0.5),
        labels=neighbours,
    )


def test_the_better_student_gets_the_larger_weight_and_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 4000).astype(np.int16)
    evidence = evidence_of(rng, labels, dense=0.9, sparse=0.6, vote=0.4)
    mixture = fit_mixture(evidence, labels, np.ones(4000, bool))
    assert mixture[0] > mixture[1] > 0
    probabilities = mix(evidence, mixture)
    right = probabilities.argmax(axis=1) == labels
    assert abs(probabilities.max(axis=1).mean() - right.mean()) < 0.02


def test_weights_minimize_the_loss():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 500).astype(np.int16)
    evidence = evidence_of(rng, labels, dense=0.8, sparse=0.7, vote=0.6)
    mixture = fit_mixture(evidence, labels, np.ones(500, bool))

    def loss(weights):
        return -np.log(mix(evidence, weights)[np.arange(500), labels]).mean()

    best = loss(mixture)
    for student in range(3):
        for step in (-0.1, 0.1):
            assert loss(mixture + step * np.eye(4)[student]) > best


def test_students_that_are_always_right_keep_finite_weights():
    labels = np.array([0, 1, 2] * 4, np.int16)
    evidence = evidence_of(np.random.default_rng(2), labels, dense=1, sparse=1, vote=1)
    mixture = fit_mixture(evidence, labels, np.ones(12, bool))
    assert np.isfinite(mixture).all()
    assert np.abs(mixture[:3] - START).max() < 5


@pytest.mark.parametrize("dimension", [3, 8])
def test_the_projection_keeps_the_directions_that_matter(dimension):
    rng = np.random.default_rng(3)
    flat = (rng.normal(size=(200, 3)) @ rng.normal(size=(3, 8))).astype(np.float32)
    projection = project(flat, dimension)
    assert projection.shape == (dimension, 8)
    np.testing.assert_allclose(projection @ projection.T, np.eye(dimension), atol=1e-5)
    np.testing.assert_allclose((flat @ projection.T) @ projection, flat, atol=1e-3)


def test_ngrams_alone_are_calibrated_by_one_weight():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 4000).astype(np.int16)
    sparse = evidence_of(rng, labels, dense=1, sparse=0.8, vote=1).sparse
    weight = fit_alone(sparse, labels, np.ones(4000, bool))
    shares = np.exp(weight * sparse)
    certainty = shares.max(axis=1) / shares.sum(axis=1)
    assert certainty.mean() == pytest.approx(0.8, abs=0.02)
    assert fit_alone(sparse, labels, np.zeros(4000, bool)).tolist() == [START[1]]
