"""The decoder that nearly all language models share, with what differs between families as its options.

Attention of queries, keys and values, a feed-forward block (gated or not, one or a mixture of experts), norms, an
embedding table and a head. A family (`decoders.py`, `mixtures.py`) only says which options it takes. Latent attention
(DeepSeek) replaces the attention weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilotfish.sizing.architecture import Architecture, Attention, Weights, linear, norm, output, table, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture in `n_layers` layers: `n` experts of inner size `d_ff`, of which a token meets `n_chosen`."""

    n: int
    n_chosen: int
    d_ff: int
    n_layers: int
    shared_d_ff: int = 0
    has_shared_gate: bool = False
    router_bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention: keys and values are made from one cached vector of `rank`, plus `rope_dim`."""

    rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    query_rank: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skeleton:
    """The options. `windowed_layers` of the layers see `window` keys; `qk_norm` is the size of both norms together."""

    family: str
    n_layers: int
    hidden: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab: int
    context: int | None
    position: str
    tied: bool
    is_gated: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    ff_bias: bool = False
    norm_bias: bool = False
    norms_per_layer: int = 2
    final_norms: int = 1
    qk_norm: int = 0
    n_positions: int = 0
    embedded: int | None = None
    head_bias: bool = False
    window: int | None = None
    windowed_layers: int = 0
    experts: Experts | None = None
    latent: Latent | None = None
    sinks: bool = False
    tokenizer: str | None = None
    notes: tuple[str, ...] = ()


def build(s: Skeleton) -> Architecture:
    """The architecture of these options."""
    weights = [
        *_embeddings(s),
        *(_latent(s, s.latent) if s.latent else _attention(s)),
        *_feed_forward(s),
        norm(s.hidden, s.norms_per_layer * s.n_layers + s.final_norms, bias=s.norm_bias),
        *([norm(s.qk_norm, s.n_layers, bias=s.norm_bias)] if s.qk_norm else []),
        *output(s.vocab, s.embedded or s.hidden, tied=s.tied, bias=s.head_bias),
    ]
    return Architecture(
        family=s.family,
        kind="decoder",
        n_layers=s.n_layers,
        hidden=s.hidden,
        n_heads=s.n_heads,
        n_kv_heads=None if s.latent else s.n_kv_heads,
        head_dim=s.latent.nope_dim + s.latent.rope_dim if s.latent else s.head_dim,
        d_ff=s.d_ff,
        vocab=s.vocab,
        context=s.context,
        position=s.position,
        weights=tuple(weights),
        attention=_layers(s),
        tokenizer=s.tokenizer,
        notes=s.notes,
    )


def _embeddings(s: Skeleton) -> list[Weights]:
    found = [table("token embeddings", s.vocab, s.embedded or s.hidden)]
    if s.n_positions:
        found.append(table("position embeddings", s.n_positions, s.hidden))
    if s.embedded and s.embedded != s.hidden:
        found += linear("embeddings", "projection in", s.embedded, s.hidden)
        found += linear("head", "projection out", s.hidden, s.embedded)
    return found


def _attention(s: Skeleton) -> list[Weights]:
    query, key = s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
    sinks = [vector("attention", "sinks", s.n_heads, s.n_layers)] if s.sinks else []
    return [
        *linear("attention", "query", s.hidden, query, s.n_layers, bias=s.qkv_bias),
        *linear("attention", "key and value", s.hidden, key, 2 * s.n_layers, bias=s.qkv_bias),
        *linear("attention", "output", query, s.hidden, s.n_layers, bias=s.out_bias),
        *sinks,
    ]


def _latent(s: Skeleton, m: Latent) -> list[Weights]:
    """DeepSeek-V2, arXiv 2405.04434, section 2.1."""
    query = s.n_heads * (m.nope_dim + m.rope_dim)
    if m.query_rank is None:
        queries = [*linear("attention", "query", s.hidden, query, s.n_layers)]
    else:
        queries = [
            *linear("attention", "query down", s.hidden, m.query_rank, s.n_layers),
            *linear("attention", "query up", m.query_rank, query, s.n_layers),
            norm(m.query_rank, s.n_layers, bias=False),
        ]
    return [
        *queries,
        *linear("attention", "latent down", s.hidden, m.rank + m.rope_dim, s.n_layers),
        *linear("attention", "latent up", m.rank, s.n_heads * (m.nope_dim + m.value_dim), s.n_layers),
        *linear("attention", "output", s.n_heads * m.value_dim, s.hidden, s.n_layers),
        norm(m.rank, s.n_layers, bias=False),
    ]


def _feed_forward(s: Skeleton) -> list[Weights]:
    n_dense = s.n_layers - (s.experts.n_layers if s.experts else 0)
    found = [*_block(s, "feed-forward", s.d_ff, n_dense)] if n_dense else []
    if s.experts is None:
        return found
    e = s.experts
    found += linear("feed-forward", "router", s.hidden, e.n, e.n_layers, bias=e.router_bias)
    found += [
        Weights(
            part=w.part,
            name=w.name,
            rows=w.rows,
            cols=w.cols,
            stored=w.stored * e.n,
            active=w.stored * e.n_chosen,
            multiplied=w.multiplied * e.n_chosen,
        )
        for w in _block(s, "expert", e.d_ff, e.n_layers)
    ]
    if e.shared_d_ff:
        found += _block(s, "shared expert", e.shared_d_ff, e.n_layers)
    if e.has_shared_gate:
        found += linear("feed-forward", "shared expert gate", s.hidden, 1, e.n_layers)
    return found


def _block(s: Skeleton, name: str, d_ff: int, copies: int) -> tuple[Weights, ...]:
    n_in = 2 if s.is_gated else 1
    label = f"{name}, gate and up" if s.is_gated else f"{name}, up"
    return (
        *linear("feed-forward", label, s.hidden, d_ff, n_in * copies, bias=s.ff_bias),
        *linear("feed-forward", f"{name}, down", d_ff, s.hidden, copies, bias=s.ff_bias),
    )


def _layers(s: Skeleton) -> tuple[Attention, ...]:
    """The full layers and those with a window."""
    m = s.latent
    n_windowed = s.windowed_layers if s.window else 0

    def some(n: int, window: int | None) -> Attention:
        return Attention(
            n_layers=n,
            n_heads=s.n_heads,
            head_dim=m.nope_dim + m.rope_dim if m else s.head_dim,
            value_dim=m.value_dim if m else s.head_dim,
            cached=m.rank + m.rope_dim if m else 2 * s.n_kv_heads * s.head_dim,
            window=window,
            kind="sliding" if window else "full",
        )

    full, windowed = some(s.n_layers - n_windowed, None), some(n_windowed, s.window)
    return tuple(a for a in (full, windowed) if a.n_layers > 0)
