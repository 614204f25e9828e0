"""What a model is made of: weights, attention, and the sums over them.

A model is a list of `Weights` (equal tensors that are counted together) and of `Attention` (equal layers). One list
gives parameters, active parameters, bytes and multiplications alike, so that they cannot contradict each other. Where
the list comes from (a config, a GGUF header, the catalogue) is not known here. Standard library only; all counts are
exact integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Part = Literal["embeddings", "attention", "feed-forward", "norms", "head", "other"]
PARTS: tuple[Part, ...] = ("embeddings", "attention", "feed-forward", "norms", "head", "other")
Kind = Literal["encoder", "decoder", "encoder-decoder"]
Side = Literal["encoder", "decoder"]

LANGUAGE_HEAD = "language model head"
"""The one matrix of the head that a server runs only for the tokens it samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Equal tensors. `stored` copies take memory, `active` ones are read for one token, `multiplied` times one of
    them is multiplied with a token's vector (0 for a look-up, a bias or a norm). Tied weights are stored once and
    multiplied where they are used; shared layers are stored once and multiplied many times."""

    part: Part
    name: str
    rows: int
    cols: int = 1
    stored: int = 1
    active: int = 1
    multiplied: int = 0
    side: Side = "decoder"
    is_per_sequence: bool = False

    @property
    def elements(self) -> int:
        """Parameters in one copy."""
        return self.rows * self.cols


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Equal attention layers. `cached` is the number of values that one token adds to one layer's cache (0 where
    nothing is cached), `window` the number of keys a token sees at most."""

    n_layers: int
    n_heads: int
    head_dim: int
    value_dim: int
    cached: int
    window: int | None = None
    is_causal: bool = True
    is_cross: bool = False
    side: Side = "decoder"
    kind: Literal["full", "sliding", "sparse", "linear", "LSH"] = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The same body under another head: `parameters` is the total with it."""

    name: str
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model's shape. Sizes that its source does not tell are None; `context` is None where nothing limits it."""

    family: str
    kind: Kind
    n_layers: int | None
    hidden: int | None
    n_heads: int | None
    n_kv_heads: int | None
    head_dim: int | None
    d_ff: int | None
    vocab: int | None
    context: int | None
    position: str
    weights: tuple[Weights, ...]
    attention: tuple[Attention, ...]
    heads: tuple[Head, ...] = ()
    tokenizer: str | None = None
    n_encoder_layers: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        return total(self.weights)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token needs: in a mixture of experts those of the chosen experts only."""
        return sum(w.elements * w.active for w in self.weights)

    @property
    def is_mixture(self) -> bool:
        """Whether a token meets only some of the experts."""
        return any(w.active < w.stored for w in self.weights)

    def by_part(self) -> dict[Part, int]:
        """Parameters by the part they belong to, empty parts left out."""
        counts = {part: total(w for w in self.weights if w.part == part) for part in PARTS}
        return {part: count for part, count in counts.items() if count}

    def attention_kinds(self) -> str:
        """`full`, or `sliding (4,096) in 21 of 42 layers, full in the others`."""
        own = [a for a in self.attention if not a.is_cross]
        limited = [a for a in own if a.kind != "full"]
        n_all, n_limited = (sum(a.n_layers for a in some) for some in (own, limited))
        if not own:
            return "unknown"
        if not limited:
            return "full"
        kinds = " and ".join(dict.fromkeys(a.kind + ("" if a.window is None else f" ({a.window:,})") for a in limited))
        return kinds if n_all == n_limited else f"{kinds} in {n_limited} of {n_all} layers, full in the others"


def total(weights: Iterable[Weights]) -> int:
    """Parameters of these weights, each stored copy once."""
    return sum(w.elements * w.stored for w in weights)


def linear(
    part: Part,
    name: str,
    n_in: int,
    n_out: int,
    copies: int = 1,
    *,
    bias: bool = False,
    side: Side = "decoder",
) -> tuple[Weights, ...]:
    """`copies` matrices that every token is multiplied with, with or without a bias."""
    matrix = Weights(
        part=part,
        name=name,
        rows=n_in,
        cols=n_out,
        stored=copies,
        active=copies,
        multiplied=copies,
        side=side,
    )
    return (matrix, vector(part, f"{name} bias", n_out, copies, side=side)) if bias else (matrix,)


def vector(part: Part, name: str, size: int, copies: int = 1, *, side: Side = "decoder") -> Weights:
    """`copies` vectors that nothing is multiplied with as a matrix: biases, gains of norms."""
    return Weights(part=part, name=name, rows=size, stored=copies, active=copies, side=side)


def table(name: str, rows: int, cols: int, *, side: Side = "decoder") -> Weights:
    """A table of embeddings that is looked up."""
    return Weights(part="embeddings", name=name, rows=rows, cols=cols, side=side)


def norm(size: int, copies: int, *, bias: bool, side: Side = "decoder") -> Weights:
    """`copies` norms: a gain and, in a LayerNorm, a shift."""
    return vector("norms", "norm", size * (2 if bias else 1), copies, side=side)


def output(vocab: int, hidden: int, *, tied: bool, bias: bool = False) -> tuple[Weights, ...]:
    """The matrix from the last hidden state to the vocabulary; tied, it is the embedding table, stored there."""
    n = 0 if tied else 1
    matrix = Weights(part="head", name=LANGUAGE_HEAD, rows=hidden, cols=vocab, stored=n, active=n, multiplied=1)
    return (matrix, vector("head", "head bias", vocab)) if bias else (matrix,)
