"""Encoders for long texts; counted on models that transformers 5.23 instantiated from these configurations."""

from __future__ import annotations

import pytest

from pilotfish.core.errors import UserError
from pilotfish.sizing import flops
from pilotfish.sizing.families import architecture
from pilotfish.sizing.reading import Config

COMMON = {"vocab_size": 99, "hidden_size": 24, "num_attention_heads": 4}
LONGFORMER = {
    **COMMON,
    "model_type": "longformer",
    "num_hidden_layers": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 70,
    "attention_window": [4, 8, 8],
    "type_vocab_size": 1,
}
BIG_BIRD = {
    **COMMON,
    "model_type": "big_bird",
    "num_hidden_layers": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 70,
}
REFORMER = {
    **COMMON,
    "model_type": "reformer",
    "num_attention_heads": 2,
    "attention_head_size": 8,
    "feed_forward_size": 40,
    "attn_layers": ["local", "lsh", "local"],
    "axial_pos_shape": [8, 8],
    "axial_pos_embds_dim": [8, 16],
    "max_position_embeddings": 64,
    "is_decoder": True,
}


def sized(values, **changed):
    return architecture(Config({**values, **changed}, "config.json"))


@pytest.mark.parametrize(
    ("values", "changed", "parameters", "kinds"),
    [
        (LONGFORMER, {}, 23568, "sliding (5) and sliding (9)"),
        (BIG_BIRD, {}, 18192, "sparse (512)"),
        (BIG_BIRD, {"use_bias": False, "attention_type": "original_full"}, 17976, "full"),
        (REFORMER, {}, 17979, "sliding (128) and LSH (128)"),
        (REFORMER, {"attn_layers": ["lsh", "lsh"], "axial_pos_embds": False, "is_decoder": False}, 10472, "LSH (128)"),
    ],
)
def test_parameters_are_those_of_the_instantiated_model(values, changed, parameters, kinds):
    found = sized(values, **changed)
    assert found.parameters == sum(found.by_part().values()) == parameters
    assert found.attention_kinds() == kinds


def test_a_token_sees_what_its_window_or_its_rounds_of_hashing_let_it():
    """4 x heads x head dimension a key and layer; twice the rounds, twice the keys."""
    once, twice = (sized(REFORMER, attn_layers=["lsh"], num_hashes=n) for n in (1, 2))
    assert flops.scores(once, 10_000) == 4 * 2 * 8 * 128
    assert flops.scores(twice, 10_000) == 4 * 2 * 8 * 256
    long = sized(LONGFORMER)
    assert flops.scores(long, 10_000) == 4 * 24 * (5 + 9 + 9)
    assert flops.linear(long) == flops.linear(sized({**LONGFORMER, "model_type": "roberta"}))


@pytest.mark.parametrize(
    ("values", "changed", "named"),
    [
        (LONGFORMER, {"attention_window": [4, 8]}, "attention_window must be 3 whole numbers"),
        (REFORMER, {"attn_layers": ["full"]}, "must be a list of 'local' and 'lsh'"),
        (REFORMER, {"axial_pos_shape": "8"}, "axial_pos_shape must be 2 whole numbers"),
    ],
)
def test_a_broken_configuration_is_named(values, changed, named):
    with pytest.raises(UserError, match=named):
        sized(values, **changed)
