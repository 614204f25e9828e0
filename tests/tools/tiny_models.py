"""Sentence encoders of a few kilobytes with random weights, made in milliseconds, in the published layout.

They are real BERT models (safetensors, configuration, tokenizer), only small and untrained, so tests run
the very code that runs the large one, without a download. Same seed, same bytes.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from pilotfish.specialists.encoder import Encoder
from pilotfish.students.encoder_cache import open_encoder

HIDDEN, LAYERS, HEADS, POSITIONS = 32, 2, 4, 64
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def write_tiny_bert(folder: Path, *, pooling: str = "mean", activation: str = "gelu", seed: int = 0) -> Path:
    """A BERT encoder in `folder`, `pooling` "mean" or "cls"; the result is the folder."""
    (folder / "1_Pooling").mkdir(parents=True)
    vocabulary = [*_SPECIAL, *string.digits, *string.ascii_lowercase, *string.punctuation]
    vocabulary += [f"##{character}" for character in string.digits + string.ascii_lowercase]
    config = {
        "model_type": "bert",
        "hidden_act": activation,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * HIDDEN,
        "max_position_embeddings": POSITIONS,
        "layer_norm_eps": 1e-12,
    }
    modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": HIDDEN, **modes}))
    save_file(_weights(len(vocabulary), np.random.default_rng(seed)), folder / "model.safetensors")
    _tokenizer(vocabulary).save(str(folder / "tokenizer.json"))
    return folder


def open_tiny_encoder(folder: Path) -> Encoder:
    """The int8 encoder of a tiny BERT, built below `folder`."""
    return open_encoder(folder / "cache", str(write_tiny_bert(folder / "tiny-bert")))


def _weights(n_tokens: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (n_tokens, HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}."
        linear = {f"attention.self.{part}": (HIDDEN, HIDDEN) for part in ("query", "key", "value")}
        linear |= {
            "attention.output.dense": (HIDDEN, HIDDEN),
            "intermediate.dense": (2 * HIDDEN, HIDDEN),
            "output.dense": (HIDDEN, 2 * HIDDEN),
        }
        for name, shape in linear.items():
            shapes |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{prefix}{name}.weight": (HIDDEN,), f"{prefix}{name}.bias": (HIDDEN,)}
    return {name: rng.normal(scale=0.3, size=shape).astype(np.float32) for name, shape in shapes.items()}


def _tokenizer(vocabulary: list[str]) -> Tokenizer:
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", numbers["[SEP]"]), ("[CLS]", numbers["[CLS]"]))
    # As published tokenizers do; the encoder must undo both.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    return tokenizer
