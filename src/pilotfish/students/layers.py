"""The last layers of a BERT encoder as a torch module that learns, over what the layers below say of each text.

Which of them learn, how and what from is known to `finetune.py` and `finetune_spans.py`; the graph that serves is
`encoder_graph.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.core.errors import MissingExtraError
from pilotfish.students.activations import Activations
from pilotfish.students.encoder_graph import Architecture, layer_weights

try:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("train", error.name or "torch") from error

DROPOUT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The encoder's layers to learn: its architecture, its weights by name, and how many of the last ones."""

    architecture: Architecture
    weights: Mapping[str, NDArray[Any]]
    n_layers: int

    @property
    def numbers(self) -> range:
        """Of the layers that learn."""
        return range(self.architecture.n_layers - self.n_layers, self.architecture.n_layers)


class _Layer(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """One transformer layer of a BERT encoder."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], architecture: Architecture) -> None:
        super().__init__()
        # Names of parameters may hold no dots.
        named = {name.replace(".", "/"): nn.Parameter(torch.tensor(tensor)) for name, tensor in weights.items()}
        self.weights = nn.ParameterDict(named)
        self.architecture = architecture

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        n, length, width = hidden.shape
        heads = self.architecture.n_heads
        query, key, value = (
            self._linear(f"attention/self/{name}", hidden).view(n, length, heads, width // heads).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        mixed = mixed.transpose(1, 2).reshape(n, length, width)
        hidden = self._added("attention/output", mixed, hidden)
        inner = functional.gelu(self._linear("intermediate/dense", hidden), approximate=self.architecture.gelu)
        return self._added("output", inner, hidden)

    def _added(self, name: str, value: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        dropped = functional.dropout(self._linear(f"{name}/dense", value), DROPOUT, self.training)
        norm = f"{name}/LayerNorm"
        scale, bias = self.weights[f"{norm}/weight"], self.weights[f"{norm}/bias"]
        return functional.layer_norm(dropped + hidden, hidden.shape[-1:], scale, bias, self.architecture.epsilon)

    def _linear(self, name: str, value: torch.Tensor) -> torch.Tensor:
        return functional.linear(value, self.weights[f"{name}/weight"], self.weights[f"{name}/bias"])


class Top(nn.Module):  # type: ignore[misc]
    """The last layers and the pooling."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {str(n): _Layer(layer_weights(layers.weights, n), layers.architecture) for n in layers.numbers}
        )
        self.is_mean_pooled = layers.architecture.is_mean_pooled

    def states(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The last states of each token."""
        for layer in self.layers.values():
            hidden = layer(hidden, mask)
        return hidden

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The embeddings, each of length 1."""
        hidden = self.states(hidden, mask)
        if self.is_mean_pooled:
            weight = mask[..., None].to(hidden.dtype)
            pooled = (hidden * weight).sum(1) / weight.sum(1)
        else:
            pooled = hidden[:, 0]
        return functional.normalize(pooled, dim=-1)


def padded(activations: Activations, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The activations of some rows as one batch, and which of its tokens are theirs."""
    length = max(map(activations.length, rows))
    batch = torch.zeros(len(rows), length, activations.values.shape[1])
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for place, row in enumerate(rows):
        own = activations[row]
        batch[place, : len(own)] = torch.from_numpy(own.astype(np.float32))
        mask[place, : len(own)] = True
    return batch, mask


def to_weights(state: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    """`layers.4.weights.attention/self/query/weight` as `encoder.layer.4.attention.self.query.weight`."""
    found = {}
    for name, tensor in state.items():
        _, layer, _, rest = name.split(".", 3)
        found[f"encoder.layer.{layer}.{rest.replace('/', '.')}"] = tensor.detach().numpy().copy()
    return found


def to_state(weights: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """The other way round."""
    found = {}
    for name, array in weights.items():
        _, _, layer, rest = name.split(".", 3)
        found[f"layers.{layer}.weights.{rest.replace('.', '/')}"] = torch.tensor(array)
    return found
