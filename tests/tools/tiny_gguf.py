"""A language model of some 200 kB in llama.cpp's file format (GGUF), written by hand: random weights, bytes as tokens.

What it says means nothing, but a real server serves it with all that such a server does. One dimension of the
embeddings is constant, and the output weights of what is no plain text are negative there: it says letters only, and
never ends before it is told to.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

SIZE, N_LAYERS, N_HEADS, N_CONTEXT = 32, 2, 2, 32768
_ALIGNMENT = 32
_TEMPLATE = """{% if tools %}<|im_start|>system
Tools: {{ tools | tojson }}
Call one as <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or "" }}{% for call in message.tool_calls or [] %}<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# The numbers of GGUF's types.
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_F32 = 0


def write_gguf(
    path: Path, *, seed: int = 0, n_layers: int = N_LAYERS, size: int = SIZE, tensors: dict[str, Any] | None = None
) -> Path:
    """Write the model to `path`, which is returned. `size` is that of its embeddings; with `tensors` those are it."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tensors = tensors or _tensors(np.random.default_rng(seed), tokens, n_layers, size)
    values = _values(tokens, n_layers, size)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(_text(name) + _value(kind, value) for name, (kind, value) in values.items())
    data = b""
    for name, array in tensors.items():
        shape = array.shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _F32, len(data))
        data += _padded(array.astype("<f4").tobytes())
    path.write_bytes(_padded(head) + data)
    return path


def _values(tokens: list[str], n_layers: int, size: int) -> dict[str, tuple[int, Any]]:
    kinds = [_UNKNOWN, _CONTROL, _CONTROL] + [_BYTE] * 256
    return {
        "general.architecture": (_STRING, "llama"),
        "general.alignment": (_UINT32, _ALIGNMENT),
        "llama.context_length": (_UINT32, N_CONTEXT),
        "llama.embedding_length": (_UINT32, size),
        "llama.block_count": (_UINT32, n_layers),
        "llama.feed_forward_length": (_UINT32, 2 * size),
        "llama.attention.head_count": (_UINT32, N_HEADS),
        "llama.attention.layer_norm_rms_epsilon": (_FLOAT32, 1e-5),
        "tokenizer.ggml.model": (_STRING, "llama"),
        "tokenizer.ggml.tokens": (_ARRAY, (_STRING, tokens)),
        "tokenizer.ggml.scores": (_ARRAY, (_FLOAT32, [0.0] * len(tokens))),
        "tokenizer.ggml.token_type": (_ARRAY, (_INT32, kinds)),
        "tokenizer.ggml.bos_token_id": (_UINT32, 1),
        "tokenizer.ggml.eos_token_id": (_UINT32, 2),
        "tokenizer.ggml.add_space_prefix": (_BOOL, False),
        "tokenizer.chat_template": (_STRING, _TEMPLATE),
    }


def _tensors(rng: np.random.Generator, tokens: list[str], n_layers: int, size: int) -> dict[str, Any]:
    def weights(*shape: int) -> Any:
        return rng.normal(0, 0.2, shape)

    embeddings, output = weights(len(tokens), size), weights(len(tokens), size)
    embeddings[:, 0] = 4.0
    first_byte = len(tokens) - 256
    is_plain = [first_byte + 32 <= number < first_byte + 127 for number in range(len(tokens))]
    output[:, 0] = np.where(is_plain, 0.0, -5.0)
    tensors = {"token_embd.weight": embeddings, "output.weight": output, "output_norm.weight": np.ones(size)}
    for layer in range(n_layers):
        block = {f"attn_{name}.weight": weights(size, size) for name in ("q", "k", "v", "output")}
        block |= {"ffn_gate.weight": weights(2 * size, size), "ffn_up.weight": weights(2 * size, size)}
        block |= {"ffn_down.weight": weights(size, 2 * size)}
        block |= {"attn_norm.weight": np.ones(size), "ffn_norm.weight": np.ones(size)}
        tensors |= {f"blk.{layer}.{name}": array for name, array in block.items()}
    return tensors


def _value(kind: int, value: Any) -> bytes:
    return struct.pack("<I", kind) + _bare(kind, value)


def _bare(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _text(value)
    if kind == _ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_bare(inner, item) for item in items)
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f", _BOOL: "<?"}[kind], value)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
