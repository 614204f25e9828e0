from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pilotfish.specialists.encoder import Graph
from pilotfish.students import encoder_files, encoder_graph, finetune, last_layers
from pilotfish.students.activations import compute
from pilotfish.students.last_layers import Layers
from tools.tiny_models import LAYERS, open_tiny_encoder, write_tiny_bert
from tools.tuning import RECIPE, in_order

N_TAUGHT, N_TESTED = 400, 200
QUICK = dataclasses.replace(RECIPE, n_layers=1, n_epochs=3)


class Bench:
    """A tiny encoder, texts in an order to tell, and what the layers below the last say of them."""

    def __init__(self, folder, n_layers, n_texts):
        self.encoder = open_tiny_encoder(folder)
        self.source = folder / "tiny-bert"
        rows = in_order(n_texts)
        self.texts = [row.text for row in rows]
        self.labels = np.array([row.answer == ("z",) for row in rows], np.int16)
        self.layers = Layers(
            architecture=encoder_files.read_architecture(self.source),
            weights=encoder_files.read_weights(self.source),
            n_layers=n_layers,
        )
        lower = Graph(encoder_graph.write_graph(self.source, n_layers=LAYERS - n_layers))
        self.activations = compute(self.texts, self.encoder, lower, folder / "activations.npy")

    def drill(self, taught, held_out=0):
        return finetune.Drill(
            activations=self.activations,
            labels=[self.labels],
            rows=np.arange(taught),
            held_out=np.arange(taught, taught + held_out),
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"), 1, 60)


def same(one, other):
    return all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights) and all(
        np.array_equal(a, b) for a, b in zip(one.heads, other.heads, strict=True)
    )


def test_layers_learn_what_frozen_features_cannot_tell(tmp_path):
    whole = Bench(tmp_path, 2, N_TAUGHT + N_TESTED)
    tuned = finetune.tune(whole.drill(N_TAUGHT), whole.layers, RECIPE)
    tested = np.arange(N_TAUGHT, N_TAUGHT + N_TESTED)
    vectors = last_layers.embed(whole.activations, tested, whole.layers, tuned.weights)
    said = tuned.seen[0][(vectors @ tuned.heads[0].T).argmax(axis=1)]
    assert (said == whole.labels[tested]).mean() > 0.9
    frozen = whole.encoder.encode(whole.texts)
    linear = LogisticRegression(C=10, max_iter=500).fit(frozen[:N_TAUGHT], whole.labels[:N_TAUGHT])
    assert linear.score(frozen[tested], whole.labels[tested]) < 0.8


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(bench, tmp_path, optimizer):
    recipe, drill = dataclasses.replace(QUICK, optimizer=optimizer), bench.drill(40, held_out=10)
    seen = []
    checkpoint = tmp_path / "run.safetensors"

    def interrupt(done, total, loss):
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune.tune(drill, bench.layers, recipe, checkpoint=checkpoint, step=interrupt)
    resumed = finetune.tune(
        drill, bench.layers, recipe, checkpoint=checkpoint, step=lambda done, total, loss: seen.append((done, total))
    )
    assert seen == [(11, 15), (12, 15), (13, 15), (14, 15), (15, 15)]
    through = finetune.tune(drill, bench.layers, recipe)
    assert same(resumed, through)
    assert resumed.n_epochs == through.n_epochs
    assert not same(through, finetune.tune(drill, bench.layers, dataclasses.replace(recipe, seed=1)))


def test_a_broken_checkpoint_is_made_anew(bench, tmp_path):
    checkpoint = tmp_path / "run.safetensors"
    checkpoint.write_bytes(b"broken")
    tuned = finetune.tune(bench.drill(40), bench.layers, QUICK, checkpoint=checkpoint)
    assert same(tuned, finetune.tune(bench.drill(40), bench.layers, QUICK))
    assert checkpoint.stat().st_size > 1000


def test_it_stops_where_what_is_held_out_no_longer_gains(bench):
    """Held-out answers that contradict all that is taught: the first epoch is the best."""
    drill = dataclasses.replace(bench.drill(40), held_out=np.arange(40, 60), labels=[bench.labels.copy()])
    drill.labels[0][:40] = 0
    drill.labels[0][:3] = 1
    drill.labels[0][40:] = 1
    steps = []
    recipe = dataclasses.replace(QUICK, n_epochs=12)
    tuned = finetune.tune(drill, bench.layers, recipe, step=lambda done, total, loss: steps.append(done))
    assert tuned.n_epochs < 12
    assert len(steps) == 5 * (tuned.n_epochs + finetune.PATIENCE) < 60


