"""Bytes: weights by number type, the cache of keys and values, activations, serving and training.

Weights and cache are exact. Activations depend on the program that runs the model, so theirs is an estimate with its
formula stated. A GGUF file type mixes block types; its bits per weight are those that llama.cpp's quantize README
states for Llama-3.1-8B, and other models differ by a few per cent.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilotfish.sizing.architecture import Architecture

BITS = {
    "fp32": 32.0,
    "fp16": 16.0,
    "bf16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "F16": 16.0005,
    "Q8_0": 8.5008,
    "Q6_K": 6.5633,
    "Q5_K_M": 5.7036,
    "Q4_K_M": 4.8944,
    "Q2_K": 3.1593,
}
"""Bits per weight, the scales of blocks included."""

SHOWN = ("fp32", "bf16", "int8", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q2_K")
"""The number types of the table."""

OPTIMISERS = {
    "AdamW": (12, "master weights and two moments in 32 bits"),
    "8-bit Adam": (6, "master weights in 32 bits, two moments in 8"),
    "SGD with momentum": (8, "master weights and one moment in 32 bits"),
}
"""Bytes a trained parameter takes beside weight and gradient; EleutherAI, Transformer Math 101 (2023)."""

LORA_RANK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An estimate between two bounds, in bytes."""

    low: int
    high: int


def weights_bytes(parameters: int, number_type: str) -> int:
    """All weights in one number type."""
    return round(parameters * BITS[number_type] / 8)


def cache_values_per_token(a: Architecture) -> int:
    """Values that one more token adds to the cache while no window is full; 0 for an encoder."""
    return sum(t.n_layers * t.cached for t in a.attention if not t.is_cross)


def cache_bytes(a: Architecture, context: int, batch: int = 1, bits: int = 16, *, windowed: bool = True) -> int:
    """The cache of `batch` sequences of `context` tokens. Layers with a window keep that many tokens at most
    (unless `windowed` is off); cross-attention keeps keys and values of a source as long as the context."""
    values = 0
    for t in a.attention:
        kept = min(context, t.window) if windowed and t.window else context
        values += t.n_layers * t.cached * kept
    return values * batch * bits // 8


def activation_bytes(a: Architecture, context: int, batch: int = 1, bits: int = 16) -> int | None:
    """Estimate of what lives beside weights and cache while a prompt of `context` tokens is read: two residual
    streams and the widest of attention's and feed-forward's inner vectors for each token, and the logits of the last.

    Attention scores are assumed never to stand in memory as a whole (FlashAttention, arXiv 2205.14135).
    """
    if a.hidden is None or a.n_heads is None or a.head_dim is None:
        return None
    inner = a.n_heads * a.head_dim + 2 * (a.n_kv_heads or a.n_heads) * a.head_dim + a.n_heads * a.head_dim
    wide = max(inner, _feed_forward_width(a))
    logits = 4 * batch * (a.vocab or 0) if a.kind != "encoder" else 0
    return batch * context * (2 * a.hidden + wide) * bits // 8 + logits


def serving_bytes(a: Architecture, number_type: str, context: int, batch: int = 1, bits: int = 16) -> int | None:
    """Peak while serving: weights, cache and activations. None where activations are unknown."""
    activations = activation_bytes(a, context, batch, max(16, bits))
    if activations is None:
        return None
    return weights_bytes(a.parameters, number_type) + cache_bytes(a, context, batch, bits) + activations


def training_bytes(a: Architecture, optimiser: str) -> Span:
    """Weights in 16 bits, gradients in 16 to 32, and the optimiser's state; activations come on top."""
    state = OPTIMISERS[optimiser][0]
    return Span(low=a.parameters * (4 + state), high=a.parameters * (6 + state))


def lora_parameters(a: Architecture, rank: int = LORA_RANK) -> int:
    """Parameters of adapters of `rank` on all matrices of attention and feed-forward (arXiv 2106.09685). The
    experts of a mixture are left out, as is usual."""
    adapted = [
        w for w in a.weights if w.part in ("attention", "feed-forward") and w.multiplied and w.active == w.stored
    ]
    return sum(rank * (w.rows + w.cols) * w.stored for w in adapted)


def lora_bytes(a: Architecture, rank: int = LORA_RANK) -> Span:
    """Frozen weights in 16 bits; only the adapters have gradients and AdamW state."""
    adapters = lora_parameters(a, rank)
    return Span(low=2 * a.parameters + 16 * adapters, high=2 * a.parameters + 18 * adapters)


def training_activation_bytes(a: Architecture, context: int, batch: int = 1) -> int | None:
    """Estimate with every layer recomputed in the backward pass: one input a layer, one layer in full (34 bytes a
    token and dimension, arXiv 2205.05198, without scores), and 32-bit logits of all tokens."""
    if a.hidden is None or a.n_layers is None:
        return None
    tokens, layers = batch * context, a.n_layers + (a.n_encoder_layers or 0)
    logits = 4 * tokens * (a.vocab or 0) if a.kind != "encoder" else 0
    return tokens * a.hidden * (2 * layers + 34) + logits


def _feed_forward_width(a: Architecture) -> int:
    """Inner values of one token in the widest feed-forward block."""
    inner = [w for w in a.weights if w.part == "feed-forward" and w.multiplied and w.cols != a.hidden]
    layers = max(1, (a.n_layers or 1))
    return max((w.cols * max(1, round(w.multiplied / layers)) for w in inner), default=0)
