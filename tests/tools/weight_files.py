"""Headers of weight files, written byte by byte: GGUF and safetensors, with no weights behind them unless asked for."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1}


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, Sequence[int]]]) -> Path:
    """A file of zeros with these tensors: name to type and shape."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, shape) in tensors.items():
        size = _WIDTHS[kind]
        for n in shape:
            size *= n
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


def gguf(values: Mapping[str, Any], tensors: Mapping[str, tuple[int, Sequence[int]]]) -> bytes:
    """A header with these key-values and tensors: name to type number and shape, innermost dimension first."""
    found = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    for key, value in values.items():
        found += _text(key) + _value(value)
    for name, (kind, shape) in tensors.items():
        found += _text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        found += struct.pack("<IQ", kind, 0)
    return found


def llama_gguf(n_layers: int = 2, hidden: int = 64, d_ff: int = 256, vocab: int = 96) -> bytes:
    """A small Llama: 4 heads, 2 of them for keys and values; Q4_K matrices, F32 norms, tied embeddings."""
    values = {
        "general.architecture": "llama",
        "general.name": "Tiny",
        "llama.block_count": n_layers,
        "llama.embedding_length": hidden,
        "llama.feed_forward_length": d_ff,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.context_length": 512,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"token {i}" for i in range(vocab)],
        "tokenizer.ggml.scores": [0.5] * vocab,
    }
    tensors: dict[str, tuple[int, Sequence[int]]] = {"token_embd.weight": (12, (hidden, vocab))}
    for i in range(n_layers):
        tensors |= {
            f"blk.{i}.attn_norm.weight": (0, (hidden,)),
            f"blk.{i}.attn_q.weight": (12, (hidden, hidden)),
            f"blk.{i}.attn_k.weight": (12, (hidden, hidden // 2)),
            f"blk.{i}.attn_v.weight": (12, (hidden, hidden // 2)),
            f"blk.{i}.attn_output.weight": (12, (hidden, hidden)),
            f"blk.{i}.ffn_norm.weight": (0, (hidden,)),
            f"blk.{i}.ffn_gate.weight": (12, (hidden, d_ff)),
            f"blk.{i}.ffn_up.weight": (12, (hidden, d_ff)),
            f"blk.{i}.ffn_down.weight": (12, (d_ff, hidden)),
        }
    tensors["output_norm.weight"] = (0, (hidden,))
    tensors["rope_freqs.weight"] = (0, (8,))
    return gguf(values, tensors)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list):
        kind, items = (8, [_text(item) for item in value]) if isinstance(value[0], str) else (6, [])
        items = items or [struct.pack("<f", item) for item in value]
        return struct.pack("<IIQ", 9, kind, len(value)) + b"".join(items)
    return struct.pack("<II", 4, value)
