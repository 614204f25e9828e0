"""What the files of a BERT-family sentence encoder say: its architecture and its tensors.

Who makes something of them is `encoder_graph.py`, which writes a graph, and `last_layers.py`, which learns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.core.errors import MissingExtraError, UserError

try:
    import numpy as np
    from numpy.typing import NDArray
    from safetensors import SafetensorError
    from safetensors.numpy import load_file
except ImportError as error:
    raise MissingExtraError("learn", error.name or "safetensors") from error

Array = NDArray[Any]

_ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What the configuration files say about a BERT-family encoder."""

    n_layers: int
    n_heads: int
    dimension: int
    max_tokens: int
    epsilon: float
    gelu: str
    is_mean_pooled: bool


def read_architecture(folder: Path) -> Architecture:
    """The architecture in `config.json` and `1_Pooling/config.json` (mean pooling where there is none).

    Raises `UserError` for what this graph cannot express.
    """
    config = _read_json(folder / "config.json")
    pooling_file = folder / "1_Pooling" / "config.json"
    pooling = _read_json(pooling_file) if pooling_file.is_file() else {"pooling_mode_mean_tokens": True}
    modes = sorted(key for key, value in pooling.items() if key.startswith("pooling_mode") and value is True)
    modules_file = folder / "modules.json"
    modules = json.loads(modules_file.read_text()) if modules_file.is_file() else []
    wrong = {
        "model_type": config.get("model_type") != "bert" and config.get("model_type"),
        "hidden_act": config.get("hidden_act") not in _ACTIVATIONS and config.get("hidden_act"),
        "position_embedding_type": config.get("position_embedding_type", "absolute") != "absolute",
        "pooling": modes not in (["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]) and modes,
        "a Dense module": any(str(module.get("type", "")).endswith(".Dense") for module in modules),
    }
    found = [f"{name} {value}" for name, value in wrong.items() if value is not False]
    if found:
        raise UserError(
            f"The encoder in {folder.name!r} is not of a kind that can be written: {', '.join(found)}.",
            hint="Use a BERT-family sentence encoder with mean or cls pooling.",
        )
    return Architecture(
        n_layers=config["num_hidden_layers"],
        n_heads=config["num_attention_heads"],
        dimension=config["hidden_size"],
        max_tokens=config["max_position_embeddings"],
        epsilon=config["layer_norm_eps"],
        gelu=_ACTIVATIONS[config["hidden_act"]],
        is_mean_pooled=modes == ["pooling_mode_mean_tokens"],
    )


def read_weights(folder: Path) -> dict[str, Array]:
    """The encoder's tensors by name, float32, without a `bert.` before it. Raises `UserError` where there are none."""
    try:
        tensors = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise UserError(f"The weights in {folder.name!r} cannot be read: {error}", hint="Fetch them again.") from error
    return {name.removeprefix("bert."): _float32(tensor) for name, tensor in tensors.items()}


def layer_weights(weights: Mapping[str, Array], layer: int) -> dict[str, Array]:
    """Those of one layer, named without it."""
    prefix = f"encoder.layer.{layer}."
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _float32(tensor: Array) -> Array:
    return tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path.name} of the encoder cannot be read: {error}", hint="Fetch the weights again."
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"{path.name} of the encoder is no JSON object.", hint="Fetch the weights again.")
    return found
