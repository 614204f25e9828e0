"""Headers of weight files: what is read, and that nothing in a broken or hostile one is believed."""

from __future__ import annotations

import contextlib
import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pilotfish.core.errors import UserError
from pilotfish.sizing import flops, gguf_shape, memory
from pilotfish.sizing.gguf import read_gguf
from pilotfish.sizing.safetensors_header import read_index, read_safetensors
from pilotfish.sizing.tensors import part_of
from tools.weight_files import gguf, llama_gguf, write_safetensors

WHOLE = llama_gguf()
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_a_gguf_header_gives_the_shape_the_file_has(tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(WHOLE)
    header = read_gguf(tmp_path / "tiny.gguf")
    a = gguf_shape.architecture(header)
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 256 + 2 * 64
    assert a.parameters == header.stored.parameters == 96 * 64 + 2 * layer + 64
    assert (a.n_layers, a.hidden, a.n_heads, a.n_kv_heads, a.head_dim) == (2, 64, 4, 2, 16)
    assert (a.d_ff, a.vocab, a.context, a.tokenizer, a.position) == (256, 96, 512, "BPE", "rotary")
    assert memory.cache_values_per_token(a) == 2 * 2 * (2 * 16)
    assert flops.linear(a) == 2 * (2 * (layer - 2 * 64) + 96 * 64)
    assert a.by_part()["norms"] == 5 * 64


def test_gguf_bytes_are_those_of_the_blocks(tmp_path):
    (tmp_path / "x.gguf").write_bytes(gguf({"a": 1}, {"w": (12, (256, 4)), "v": (0, (8,)), "e": (8, (32, 2))}))
    stored = read_gguf(tmp_path / "x.gguf").stored
    assert [t.n_bytes for t in stored.tensors] == [4 * 144, 32, 2 * 34]
    assert stored.by_type() == {"Q4_K": 1024, "F32": 8, "Q8_0": 64}


def test_experts_of_a_gguf_are_stored_all_and_active_some(tmp_path):
    values = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.embedding_length": 32,
        "llama.attention.head_count": 2,
        "llama.expert_used_count": 2,
    }
    tensors = {"token_embd.weight": (0, (32, 10)), "blk.0.ffn_up_exps.weight": (0, (32, 64, 8))}
    (tmp_path / "moe.gguf").write_bytes(gguf(values, tensors))
    a = gguf_shape.architecture(read_gguf(tmp_path / "moe.gguf"))
    assert a.parameters == 320 + 8 * 2048
    assert a.active_parameters == 320 + 2 * 2048


def test_a_gguf_that_does_not_tell_its_attention_has_no_shape(tmp_path):
    (tmp_path / "x.gguf").write_bytes(gguf({"general.architecture": "mamba", "mamba.block_count": 4}, {}))
    assert gguf_shape.architecture(read_gguf(tmp_path / "x.gguf")) is None


@FUZZ
@given(st.data())
def test_a_damaged_gguf_is_a_user_error_or_readable(tmp_path, data):
    damaged = bytearray(WHOLE[: data.draw(st.integers(0, len(WHOLE)))])
    for _ in range(data.draw(st.integers(0, 8))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.gguf").write_bytes(damaged)
    with contextlib.suppress(UserError):
        gguf_shape.architecture(read_gguf(tmp_path / "x.gguf"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"GGML" + bytes(40), "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version is 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62), "name"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 8, 1 << 60), "array"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 99), "unknown type 99"),
    ],
)
def test_a_hostile_gguf_says_what_is_wrong(tmp_path, content, why):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(UserError, match=why):
        read_gguf(tmp_path / "x.gguf")


def test_what_the_library_writes_is_read(tmp_path):
    numpy = pytest.importorskip("numpy")
    arrays = {"a.weight": numpy.zeros((3, 5), "float32"), "position_ids": numpy.zeros((1, 7), "int64")}
    save_file(arrays, tmp_path / "model.safetensors")
    stored = read_safetensors(tmp_path / "model.safetensors")
    assert {t.name: t.shape for t in stored.tensors} == {"a.weight": (3, 5), "position_ids": (1, 7)}
    assert (stored.parameters, stored.n_bytes) == (15, 60 + 56)


def test_shards_are_added_up_and_missing_ones_named(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"x": ("BF16", (4, 4))})
    names = {"x": "a.safetensors", "y": "b.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    stored = read_index(tmp_path / "model.safetensors.index.json")
    assert (stored.parameters, stored.missing) == (16, ("b.safetensors",))


def test_an_index_cannot_point_elsewhere(tmp_path):
    (tmp_path / "i.index.json").write_text(json.dumps({"weight_map": {"x": "../../secret.safetensors"}}))
    with pytest.raises(UserError, match="plain file name"):
        read_index(tmp_path / "i.index.json")


@FUZZ
@given(st.data())
def test_a_damaged_safetensors_file_is_a_user_error_or_readable(tmp_path, data):
    path = write_safetensors(tmp_path / "x.safetensors", {"w": ("F32", (2, 3)), "b": ("F16", (4,))})
    damaged = bytearray(path.read_bytes()[: data.draw(st.integers(0, 200))])
    for _ in range(data.draw(st.integers(0, 5))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    with contextlib.suppress(UserError):
        assert all(t.n_bytes <= len(damaged) for t in read_safetensors(path).tensors)


@pytest.mark.parametrize(
    "about",
    [
        {"dtype": "F32", "shape": [1 << 60, 1 << 60], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 40]},
        {"dtype": "Q9", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]},
        [],
    ],
)
def test_a_safetensors_header_is_held_against_its_file(tmp_path, about):
    text = json.dumps({"w": about}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(UserError, match="no valid safetensors"):
        read_safetensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.embed_tokens.weight", "embeddings"),
        ("model.layers.0.self_attn.q_proj.weight", "attention"),
        ("model.layers.0.mlp.gate_proj.weight", "feed-forward"),
        ("model.layers.0.post_attention_layernorm.weight", "norms"),
        ("lm_head.weight", "head"),
        ("transformer.h.0.ln_1.weight", "norms"),
        ("transformer.h.0.mlp.c_fc.weight", "feed-forward"),
        ("transformer.wte.weight", "embeddings"),
        ("bert.encoder.layer.0.attention.output.dense.weight", "attention"),
        ("bert.encoder.layer.0.output.dense.weight", "feed-forward"),
        ("bert.pooler.dense.weight", "head"),
        ("blk.3.attn_output.weight", "attention"),
        ("blk.3.ffn_down.weight", "feed-forward"),
        ("something.strange", "other"),
    ],
)
def test_a_tensor_belongs_to_the_part_its_name_says(name, part):
    assert part_of(name) == part