def test_the_mean_of_two_is_where_a_third_begins(bench):
    labels, recipe = np.array([0, 1, 2] * 20, np.int16), dataclasses.replace(QUICK, n_epochs=1)
    drill = dataclasses.replace(bench.drill(60), labels=[labels])
    halves = [
        finetune.tune(dataclasses.replace(drill, rows=np.flatnonzero(labels != absent)), bench.layers, recipe)
        for absent in (0, 1)
    ]
    mean = finetune.mean(halves, drill)
    for name, tensor in mean.weights.items():
        assert np.allclose(tensor, (halves[0].weights[name] + halves[1].weights[name]) / 2)
    (heads,) = mean.heads
    assert np.allclose(
        heads, [halves[1].heads[0][0], halves[0].heads[0][0], halves[0].heads[0][1] + halves[1].heads[0][1]]
    )
    still = dataclasses.replace(recipe, learning_rate=0.0)
    begun = finetune.tune(drill, bench.layers, still, heads=mean.heads)
    cosines = (begun.heads[0] * heads).sum(axis=1) / finetune.SCALE / np.linalg.norm(heads, axis=1)
    assert np.allclose(cosines, 1, atol=1e-5)


def test_a_class_that_is_not_taught_has_no_head(bench):
    drill = bench.drill(40)
    labels = np.array([0, 2] * 30, np.int16)
    tuned = finetune.tune(dataclasses.replace(drill, labels=[labels, bench.labels]), bench.layers, QUICK)
    assert [seen.tolist() for seen in tuned.seen] == [[0, 2], [0, 1]]
    assert [head.shape[0] for head in tuned.heads] == [2, 2]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_graph_written_says_what_torch_says(tmp_path, bench, pooling):
    source = write_tiny_bert(tmp_path / "bert", pooling=pooling)
    layers = dataclasses.replace(
        bench.layers,
        architecture=encoder_files.read_architecture(source),
        weights=encoder_files.read_weights(source),
    )
    lower = Graph(encoder_graph.write_graph(source, precision="fp32", n_layers=LAYERS - 1))
    activations = compute(bench.texts, bench.encoder, lower, tmp_path / "activations.npy")
    tuned = finetune.tune(dataclasses.replace(bench.drill(40), activations=activations), layers, QUICK)
    exact = Graph(encoder_graph.write_graph(source, precision="fp32", replaced=tuned.weights))
    found = np.stack([bench.encoder.run(text, exact) for text in bench.texts])
    expected = last_layers.embed(activations, range(len(bench.texts)), layers, tuned.weights)
    # Activations are kept as float16.
    assert np.abs(found - expected).max() < 2e-3
    before = Graph(encoder_graph.write_graph(source, precision="fp32"))
    assert np.abs(found[0] - bench.encoder.run(bench.texts[0], before)).max() > 0.02


def test_what_an_epoch_costs_is_measured_and_grows_with_the_rows(bench):
    costs = [finetune.cpu_seconds(bench.drill(n), bench.layers, QUICK) for n in (20, 60)]
    assert 0 < costs[0] < 2
    assert costs[1] > 0


def test_activations_are_computed_once(bench, tmp_path):
    path = tmp_path / "kept.npy"
    lower = Graph(encoder_graph.write_graph(bench.source, n_layers=1))
    seen = []
    first = compute(bench.texts, bench.encoder, lower, path, lambda *stage: seen.append(stage))
    assert seen[-1] == ("lower layers", 60, 60)
    seen.clear()
    again = compute(bench.texts, bench.encoder, lower, path, lambda *stage: seen.append(stage))
    assert not seen
    kept = np.array(first[7])
    assert np.array_equal(kept, again[7])
    assert np.array_equal(kept, bench.activations[7])
    assert len(kept) == bench.encoder.count_tokens(bench.texts[7]) == first.length(7)
    path.write_bytes(b"broken")
    assert np.array_equal(compute(bench.texts, bench.encoder, lower, path)[7], kept)
