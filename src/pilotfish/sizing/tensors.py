"""What a weights file holds, by its header alone: tensors with name, shape, type and bytes.

Readers of formats (`gguf.py`, `safetensors_header.py`) fill these. Which part of a model a tensor belongs to is read
from its name; a name that says nothing is counted as "other", never guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from pilotfish.sizing.architecture import PARTS, Part

_NAMES: tuple[tuple[Part, str], ...] = (
    ("norms", r"norm|(^|[._])ln([._]|_?\d|$)|layer_?norm|(^|\.)ln_f"),
    ("head", r"lm_head|(^|\.)output\.weight$|classifier|pooler|^cls\.|score\.weight|(^|\.)cls\.|embed_out"),
    ("embeddings", r"embed|(^|[._])wte|(^|[._])wpe|token_embd|position_embd|token_types|shared\.weight"),
    ("attention", r"attn|attention|[qkvo]_proj|relative_attention"),
    ("feed-forward", r"mlp|ffn|expert|feed_forward|intermediate|fc\d|c_fc|DenseReluDense|output\.dense|router|gate"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One stored tensor. `is_weight` is False for integer buffers, which are no parameters."""

    name: str
    shape: tuple[int, ...]
    type: str
    n_bytes: int
    is_weight: bool = True

    @property
    def elements(self) -> int:
        """Values in it."""
        found = 1
        for size in self.shape:
            found *= size
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The tensors of one model on disk; `missing` names shards that are not there."""

    tensors: tuple[Tensor, ...]
    missing: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Values of all tensors but integer buffers."""
        return sum(t.elements for t in self.tensors if t.is_weight)

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.n_bytes for t in self.tensors)

    @property
    def bits_per_weight(self) -> float | None:
        """Bytes over parameters, None where there are none."""
        return 8 * self.n_bytes / self.parameters if self.parameters else None

    def by_part(self) -> dict[Part, int]:
        """Parameters by part, empty ones left out."""
        counts: Counter[Part] = Counter()
        for tensor in self.tensors:
            if tensor.is_weight:
                counts[part_of(tensor.name)] += tensor.elements
        return {part: counts[part] for part in PARTS if counts[part]}

    def by_type(self) -> dict[str, int]:
        """Parameters by number type, most first."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[tensor.type] += tensor.elements
        return dict(counts.most_common())


def part_of(name: str) -> Part:
    """The part a tensor of that name belongs to."""
    if re.search(r"attention\.output\.dense", name):
        return "attention"
    for part, pattern in _NAMES:
        if re.search(pattern, name, re.IGNORECASE):
            return part
    return "other"
