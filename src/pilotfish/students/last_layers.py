"""The last layers of a sentence encoder as a torch module, over what the layers below them say of each text.

The same mathematics as the graph that `encoder_graph.py` writes, with dropout while they learn; how they learn is
`finetune.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.core.errors import MissingExtraError
from pilotfish.students.activations import Activations
from pilotfish.students.encoder_files import Architecture, layer_weights

try:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError("train", error.name or "torch") from error

DROPOUT = 0.1

_EMBED_BATCH = 64


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


def embed(
    activations: Activations,
    rows: Sequence[int] | NDArray[np.intp],
    layers: Layers,
    weights: Mapping[str, NDArray[Any]],
) -> NDArray[np.float32]:
    """The embeddings of these rows, each of length 1, by the layers with these `weights`."""
    top = LastLayers(layers)
    top.load_state_dict(_to_state(weights))
    return embed_all(top, activations, rows)


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


class LastLayers(nn.Module):  # type: ignore[misc]
    """The last layers and the pooling."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {str(n): _Layer(layer_weights(layers.weights, n), layers.architecture) for n in layers.numbers}
        )
        self.is_mean_pooled = layers.architecture.is_mean_pooled

    def states(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The last states of each token [n, tokens, dimension], from those that the layers below made of it."""
        for layer in self.layers.values():
            hidden = layer(hidden, mask)
        return hidden

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Embeddings [n, dimension] of length 1, from [n, tokens, dimension] and which of the tokens are a text's."""
        hidden = self.states(hidden, mask)
        if self.is_mean_pooled:
            weight = mask[..., None].to(hidden.dtype)
            pooled = (hidden * weight).sum(1) / weight.sum(1)
        else:
            pooled = hidden[:, 0]
        return functional.normalize(pooled, dim=-1)


def embed_all(top: LastLayers, activations: Activations, rows: Sequence[int] | NDArray[np.intp]) -> NDArray[np.float32]:
    """The embeddings of these rows, each of length 1."""
    top.eval()
    order = sorted(range(len(rows)), key=lambda place: activations.length(int(rows[place])))
    width = next(iter(top.parameters())).shape[-1]
    found = np.empty((len(rows), width), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), _EMBED_BATCH):
            places = order[start : start + _EMBED_BATCH]
            found[places] = top(*padded(activations, [int(rows[place]) for place in places])).numpy()
    return found


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


def _to_state(weights: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """The other way round."""
    found = {}
    for name, array in weights.items():
        _, _, layer, rest = name.split(".", 3)
        found[f"layers.{layer}.weights.{rest.replace('.', '/')}"] = torch.tensor(array)
    return found
