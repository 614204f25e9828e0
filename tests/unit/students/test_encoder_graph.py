import json
import math

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

from pilotfish.core.errors import UserError
from pilotfish.students import encoder_graph
from pilotfish.students.encoder_files import read_architecture
from pilotfish.students.encoder_graph import write_graph
from tools.tiny_models import HEADS, HIDDEN, LAYERS, POSITIONS, write_tiny_bert


def gelu(x, activation):
    if activation == "gelu":
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def reference(folder, ids, *, pooling, activation):
    """BERT's forward pass, written apart from the graph, in float64."""
    w = {name: tensor.astype(np.float64) for name, tensor in load_file(folder / "model.safetensors").items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        p = f"encoder.layer.{layer}"
        q, k, v = (linear(x, f"{p}.attention.self.{part}") for part in ("query", "key", "value"))
        mixed = np.empty_like(x)
        for head in range(HEADS):
            part = slice(head * HIDDEN // HEADS, (head + 1) * HIDDEN // HEADS)
            shares = np.exp(q[:, part] @ k[:, part].T / math.sqrt(HIDDEN // HEADS))
            mixed[:, part] = shares / shares.sum(1, keepdims=True) @ v[:, part]
        x = norm(linear(mixed, f"{p}.attention.output.dense") + x, f"{p}.attention.output.LayerNorm")
        inner = gelu(linear(x, f"{p}.intermediate.dense"), activation)
        x = norm(linear(inner, f"{p}.output.dense") + x, f"{p}.output.LayerNorm")
    pooled = x.mean(0) if pooling == "mean" else x[0]
    return pooled / np.linalg.norm(pooled)


def run(graph, ids):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": np.array([ids], np.int64)})[0][0]


def states(graph, ids):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(["hidden"], {"input_ids": np.array([ids], np.int64)})[0][0]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
@pytest.mark.parametrize("n_tokens", [1, 7, POSITIONS])
def test_the_graph_computes_what_bert_does(tmp_path, pooling, activation, n_tokens):
    folder = write_tiny_bert(tmp_path / "bert", pooling=pooling, activation=activation)
    ids = np.random.default_rng(n_tokens).integers(0, 60, n_tokens)
    expected = reference(folder, ids, pooling=pooling, activation=activation)
    graph = write_graph(folder, precision="fp32")
    onnx.checker.check_model(onnx.load_model_from_string(graph))
    np.testing.assert_allclose(run(graph, ids), expected, atol=1e-5)
    assert run(write_graph(folder), ids) @ expected > 0.98


def test_a_graph_is_reproducible_and_int8_a_quarter_of_the_size(tmp_path):
    folder = write_tiny_bert(tmp_path / "bert")
    assert write_graph(folder) == write_graph(folder)
    dtypes = {tensor.data_type for tensor in onnx.load_model_from_string(write_graph(folder)).graph.initializer}
    assert onnx.TensorProto.INT8 in dtypes


def test_no_product_of_bytes_can_overflow_on_any_processor(tmp_path):
    """Of uint8 and int8, onnxruntime adds pairs of products with saturation where there is AVX2 and no VNNI."""
    graph = onnx.load_model_from_string(write_graph(write_tiny_bert(tmp_path / "bert"))).graph
    dtypes = {tensor.name: tensor.data_type for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "DynamicQuantizeMatMul"]
    assert {dtypes[node.input[1]] for node in products} == {onnx.TensorProto.UINT8}


def test_the_largest_products_of_bytes_are_exact(tmp_path):
    """All activations and weights at the ends of their ranges; fails with int8 weights on such a processor."""
    folder = write_tiny_bert(tmp_path / "bert")
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith("intermediate.dense.weight"):
            tensor[:] = 1.0
        if name.endswith("attention.output.LayerNorm.weight"):
            tensor[:] = 0.0
        if name.endswith("attention.output.LayerNorm.bias"):
            tensor[:] = np.where(np.arange(HIDDEN) < HIDDEN // 2, 1.0, 0.5)
    save_file(tensors, folder / "model.safetensors")
    exact, ids = write_graph(folder, precision="fp32", n_layers=1), [2, 9, 17, 3]
    assert np.abs(states(write_graph(folder, n_layers=1), ids) - states(exact, ids)).max() < 0.02


def test_a_component_that_stands_out_does_not_coarsen_the_others(tmp_path, monkeypatch):
    folder = write_tiny_bert(tmp_path / "bert")
    tensors = load_file(folder / "model.safetensors")
    for layer in range(LAYERS):
        tensors[f"encoder.layer.{layer}.attention.output.LayerNorm.bias"][3] = 30
        tensors[f"encoder.layer.{layer}.intermediate.dense.weight"][:, 3] /= 30
    save_file(tensors, folder / "model.safetensors")
    exact, ids = write_graph(folder, precision="fp32"), [2, 9, 17, 3]
    distance = 1 - run(exact, ids) @ run(write_graph(folder), ids)
    monkeypatch.setattr(encoder_graph, "_STANDS_OUT", 1e9)
    assert distance < 0.5 * (1 - run(exact, ids) @ run(write_graph(folder), ids))


def test_prefixed_half_precision_weights_are_read(tmp_path):
    folder = write_tiny_bert(tmp_path / "bert")
    before = run(write_graph(folder, precision="fp32"), [2, 9, 3])
    tensors = load_file(folder / "model.safetensors")
    halves = {f"bert.{name}": tensor.astype(np.float16) for name, tensor in tensors.items()}
    save_file(halves, folder / "model.safetensors")
    np.testing.assert_allclose(run(write_graph(folder, precision="fp32"), [2, 9, 3]), before, atol=5e-3)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"model_type": "mpnet"}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"num_hidden_layers": LAYERS + 1}),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, file, change):
    folder = write_tiny_bert(tmp_path / "bert")
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError) as caught:
        write_graph(folder)
    assert caught.value.hint


def test_a_dense_module_and_broken_files_are_refused(tmp_path):
    folder = write_tiny_bert(tmp_path / "bert")
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be read"):
        write_graph(folder)
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(UserError, match="Dense"):
        read_architecture(folder)
    (folder / "config.json").write_text("[")
    with pytest.raises(UserError, match=r"config\.json"):
        read_architecture(folder)


def test_pooling_is_the_mean_where_nothing_is_said(tmp_path):
    folder = write_tiny_bert(tmp_path / "bert", pooling="cls")
    assert not read_architecture(folder).is_mean_pooled
    (folder / "1_Pooling" / "config.json").unlink()
    assert read_architecture(folder).is_mean_pooled
