"""Writes a BERT-family sentence encoder as an ONNX graph, straight from its safetensors.

Tracing with torch gave silently wrong embeddings and needs 750 MB of packages; written by hand the graph
is exact to 2e-7 and takes a third of a second. It holds one text at a time, `input_ids` [1, tokens] to
`embedding` [1, dimension] of length 1 (and where asked for `words`, the states after some layer), without a
mask: int8 activations are scaled per tensor, so a text's batch mates and padding would change its embedding
(up to 0.035 a component, cosine 0.985, measured on banking77), and a certificate speaks of the served path,
where texts come alone. Only standard operators, but for onnxruntime's `DynamicQuantizeMatMul` in the int8 graph and
`MatMulNBits` in the int4 one.

Nearly all that int8 loses it loses on activations: one component of 384 is ten times the others, and every other one
is then told in 25 steps. So the components that stand out are made smaller before a matrix that follows a layer norm,
and its weights larger (SmoothQuant, Xiao et al. 2023, arXiv 2211.10438), and what follows the Gelu is scaled by token.
The cosine distance to fp32 fell from 0.0060 to 0.0012 by it (150 texts each of sst2, banking77 and ag_news;
benchmarks/students/encoder.py).

Weights are stored as uint8 around 128. The product of uint8 activations and int8 weights overflows sixteen bits on a
processor with AVX2 and no VNNI, where onnxruntime adds pairs with saturation: the distance was 0.0039 there, and
embeddings differed by 0.0045 from those of WebAssembly, where it does not. Of two unsigned matrices it computes the
product exactly everywhere. What is left, 0.0001, comes from the last bits of floating-point numbers, which decide now
and then on which of 255 steps an activation falls: layer norms add in another order with other vector instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pilotfish.core.errors import MissingExtraError, UserError
from pilotfish.specialists.encoder import Graph
from pilotfish.students.encoder_files import Architecture, Array, layer_weights, read_architecture, read_weights

try:
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from onnx import helper, numpy_helper
except ImportError as error:
    raise MissingExtraError("learn", error.name or "onnx") from error

Precision = Literal["fp32", "int8", "int4"]

_BLOCK = 32
"""Weights that share one scale at four bits."""

_STANDS_OUT = 2.0
"""A component whose peak is more than so many times the median peak is made smaller; 1.5 and 3 were no better."""

_SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Lengths of the rows of random tokens on which peaks are found: the same components stand out in any text."""

_N_SAMPLES = 3
"""Of each length."""

_ZERO = np.uint8(128)
"""What stands for a weight of zero: to flip the highest bit of a two's complement adds it."""

_OPSET = 20
_IR_VERSION = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanHead:
    """What points at words: what each of m marks adds to a token's state below `layer` [m, d], and the weights [2, d]
    and biases [2] of beginnings and ends over the last states."""

    layer: int
    marks: Array
    weight: Array
    bias: Array


def write_graph(
    folder: Path,
    *,
    precision: Precision = "int8",
    word_layer: int = 0,
    replaced: Mapping[str, Array] | None = None,
    n_layers: int | None = None,
    spans: SpanHead | None = None,
) -> bytes:
    """The ONNX model of the encoder in `folder`, weights included; `replaced` stand for its own tensors of that name.

    With a `word_layer` it has a second output, `words`: what stands after so many layers, [1, tokens, dimension]. With
    `spans` it has a second input, `marks` [1, tokens, m], and output, `spans` [1, tokens, 2]. With `n_layers` only so
    many, from the bottom, are run, and the output is `hidden` [1, tokens, dimension].

    At int8 every weight matrix has eight bits per output channel and the word table eight per token, the activations
    uint8 at run time, per tensor or token. At int4 the matrices have four bits in blocks of 32 with a scale each, the
    word table and the activations eight. Raises `UserError` where tensors are missing or misshapen.
    """
    architecture = read_architecture(folder)
    weights = read_weights(folder) | dict(replaced or {})
    depth = architecture.n_layers if n_layers is None else n_layers
    try:
        peaks = _peaks(weights, architecture, depth) if precision == "int8" else []
        graph = _Graph(precision=precision, peaks=peaks)
        states = _states(graph, weights, architecture, depth, spans)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"The weights in {folder.name!r} do not fit their configuration: {error}.", hint="Fetch them again."
        ) from error
    if n_layers is not None:
        graph.nodes.append(helper.make_node("Identity", [states[-1]], ["hidden"]))
        return _model(graph, {"hidden": [1, "tokens", architecture.dimension]})
    extra = {"words": (states[word_layer], architecture.dimension)} if word_layer else {}
    if spans is not None:
        product = graph.operator("MatMul", states[-1], graph.constant(spans.weight.T))
        extra["spans"] = (graph.operator("Add", product, graph.constant(spans.bias)), 2)
    return _finish(graph, architecture, states[-1], extra, 0 if spans is None else len(spans.marks))


