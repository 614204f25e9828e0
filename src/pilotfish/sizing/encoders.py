"""The encoder families: BERT and its kin, with the heads that are put on them.

An encoder reads a whole text at once; it has no cache. The body here is the bare one, with the pooler where the family
has it (it runs once a text). "BERT-base has 110M" is true only under the pre-training heads, so totals name their head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pilotfish.sizing.architecture import Architecture, Attention, Head, Weights, linear, norm, table, total
from pilotfish.sizing.reading import Config

WORDPIECE = "WordPiece"


def _pooler(hidden: int) -> list[Weights]:
    """A dense layer on the first token's state."""
    return [
        replace(w, is_per_sequence=True) for w in linear("head", "pooler", hidden, hidden, bias=True, side="encoder")
    ]


def _embeddings(c: Config, size: int, *, types: int, skipped: int = 0) -> list[Weights]:
    """Tokens, learned positions and segment types, and the norm after them."""
    found = [
        table("token embeddings", c.size("vocab_size"), size, side="encoder"),
        table("position embeddings", c.size("max_position_embeddings") + skipped, size, side="encoder"),
    ]
    if types:
        found.append(table("token types", types, size, side="encoder"))
    return [*found, norm(size, 1, bias=True, side="encoder")]


def _layer(hidden: int, d_ff: int, copies: int) -> list[Weights]:
    """One post-norm block with biases everywhere, `copies` times."""
    return [
        *linear("attention", "query, key, value", hidden, hidden, 3 * copies, bias=True, side="encoder"),
        *linear("attention", "output", hidden, hidden, copies, bias=True, side="encoder"),
        *linear("feed-forward", "up", hidden, d_ff, copies, bias=True, side="encoder"),
        *linear("feed-forward", "down", d_ff, hidden, copies, bias=True, side="encoder"),
        norm(hidden, 2 * copies, bias=True, side="encoder"),
    ]


def _attention(n_layers: int, n_heads: int, head_dim: int, window: int | None = None) -> tuple[Attention, ...]:
    return (
        Attention(
            n_layers=n_layers,
            n_heads=n_heads,
            head_dim=head_dim,
            value_dim=head_dim,
            cached=0,
            window=window,
            is_causal=False,
            side="encoder",
            kind="sparse" if window else "full",
        ),
    )


