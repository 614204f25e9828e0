"""The encoder-decoder families: T5 and BART.

The encoder runs once over the source, the decoder once a target token; the decoder's cache holds its own keys and
values and those made from the source. Weights that read the source count to the encoder's side of the computing.
"""

from __future__ import annotations

from collections.abc import Callable

from pilotfish.sizing.architecture import Architecture, Attention, Side, Weights, linear, norm, output, table, vector
from pilotfish.sizing.reading import Config


def _attention(n_encoder: int, n_decoder: int, n_heads: int, head_dim: int) -> tuple[Attention, ...]:
    inner = 2 * n_heads * head_dim

    def some(n: int, cached: int, side: Side, *, is_cross: bool = False) -> Attention:
        is_causal = side == "decoder" and not is_cross
        return Attention(
            n_layers=n,
            n_heads=n_heads,
            head_dim=head_dim,
            value_dim=head_dim,
            cached=cached,
            is_causal=is_causal,
            is_cross=is_cross,
            side=side,
        )

    return (
        some(n_encoder, 0, "encoder"),
        some(n_decoder, inner, "decoder"),
        some(n_decoder, inner, "decoder", is_cross=True),
    )


def _projections(
    hidden: int, inner: int, n: int, side: Side, *, bias: bool, source: Side | None = None
) -> list[Weights]:
    """Query, key, value and output; with a `source` keys and values are made on its side, once a source token."""
    return [
        *linear("attention", "query", hidden, inner, n, bias=bias, side=side),
        *linear("attention", "key and value", hidden, inner, 2 * n, bias=bias, side=source or side),
        *linear("attention", "output", inner, hidden, n, bias=bias, side=side),
    ]


def _t5(c: Config) -> Architecture:
    """RMS norms, no biases, relative positions learnt in the first layer of each side, embeddings shared."""
    hidden, inner_dim, n_heads = c.size("d_model"), c.size("d_kv"), c.size("num_heads")
    n_encoder = c.layers("num_layers")
    n_decoder, d_ff, vocab = c.maybe("num_decoder_layers") or n_encoder, c.size("d_ff"), c.size("vocab_size")
    inner, buckets = n_heads * inner_dim, c.maybe("relative_attention_num_buckets") or 32
    ff = c.given("feed_forward_proj")
    n_in = 2 if isinstance(ff, str) and ff.startswith("gated") else 1
    weights: list[Weights] = [table("token embeddings, shared", vocab, hidden, side="encoder")]
    sides: tuple[tuple[Side, int], ...] = (("encoder", n_encoder), ("decoder", n_decoder))
    for side, n in sides:
        weights += _projections(hidden, inner, n, side, bias=False)
        weights += linear("feed-forward", "up", hidden, d_ff, n_in * n, side=side)
        weights += linear("feed-forward", "down", d_ff, hidden, n, side=side)
        weights.append(vector("attention", "relative positions", buckets * n_heads, side=side))
        weights.append(norm(hidden, (2 if side == "encoder" else 3) * n + 1, bias=False, side=side))
    weights += _projections(hidden, inner, n_decoder, "decoder", bias=False, source="encoder")
    weights += output(vocab, hidden, tied=c.flag("tie_word_embeddings", True))
    return Architecture(
        family="T5",
        kind="encoder-decoder",
        n_layers=n_decoder,
        n_encoder_layers=n_encoder,
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=inner_dim,
        d_ff=d_ff,
        vocab=vocab,
        context=None,
        position="relative",
        weights=tuple(weights),
        attention=_attention(n_encoder, n_decoder, n_heads, inner_dim),
        tokenizer="unigram",
        notes=("relative positions set no limit to the context; it was trained with 512 tokens",),
    )


def _bart(c: Config) -> Architecture:
    """LayerNorms and biases everywhere, learned positions with two unused rows on each side, embeddings shared."""
    hidden, vocab = c.size("d_model"), c.size("vocab_size")
    n_encoder, n_decoder = c.layers("encoder_layers"), c.layers("decoder_layers")
    n_heads, positions = c.size("decoder_attention_heads", "encoder_attention_heads"), c.size("max_position_embeddings")
    weights: list[Weights] = [table("token embeddings, shared", vocab, hidden, side="encoder")]
    sides: tuple[tuple[Side, int, int], ...] = (
        ("encoder", n_encoder, c.size("encoder_ffn_dim")),
        ("decoder", n_decoder, c.size("decoder_ffn_dim")),
    )
    for side, n, d_ff in sides:
        weights.append(table("position embeddings", positions + 2, hidden, side=side))
        weights += _projections(hidden, hidden, n, side, bias=True)
        weights += linear("feed-forward", "up", hidden, d_ff, n, bias=True, side=side)
        weights += linear("feed-forward", "down", d_ff, hidden, n, bias=True, side=side)
        weights.append(norm(hidden, (2 if side == "encoder" else 3) * n + 1, bias=True, side=side))
    weights += _projections(hidden, hidden, n_decoder, "decoder", bias=True, source="encoder")
    weights += output(vocab, hidden, tied=c.flag("tie_word_embeddings", True))
    return Architecture(
        family="BART",
        kind="encoder-decoder",
        n_layers=n_decoder,
        n_encoder_layers=n_encoder,
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=max(1, hidden // n_heads),
        d_ff=c.size("decoder_ffn_dim"),
        vocab=vocab,
        context=positions,
        position="learned",
        weights=tuple(weights),
        attention=_attention(n_encoder, n_decoder, n_heads, max(1, hidden // n_heads)),
        tokenizer="BPE",
    )


ENCODER_DECODERS: dict[str, Callable[[Config], Architecture]] = {"t5": _t5, "bart": _bart}
