"""From a GGUF header to an architecture: the weights are the file's own tensors, attention comes from its keys.

A shape whose keys do not tell how attention works (state-space models, encoder-decoders) is unknown: its tensors are
counted, and nothing is computed from them.
"""

from __future__ import annotations

from collections import Counter

from pilotfish.sizing.architecture import LANGUAGE_HEAD, Architecture, Attention, Weights
from pilotfish.sizing.gguf import Array, Header
from pilotfish.sizing.reading import MAX_LAYERS, MAX_SIZE
from pilotfish.sizing.tensors import Tensor, part_of

ENCODERS = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "modern-bert", "eurobert"})
PATTERNS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2}
"""Each so-many-th layer sees everything, the others the window, where the file does not say it."""
TOKENIZERS = {"gpt2": "BPE", "llama": "BPE (SentencePiece)", "bert": "WordPiece", "t5": "unigram"}
_TABLES = ("token_embd.weight", "position_embd.weight", "token_types.weight")


def architecture(header: Header) -> Architecture | None:
    """The architecture, None where the keys do not tell it."""
    name = header.values.get("general.architecture")
    if not isinstance(name, str):
        return None
    n_layers, n_heads = _whole(header, f"{name}.block_count"), _whole(header, f"{name}.attention.head_count")
    hidden = _whole(header, f"{name}.embedding_length")
    if not n_layers or n_layers > MAX_LAYERS or not n_heads or not hidden or name.startswith("t5"):
        return None
    attention = _attention(header, name, n_layers, n_heads, hidden)
    first = attention[0]
    return Architecture(
        family=name,
        kind="encoder" if name in ENCODERS else "decoder",
        n_layers=n_layers,
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=_whole(header, f"{name}.attention.head_count_kv") or n_heads,
        head_dim=first.head_dim,
        d_ff=_whole(header, f"{name}.feed_forward_length"),
        vocab=_vocab(header),
        context=_whole(header, f"{name}.context_length"),
        position=_position(header, name),
        weights=_weights(header, name),
        attention=attention,
        tokenizer=TOKENIZERS.get(str(header.values.get("tokenizer.ggml.model"))),
    )


def _attention(header: Header, name: str, n_layers: int, n_heads: int, hidden: int) -> tuple[Attention, ...]:
    rank, rope = _whole(header, f"{name}.attention.kv_lora_rank"), _whole(header, f"{name}.rope.dimension_count")
    head_dim = _whole(header, f"{name}.attention.key_length") or max(1, hidden // n_heads)
    value_dim = _whole(header, f"{name}.attention.value_length") or head_dim
    is_encoder = name in ENCODERS

    def some(n: int, n_kv: int, window: int | None) -> Attention:
        cached = 0 if is_encoder else rank + rope if rank and rope else n_kv * (head_dim + value_dim)
        return Attention(
            n_layers=n,
            n_heads=n_heads,
            head_dim=head_dim,
            value_dim=value_dim,
            cached=cached,
            window=window,
            is_causal=not is_encoder,
            side="encoder" if is_encoder else "decoder",
            kind="sliding" if window else "full",
        )

    counts = Counter(zip(_kv_heads(header, name, n_layers, n_heads), _windows(header, name, n_layers), strict=True))
    return tuple(some(n, n_kv, window) for (n_kv, window), n in counts.items())


def _kv_heads(header: Header, name: str, n_layers: int, n_heads: int) -> list[int]:
    found = header.values.get(f"{name}.attention.head_count_kv")
    if isinstance(found, tuple) and len(found) == n_layers and all(0 <= n <= MAX_SIZE for n in found):
        return list(found)
    return [_whole(header, f"{name}.attention.head_count_kv") or n_heads] * n_layers


def _windows(header: Header, name: str, n_layers: int) -> list[int | None]:
    """The window of each layer: by the file's own pattern, else the family's, else everywhere."""
    window = _whole(header, f"{name}.attention.sliding_window")
    pattern = header.values.get(f"{name}.attention.sliding_window_pattern")
    if not window:
        return [None] * n_layers
    if isinstance(pattern, tuple) and len(pattern) == n_layers:
        return [window if is_windowed else None for is_windowed in pattern]
    step = PATTERNS.get(name, 0)
    return [None if step and (i + 1) % step == 0 else window for i in range(n_layers)]


def _weights(header: Header, name: str) -> tuple[Weights, ...]:
    n_chosen = _whole(header, f"{name}.expert_used_count")
    found = [_weight(t, n_chosen) for t in header.stored.tensors if t.is_weight]
    names = {t.name: t for t in header.stored.tensors}
    embedded = names.get("token_embd.weight")
    if embedded and len(embedded.shape) == 2 and "output.weight" not in names and name not in ENCODERS:
        rows, cols = embedded.shape
        found.append(Weights(part="head", name=LANGUAGE_HEAD, rows=rows, cols=cols, stored=0, active=0, multiplied=1))
    return tuple(found)


def _weight(tensor: Tensor, n_chosen: int | None) -> Weights:
    shape, part = tensor.shape, part_of(tensor.name)
    is_experts = len(shape) == 3 and "_exps" in tensor.name
    n = shape[2] if is_experts else 1
    active = min(n, n_chosen) if is_experts and n_chosen else n
    rows = shape[0] if shape else 1
    is_matrix = len(shape) >= 2 and tensor.name not in _TABLES
    return Weights(
        part=part,
        name=LANGUAGE_HEAD if tensor.name == "output.weight" else tensor.name,
        rows=rows,
        cols=tensor.elements // (rows * n),
        stored=n,
        active=active,
        multiplied=active if is_matrix else 0,
    )


def _vocab(header: Header) -> int | None:
    found = header.values.get("tokenizer.ggml.tokens")
    if isinstance(found, Array):
        return found.length
    shape = next((t.shape for t in header.stored.tensors if t.name == "token_embd.weight"), ())
    return shape[1] if len(shape) == 2 else None


def _position(header: Header, name: str) -> str:
    if any(t.name == "position_embd.weight" for t in header.stored.tensors):
        return "learned"
    if name in ("bloom", "mpt", "jina-bert-v2"):
        return "ALiBi"
    return "rotary"


def _whole(header: Header, key: str) -> int | None:
    """A size from 1; of one for each layer, the largest."""
    found = header.values.get(key)
    if isinstance(found, tuple):
        found = max(found, default=0)
    is_size = isinstance(found, int) and not isinstance(found, bool) and 0 < found <= MAX_SIZE
    return found if is_size and isinstance(found, int) else None