def _encoder(c: Config, family: str, weights: list[Weights], *, unused: int = 0) -> Architecture:
    """The architecture; `unused` positions of the table cannot be used."""
    hidden, n_heads = c.size("hidden_size", "dim"), c.size("num_attention_heads", "n_heads")
    n_layers = c.layers("num_hidden_layers", "n_layers")
    return Architecture(
        family=family,
        kind="encoder",
        n_layers=n_layers,
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=max(1, hidden // n_heads),
        d_ff=c.size("intermediate_size", "hidden_dim"),
        vocab=c.size("vocab_size"),
        context=c.size("max_position_embeddings") - unused,
        position="learned",
        weights=tuple(weights),
        attention=_attention(n_layers, n_heads, max(1, hidden // n_heads)),
        tokenizer=WORDPIECE,
    )


def _bert(c: Config) -> Architecture:
    hidden, n_layers = c.size("hidden_size"), c.layers("num_hidden_layers")
    weights = [
        *_embeddings(c, hidden, types=c.maybe("type_vocab_size") or 2),
        *_layer(hidden, c.size("intermediate_size"), n_layers),
        *_pooler(hidden),
    ]
    found = _encoder(c, "BERT", weights)
    return replace(found, heads=_bert_heads(hidden, c.size("vocab_size"), total(weights)))


def _bert_heads(hidden: int, vocab: int, bare: int) -> tuple[Head, ...]:
    """The masked-language head ties its matrix to the embeddings and drops the pooler."""
    dense = hidden * hidden + hidden
    predicts = dense + 2 * hidden + vocab
    return (
        Head(name="masked language model", parameters=bare - dense + predicts),
        Head(name="pre-training heads", parameters=bare + predicts + 2 * hidden + 2),
        Head(name="2-class head", parameters=bare + 2 * hidden + 2),
    )


def _distilbert(c: Config) -> Architecture:
    hidden, n_layers, vocab = c.size("dim", "hidden_size"), c.layers("n_layers"), c.size("vocab_size")
    weights = [*_embeddings(c, hidden, types=0), *_layer(hidden, c.size("hidden_dim"), n_layers)]
    bare, dense = total(weights), hidden * hidden + hidden
    heads = (
        Head(name="masked language model", parameters=bare + dense + 2 * hidden + vocab),
        Head(name="2-class head", parameters=bare + dense + 2 * hidden + 2),
    )
    found = _encoder(c, "DistilBERT", weights)
    sinusoidal = c.flag("sinusoidal_pos_embds", False)
    return replace(found, heads=heads, position="sinusoidal" if sinusoidal else "learned")


def _roberta(c: Config) -> Architecture:
    """As BERT, with a byte-level BPE and two positions before the first that are never used."""
    found = _bert(c)
    hidden, bare = c.size("hidden_size"), found.parameters
    dense = hidden * hidden + hidden
    heads = (
        Head(name="masked language model", parameters=bare + 2 * hidden + c.size("vocab_size")),
        Head(name="2-class head", parameters=bare + 2 * hidden + 2),
    )
    assert dense > 0
    context = (found.context or 0) - 2
    return replace(found, family="RoBERTa", heads=heads, tokenizer="BPE", context=context if context > 0 else None)


def _xlm_roberta(c: Config) -> Architecture:
    return replace(_roberta(c), family="XLM-RoBERTa", tokenizer="unigram")


def _albert(c: Config) -> Architecture:
    """One group of layers is stored and used in all: small memory, not small computing."""
    hidden, n_layers, size = c.size("hidden_size"), c.layers("num_hidden_layers"), c.size("embedding_size")
    n_stored = min(n_layers, (c.maybe("num_hidden_groups") or 1) * (c.maybe("inner_group_num") or 1))
    shared = [
        replace(w, multiplied=n_layers if w.multiplied else 0)
        for w in _layer(hidden, c.size("intermediate_size"), n_stored)
    ]
    # Each of the four attention matrices is stored once and used n_layers times.
    shared = [replace(w, multiplied=w.multiplied * w.stored // n_stored) for w in shared]
    weights = [
        *_embeddings(c, size, types=c.maybe("type_vocab_size") or 2),
        *linear("embeddings", "projection", size, hidden, bias=True, side="encoder"),
        *shared,
        *_pooler(hidden),
    ]
    note = f"{n_stored} layer(s) stored and used {n_layers} times: small memory, not small computing"
    return replace(_encoder(c, "ALBERT", weights), tokenizer="unigram", notes=(note,))


def _mobilebert(c: Config) -> Architecture:
    """Thin blocks between bottlenecks (arXiv 2004.02984), tokens embedded from three neighbours."""
    hidden, thin, d_ff = c.size("hidden_size"), c.size("intra_bottleneck_size"), c.size("intermediate_size")
    n, size, n_blocks = c.layers("num_hidden_layers"), c.size("embedding_size"), c.size("num_feedforward_networks")
    found: list[Weights] = [
        table("token embeddings", c.size("vocab_size"), size, side="encoder"),
        table("position embeddings", c.size("max_position_embeddings"), hidden, side="encoder"),
        table("token types", c.maybe("type_vocab_size") or 2, hidden, side="encoder"),
        *linear("embeddings", "transformation", 3 * size, hidden, bias=True, side="encoder"),
        norm(hidden, 1, bias=True, side="encoder"),
        *linear("attention", "query and key", thin, thin, 2 * n, bias=True, side="encoder"),
        *linear("attention", "value", hidden, thin, n, bias=True, side="encoder"),
        *linear("attention", "output", thin, thin, n, bias=True, side="encoder"),
        *linear("feed-forward", "up", thin, d_ff, n * n_blocks, bias=True, side="encoder"),
        *linear("feed-forward", "down", d_ff, thin, n * n_blocks, bias=True, side="encoder"),
        *linear("other", "bottleneck in", hidden, thin, 2 * n, bias=True, side="encoder"),
        *linear("other", "bottleneck out", thin, hidden, n, bias=True, side="encoder"),
        norm(thin, n * (1 + n_blocks + 2), bias=True, side="encoder"),
        norm(hidden, n, bias=True, side="encoder"),
    ]
    if c.flag("classifier_activation", True):
        found += _pooler(hidden)
    built = _encoder(c, "MobileBERT", found)
    n_heads = c.size("num_attention_heads")
    head_dim = max(1, thin // n_heads)
    return replace(built, head_dim=head_dim, attention=_attention(n, n_heads, head_dim))


ENCODERS: dict[str, Callable[[Config], Architecture]] = {
    "bert": _bert,
    "distilbert": _distilbert,
    "roberta": _roberta,
    "xlm-roberta": _xlm_roberta,
    "albert": _albert,
    "mobilebert": _mobilebert,
}
