"""Floating-point operations: a multiplication and an addition are two.

Forward work is the matrices (the same for each token) and the attention scores (growing with the keys a token sees).
Norms, activations and softmax are left out, as is usual; they are below one per cent. For attention of other kinds
the same model is drawn as if it had them: Performer's random features and Reformer's hashing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pilotfish.sizing.architecture import LANGUAGE_HEAD, Architecture, Attention, Side

REFORMER_CHUNK, REFORMER_ROUNDS = 64, 4
"""Keys in a chunk and rounds of hashing; arXiv 2001.04451, section 5."""
WINDOW = 4096
"""The window of the drawn curve, where the model has none of its own."""
BACKWARD = 2
"""The backward pass takes twice the forward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """FLOPs of one token that sees n earlier ones, for each n in `lengths`, by kind of attention."""

    lengths: tuple[int, ...]
    by_kind: dict[str, tuple[int, ...]]


def linear(a: Architecture, side: Side | None = None) -> int:
    """The matrices one token is multiplied with, of one side or all; what runs once a text is left out."""
    return 2 * sum(
        w.elements * w.multiplied for w in a.weights if not w.is_per_sequence and (side is None or w.side == side)
    )


def head(a: Architecture) -> int:
    """The share of `linear` that is the language model head."""
    return 2 * sum(w.elements * w.multiplied for w in a.weights if w.name == LANGUAGE_HEAD)


def scores(a: Architecture, keys: int, side: Side | None = None) -> int:
    """Attention scores and their sum over values for one token that sees `keys` keys (fewer in a window):
    4 x layers x heads x head dimension x keys where keys and values are equally wide."""
    some = [t for t in a.attention if side is None or t.side == side]
    return sum(_score_unit(t) * min(keys, t.window or keys) for t in some)


def decode(a: Architecture, cached: int) -> int | None:
    """One new token after `cached` ones; None for an encoder, which makes none."""
    if a.kind == "encoder":
        return None
    side: Side | None = "decoder" if a.kind == "encoder-decoder" else None
    return linear(a, side) + scores(a, cached, side)


def prefill(a: Architecture, length: int, *, causal_half: bool = True) -> int:
    """Reading a text of `length` tokens. A causal model computes half of the score square, or all of it where the
    program does not skip the other half. For an encoder-decoder: encoding the source."""
    side: Side | None = "encoder" if a.kind == "encoder-decoder" else None
    attention = 0
    for t in a.attention:
        if side is not None and t.side != side:
            continue
        attention += _score_unit(t) * _pairs(length, t.window, is_half=t.is_causal and causal_half)
    return linear(a, side) * length + attention + _once(a)


def training(a: Architecture, tokens: int, length: int) -> int:
    """Forward and backward over `tokens` tokens in texts of `length`: three times the forward work."""
    forward = prefill(a, length)
    if a.kind == "encoder-decoder":
        own = sum(
            _score_unit(t) * _pairs(length, t.window, is_half=t.is_causal) for t in a.attention if t.side == "decoder"
        )
        forward += linear(a, "decoder") * length + own
    return (1 + BACKWARD) * forward * tokens // length


def rule_of_thumb(a: Architecture, tokens: int) -> int:
    """6ND: six operations for each active parameter and token (arXiv 2001.08361)."""
    return 6 * a.active_parameters * tokens


def curves(a: Architecture, longest: int) -> Curves:
    """This model's work for one more token as the context grows, and what it would be under other attention."""
    lengths = tuple(2**i for i in range(7, max(8, longest.bit_length())))
    base = linear(a, "decoder" if a.kind == "encoder-decoder" else None)
    own = [t for t in a.attention if not t.is_cross and (a.kind != "encoder-decoder" or t.side == "decoder")]
    window = min((t.window for t in own if t.window), default=WINDOW)
    unit = sum(_score_unit(t) for t in own)
    kinds = {
        "full": tuple(base + unit * n for n in lengths),
        f"window of {window:,}": tuple(base + unit * min(n, window) for n in lengths),
        "Performer": tuple(base + sum(map(_performer, own)) for _ in lengths),
        "Reformer": tuple(base + sum(_reformer(t, n) for t in own) for n in lengths),
    }
    if any(t.window for t in own):
        actual = tuple(base + sum(_score_unit(t) * min(n, t.window or n) for t in own) for n in lengths)
        kinds = {"this model": actual, **kinds}
    return Curves(lengths=lengths, by_kind=kinds)


def _score_unit(t: Attention) -> int:
    """Operations for one key: its score, and its value added up."""
    return 2 * t.n_layers * t.n_heads * (t.head_dim + t.value_dim)


def _pairs(length: int, window: int | None, *, is_half: bool) -> int:
    """Pairs of query and key in a text: the square, half of it, or the band of a window."""
    if window is None or window >= length:
        return length * length // 2 if is_half else length * length
    if is_half:
        return window * window // 2 + (length - window) * window
    return length * window


def _performer(t: Attention) -> int:
    """FAVOR+ (arXiv 2009.14794): m = d ln d random features; queries and keys mapped, one running sum of keys times
    values updated and read. The same at every length."""
    features = max(1, math.ceil(t.head_dim * math.log(max(2, t.head_dim))))
    return 2 * t.n_layers * t.n_heads * features * (2 * t.head_dim + 2 * t.value_dim)


def _reformer(t: Attention, n: int) -> int:
    """LSH attention: each round hashes the token (n / chunk buckets, random rotations of half as many directions) and
    attends to its own chunk and the one before."""
    buckets = max(2, n // REFORMER_CHUNK)
    hashing = 2 * t.n_layers * t.n_heads * t.head_dim * (buckets // 2)
    return REFORMER_ROUNDS * (hashing + _score_unit(t) * min(n, 2 * REFORMER_CHUNK))


def _once(a: Architecture) -> int:
    """What runs once a text: a pooler."""
    return 2 * sum(w.elements * w.multiplied for w in a.weights if w.is_per_sequence)
