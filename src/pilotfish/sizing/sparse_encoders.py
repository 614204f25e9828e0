"""Encoders for long texts, whose tokens do not see all others: Longformer, BigBird, Reformer.

Their parameters are exact. Their attention is sized by the keys that a token sees in the usual case; what a task adds
to that (tokens that see all, another number of hashing rounds) is named in a note and not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pilotfish.core.errors import UserError
from pilotfish.sizing.architecture import Architecture, Attention, Side, Weights, linear, norm, output, table
from pilotfish.sizing.encoders import ENCODERS
from pilotfish.sizing.reading import Config

_BIGBIRD_ALWAYS = 5
"""Blocks that a block of BigBird sees beside the random ones: itself, two neighbours, the first and the last."""


def _longformer(c: Config) -> Architecture:
    """RoBERTa with a window in each layer, and a second set of query, key and value for tokens that see all."""
    found = ENCODERS["roberta"](c)
    n_layers, hidden = c.layers("num_hidden_layers"), c.size("hidden_size")
    windows = _list(c, "attention_window", n_layers)
    beside = [
        replace(w, multiplied=0)
        for w in linear(
            "attention", "global query, key, value", hidden, hidden, 3 * n_layers, bias=True, side="encoder"
        )
    ]
    (full,) = found.attention
    attention = tuple(
        replace(full, n_layers=windows.count(window), window=window + 1, kind="sliding")
        for window in sorted(set(windows))
    )
    note = "tokens that a task lets see all others, and what they multiply, are not counted"
    weights = (*found.weights, *beside)
    return replace(found, family="Longformer", weights=weights, attention=attention, heads=(), notes=(note,))


def _big_bird(c: Config) -> Architecture:
    """BERT's weights; blocks see their neighbours, the first and last, and a few at random (arXiv 2007.14062)."""
    found = ENCODERS["bert"](c)
    without = "" if c.flag("use_bias", True) else "query, key, value bias"
    weights = tuple(w for w in found.weights if w.name != without)
    found = replace(found, family="BigBird", weights=weights, heads=(), tokenizer="unigram")
    if c.given("attention_type") == "original_full":
        return found
    block, n_random = c.maybe("block_size") or 64, c.maybe("num_random_blocks") or 3
    (full,) = found.attention
    seen = block * (_BIGBIRD_ALWAYS + n_random)
    note = f"texts up to {block * (_BIGBIRD_ALWAYS + 2 * n_random):,} tokens are read with full attention"
    return replace(found, attention=(replace(full, window=seen, kind="sparse"),), notes=(note,))


def _reformer(c: Config) -> Architecture:
    """Reversible blocks of local and LSH attention (arXiv 2001.04451), with axial positions."""
    hidden, n_heads, head_dim = c.size("hidden_size"), c.size("num_attention_heads"), c.size("attention_head_size")
    kinds, d_ff, vocab = c.names("attn_layers"), c.size("feed_forward_size"), c.size("vocab_size")
    if not kinds or set(kinds) - {"local", "lsh"}:
        raise UserError(f"{c.where}: attn_layers must be a list of 'local' and 'lsh', but is {kinds!r}.")
    is_decoder, n, all_heads = c.flag("is_decoder", False), len(kinds), n_heads * head_dim
    side: Side = "decoder" if is_decoder else "encoder"
    n_projections = sum(3 if kind == "local" else 2 for kind in kinds)
    weights: list[Weights] = [
        table("token embeddings", vocab, hidden, side=side),
        *_positions(c, hidden, side),
        *linear("attention", "query, key, value", hidden, all_heads, n_projections, side=side),
        *linear("attention", "output", all_heads, hidden, n, side=side),
        *linear("feed-forward", "up", hidden, d_ff, n, bias=True, side=side),
        *linear("feed-forward", "down", d_ff, hidden, n, bias=True, side=side),
        norm(hidden, 2 * n, bias=True, side=side),
        norm(2 * hidden, 1, bias=True, side=side),
    ]
    if is_decoder:
        weights += output(vocab, 2 * hidden, tied=False, bias=True)
    return Architecture(
        family="Reformer",
        kind="decoder" if is_decoder else "encoder",
        n_layers=n,
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=head_dim,
        d_ff=d_ff,
        vocab=vocab,
        context=c.size("max_position_embeddings"),
        position="axial" if c.flag("axial_pos_embds", True) else "learned",
        weights=tuple(weights),
        attention=tuple(_reformer_attention(c, kind, kinds.count(kind)) for kind in dict.fromkeys(kinds)),
        tokenizer="unigram",
        notes=("the hashing of LSH layers is not counted; the cache holds each layer's states",),
    )


def _positions(c: Config, hidden: int, side: Side) -> list[Weights]:
    if not c.flag("axial_pos_embds", True):
        return [table("position embeddings", c.size("max_position_embeddings"), hidden, side=side)]
    shape, dims = _list(c, "axial_pos_shape", 2), _list(c, "axial_pos_embds_dim", 2)
    return [table("axial position embeddings", n, size, side=side) for n, size in zip(shape, dims, strict=True)]


def _reformer_attention(c: Config, kind: str, n_layers: int) -> Attention:
    """Keys a token sees: its chunk and those beside it, in an LSH layer once for each round of hashing."""
    before = _count(c, f"{kind}_num_chunks_before", 1)
    chunks = 1 + before + _count(c, f"{kind}_num_chunks_after", 0)
    rounds = (c.maybe("num_hashes") or 1) if kind == "lsh" else 1
    is_decoder, head_dim = c.flag("is_decoder", False), c.size("attention_head_size")
    return Attention(
        n_layers=n_layers,
        n_heads=c.size("num_attention_heads"),
        head_dim=head_dim,
        value_dim=head_dim,
        cached=c.size("hidden_size") if is_decoder else 0,
        window=chunks * rounds * (c.maybe(f"{kind}_attn_chunk_length") or 64),
        is_causal=is_decoder,
        side="decoder" if is_decoder else "encoder",
        kind="LSH" if kind == "lsh" else "sliding",
    )


def _count(c: Config, name: str, default: int) -> int:
    found = c.given(name)
    return found if isinstance(found, int) and 0 <= found < 1000 else default


def _list(c: Config, name: str, n: int) -> list[int]:
    """`n` whole numbers, or one that stands for all."""
    found = c.given(name)
    values = [found] * n if isinstance(found, int) else found
    if (
        not isinstance(values, list)
        or len(values) != n
        or not all(isinstance(value, int) and 0 < value <= 10**9 for value in values)
    ):
        raise UserError(f"{c.where}: {name} must be {n} whole numbers from 1, but is {found!r}.")
    return values


SPARSE_ENCODERS: dict[str, Callable[[Config], Architecture]] = {
    "longformer": _longformer,
    "big_bird": _big_bird,
    "reformer": _reformer,
}