def parse_graph(content: bytes) -> Any:  # noqa: ANN401 (onnx is untyped)
    """The model that `write_graph` wrote, for tools that want it as an object."""
    return onnx.load_from_string(content)


@dataclass(slots=True, kw_only=True)
class _Graph:
    """Nodes and constants so far; every method returns the name of a value.

    `peaks` are those of what each matrix behind a layer norm reads, in the order of the graph; `read` are these values.
    """

    precision: Precision
    peaks: Sequence[Array] = ()
    read: list[str] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, array: Array) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def operator(self, kind: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 (ONNX attributes)
        return self.operators(kind, 1, *inputs, **attributes)[0]

    def operators(self, kind: str, n_outputs: int, *inputs: str, **attributes: Any) -> list[str]:  # noqa: ANN401
        outputs = [f"value_{len(self.nodes)}_{index}" for index in range(n_outputs)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        return outputs

    def linear(self, value: str, weight: Array, bias: Array) -> str:
        """`value @ weight.T + bias`, for torch's [out, in] weights."""
        if self.precision == "int8":
            return self._bytes(value, weight, bias)
        if self.precision == "int4":
            return self.operator("Add", self._nibbles(value, weight), self.constant(bias))
        product = self.operator("MatMul", value, self.constant(weight.T))
        return self.operator("Add", product, self.constant(bias))

    def linear_of_normed(self, value: str, weight: Array, bias: Array) -> str:
        """The same of what a layer norm gave: at int8 its components that stand out are made smaller."""
        self.read.append(value)
        if self.precision == "int8":
            peaks = np.maximum(self.peaks[len(self.read) - 1], 1e-6)
            # Powers of two, so that what differs in the last bit between machines gives the same graph.
            steps = np.rint(np.log2(peaks / (_STANDS_OUT * np.median(peaks))))
            sizes = np.exp2(np.maximum(0, steps)).astype(np.float32)
            smaller: Array = 1 / sizes
            value, weight = self.operator("Mul", value, self.constant(smaller)), weight * sizes
        return self.linear(value, weight, bias)

    def linear_of_gelu(self, value: str, weight: Array, bias: Array) -> str:
        """The same of what the Gelu gave: at int8 each token's components are scaled by their peak."""
        if self.precision != "int8":
            return self.linear(value, weight, bias)
        found = self.operator("ReduceMax", value, self.integers(-1))
        # The Gelu is nowhere below -0.17.
        peak = self.operator("Max", found, self.constant(np.array(0.17, np.float32)))
        product = self._bytes(self.operator("Div", value, peak), weight)
        return self.operator("Add", self.operator("Mul", product, peak), self.constant(bias))

    def _bytes(self, value: str, weight: Array, *bias: Array) -> str:
        quantized, scale = _quantized(weight)
        unsigned = quantized.view(np.uint8) ^ _ZERO
        parameters: list[Array] = [unsigned.T, scale, np.array(_ZERO), *bias]
        inputs = [self.constant(array) for array in parameters]
        return self.operator("DynamicQuantizeMatMul", value, *inputs, domain="com.microsoft")

    def _nibbles(self, value: str, weight: Array) -> str:
        n_out, n_in = weight.shape
        packed, scales = _four_bits(weight)
        shape = {"K": n_in, "N": n_out, "bits": 4, "block_size": _BLOCK, "accuracy_level": 4}
        inputs = (self.constant(packed), self.constant(scales))
        return self.operator("MatMulNBits", value, *inputs, domain="com.microsoft", **shape)

    def normalized(self, value: str, weights: dict[str, Array], name: str, epsilon: float) -> str:
        scale, bias = self.constant(weights[f"{name}.weight"]), self.constant(weights[f"{name}.bias"])
        return self.operator("LayerNormalization", value, scale, bias, axis=-1, epsilon=epsilon)


def _states(
    graph: _Graph,
    weights: dict[str, Array],
    architecture: Architecture,
    n_layers: int,
    spans: SpanHead | None = None,
) -> list[str]:
    """What stands before the first layer, and after each of so many."""
    states = [_embeddings(graph, weights, architecture)]
    for layer in range(n_layers):
        hidden = states[-1]
        if spans is not None and layer == spans.layer:
            marked = graph.operator("MatMul", "marks", graph.constant(spans.marks))
            hidden = graph.operator("Add", hidden, marked)
        states.append(_layer(graph, layer_weights(weights, layer), architecture, hidden))
    return states


def _peaks(weights: dict[str, Array], architecture: Architecture, n_layers: int) -> list[NDArray[np.float32]]:
    """The largest magnitude of each component of what each matrix behind a layer norm reads [dimension each]."""
    graph = _Graph(precision="fp32")
    _states(graph, weights, architecture, n_layers)
    if not graph.read:
        return []
    for number, value in enumerate(graph.read):
        inputs = [graph.operator("Abs", value), graph.integers(0, 1)]
        graph.nodes.append(helper.make_node("ReduceMax", inputs, [f"peaks_{number}"], keepdims=0))
    model = _model(graph, {f"peaks_{number}": [architecture.dimension] for number in range(len(graph.read))})
    session = Graph(model).session
    rng, n_tokens = np.random.default_rng(0), len(weights["embeddings.word_embeddings.weight"])
    rows = [rng.integers(n_tokens, size=(1, min(size, architecture.max_tokens))) for size in _SAMPLES * _N_SAMPLES]
    found = [session.run(None, {"input_ids": row}) for row in rows]
    return [np.max(peaks, axis=0) for peaks in zip(*found, strict=True)]


def _embeddings(graph: _Graph, weights: dict[str, Array], architecture: Architecture) -> str:
    table = weights["embeddings.word_embeddings.weight"]
    if graph.precision != "fp32":
        quantized, scale = _quantized(table)
        rows = graph.operator("Gather", graph.constant(quantized), "input_ids")
        scales = graph.operator("Gather", graph.constant(scale[:, None]), "input_ids")
        words = graph.operator("Mul", graph.operator("Cast", rows, to=onnx.TensorProto.FLOAT), scales)
    else:
        words = graph.operator("Gather", graph.constant(table), "input_ids")
    # The token type is always 0, so its row belongs to the positions. Sliced, not gathered by a Range:
    # onnxruntime's optimizer breaks the latter ("Starts must be a 1-D array").
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    length = graph.operator("Shape", "input_ids", start=1)
    sliced = graph.operator("Slice", graph.constant(positions), graph.integers(0), length, graph.integers(0))
    summed = graph.operator("Add", words, sliced)
    return graph.normalized(summed, weights, "embeddings.LayerNorm", architecture.epsilon)


def _layer(graph: _Graph, weights: dict[str, Array], architecture: Architecture, hidden: str) -> str:
    attended = _attention(graph, weights, architecture, hidden)
    summed = graph.operator("Add", graph.linear(attended, *_matrix(weights, "attention.output.dense")), hidden)
    hidden = graph.normalized(summed, weights, "attention.output.LayerNorm", architecture.epsilon)
    inner = graph.linear_of_normed(hidden, *_matrix(weights, "intermediate.dense"))
    activated = graph.operator("Gelu", inner, approximate=architecture.gelu)
    summed = graph.operator("Add", graph.linear_of_gelu(activated, *_matrix(weights, "output.dense")), hidden)
    return graph.normalized(summed, weights, "output.LayerNorm", architecture.epsilon)


def _matrix(weights: dict[str, Array], name: str) -> tuple[Array, Array]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _attention(graph: _Graph, weights: dict[str, Array], architecture: Architecture, hidden: str) -> str:
    names = [f"attention.self.{part}" for part in ("query", "key", "value")]
    weight = np.concatenate([weights[f"{name}.weight"] for name in names])
    bias = np.concatenate([weights[f"{name}.bias"] for name in names])
    parts = graph.operators("Split", 3, graph.linear_of_normed(hidden, weight, bias), axis=-1, num_outputs=3)
    width = architecture.dimension // architecture.n_heads
    heads = graph.integers(0, 0, architecture.n_heads, width)
    query, key, value = (
        graph.operator("Transpose", graph.operator("Reshape", part, heads), perm=order)
        for part, order in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
    )
    scaled = graph.operator("Mul", query, graph.constant(np.array(width**-0.5, np.float32)))
    shares = graph.operator("Softmax", graph.operator("MatMul", scaled, key), axis=-1)
    mixed = graph.operator("Transpose", graph.operator("MatMul", shares, value), perm=[0, 2, 1, 3])
    return graph.operator("Reshape", mixed, graph.integers(0, 0, architecture.dimension))


def _finish(
    graph: _Graph, architecture: Architecture, hidden: str, extra: Mapping[str, tuple[str, int]], n_marks: int
) -> bytes:
    """The model with the embedding and `extra` outputs of so many numbers a token, by name."""
    if architecture.is_mean_pooled:
        pooled = graph.operator("ReduceMean", hidden, graph.integers(1), keepdims=0)
    else:
        pooled = graph.operator("Gather", hidden, graph.constant(np.array(0, np.int64)), axis=1)
    graph.nodes.append(helper.make_node("LpNormalization", [pooled], ["embedding"], axis=-1, p=2))
    shapes: dict[str, list[int | str]] = {"embedding": [1, architecture.dimension]}
    for name, (value, width) in extra.items():
        graph.nodes.append(helper.make_node("Identity", [value], [name]))
        shapes[name] = [1, "tokens", width]
    return _model(graph, shapes, n_marks)


def _model(graph: _Graph, shapes: Mapping[str, list[int | str]], n_marks: int = 0) -> bytes:
    """The model of the graph; `shapes` are those of its outputs."""
    inputs = [helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, [1, "tokens"])]
    if n_marks:
        inputs.append(helper.make_tensor_value_info("marks", onnx.TensorProto.FLOAT, [1, "tokens", n_marks]))
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "encoder", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=_IR_VERSION,
        producer_name="pilotfish",
    )
    return bytes(model.SerializeToString(deterministic=True))


def _four_bits(weight: Array) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pairs of four-bit weights [out, blocks, 16] and a scale per block [out * blocks], as `MatMulNBits` reads them.

    The largest weight of a block lies on -8, the end of the range that has one step more (llama.cpp's Q4_0).
    """
    n_out, n_in = weight.shape
    blocks = np.zeros((n_out, -(-n_in // _BLOCK), _BLOCK), np.float32)
    blocks.reshape(n_out, -1)[:, :n_in] = weight
    peaks = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2, keepdims=True), axis=2)
    scales = np.where(peaks == 0, 1.0, peaks / -8).astype(np.float32)
    steps = np.clip(np.rint(blocks / scales) + 8, 0, 15).astype(np.uint8)
    return steps[:, :, ::2] | steps[:, :, 1::2] << 4, scales.ravel()


def _quantized(weight: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 of each row of `weight`, and the rows' scales."""
    scale = np.abs(weight).max(axis=1) / 127
    scale[scale == 0] = 1
    return np.rint(weight / scale[:, None]).astype(np.int8), scale.astype(np.float32)
