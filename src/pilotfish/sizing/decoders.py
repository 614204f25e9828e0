"""The dense decoder families: what each one's configuration means as options of the skeleton.

Each function reads the keys that the family's own `config.json` uses, with that family's defaults. Totals were checked
against the models that transformers 5.23 builds from the same configurations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilotfish.sizing.reading import Config
from pilotfish.sizing.skeleton import Skeleton

ROTARY, LEARNED, ALIBI = "rotary", "learned", "ALiBi"
BPE = "BPE"


def _base(c: Config) -> dict[str, Any]:
    """The sizes under the names that most families share."""
    hidden, n_heads = c.size("hidden_size", "n_embed", "d_model"), c.size("num_attention_heads", "n_head")
    return {
        "n_layers": c.layers("num_hidden_layers", "n_layer"),
        "hidden": hidden,
        "n_heads": n_heads,
        "n_kv_heads": c.maybe("num_key_value_heads") or n_heads,
        "head_dim": c.maybe("head_dim") or max(1, hidden // n_heads),
        "vocab": c.size("vocab_size"),
        "context": c.maybe("max_position_embeddings", "n_positions", "seq_length"),
        "tokenizer": BPE,
    }


def modern(c: Config, family: str, *, tied: bool = False, **options: Any) -> Skeleton:  # noqa: ANN401
    """RMS norms, rotary positions, gated feed-forward without bias: Llama and its kin."""
    base: dict[str, Any] = _base(c) | {"d_ff": c.size("intermediate_size"), "position": ROTARY, "family": family}
    return Skeleton(**(base | {"tied": c.flag("tie_word_embeddings", tied)} | options))


def windows(c: Config, n_layers: int, pattern: int = 1) -> dict[str, Any]:
    """The sliding window and in how many layers it applies: `layer_types` where given, else all but each
    `pattern`-th layer (all layers where `pattern` is 1)."""
    window = c.maybe("sliding_window")
    if window is None or not c.flag("use_sliding_window", True):
        return {}
    kinds = c.names("layer_types")
    if kinds:
        return {"window": window, "windowed_layers": min(n_layers, kinds.count("sliding_attention"))}
    return {"window": window, "windowed_layers": n_layers - (n_layers // pattern if pattern > 1 else 0)}


def _llama(c: Config) -> Skeleton:
    bias = c.flag("attention_bias", False)
    return modern(c, "Llama", qkv_bias=bias, out_bias=bias, ff_bias=c.flag("mlp_bias", False))


def _mistral(c: Config) -> Skeleton:
    return modern(c, "Mistral", **windows(c, c.layers("num_hidden_layers")))


def qwen_windows(c: Config) -> dict[str, Any]:
    """Qwen's window is off unless asked for, and then begins at layer `max_window_layers`."""
    if not c.flag("use_sliding_window", False):
        return {}
    n_layers = c.layers("num_hidden_layers")
    found = windows(c, n_layers)
    if found and not c.names("layer_types"):
        found["windowed_layers"] = max(0, n_layers - (c.maybe("max_window_layers") or 0))
    return found


def _qwen2(c: Config) -> Skeleton:
    return modern(c, "Qwen2", qkv_bias=True, **qwen_windows(c))


def _qwen3(c: Config) -> Skeleton:
    head_dim, bias = c.maybe("head_dim") or 128, c.flag("attention_bias", False)
    more = qwen_windows(c) | {"head_dim": head_dim, "qk_norm": 2 * head_dim}
    return modern(c, "Qwen3", qkv_bias=bias, out_bias=bias, **more)


def _gemma(c: Config) -> Skeleton:
    return modern(c, "Gemma", tied=True, head_dim=c.maybe("head_dim") or 256, tokenizer=BPE)


def _gemma2(c: Config) -> Skeleton:
    more = windows(c, c.layers("num_hidden_layers"), 2) | {"head_dim": c.maybe("head_dim") or 256}
    return modern(c, "Gemma 2", tied=True, norms_per_layer=4, **more)


def _gemma3(c: Config) -> Skeleton:
    head_dim = c.maybe("head_dim") or 256
    pattern = c.maybe("sliding_window_pattern", "_sliding_window_pattern") or 6
    more = windows(c, c.layers("num_hidden_layers"), pattern) | {"head_dim": head_dim, "qk_norm": 2 * head_dim}
    return modern(c, "Gemma 3", tied=True, norms_per_layer=4, **more)


def _phi3(c: Config) -> Skeleton:
    return modern(c, "Phi-3", **windows(c, c.layers("num_hidden_layers")))


def _smollm3(c: Config) -> Skeleton:
    return modern(c, "SmolLM3", tied=True)


def _classic(c: Config, family: str, d_ff: int, **options: Any) -> Skeleton:  # noqa: ANN401
    """LayerNorms, biases everywhere, a feed-forward block without gate: GPT-2 and its kin."""
    base: dict[str, Any] = _base(c) | {
        "family": family,
        "d_ff": d_ff,
        "is_gated": False,
        "qkv_bias": True,
        "out_bias": True,
        "ff_bias": True,
        "norm_bias": True,
    }
    return Skeleton(**(base | options))


def _gpt2(c: Config) -> Skeleton:
    hidden, n_heads = c.size("n_embd", "hidden_size"), c.size("n_head", "num_attention_heads")
    positions = c.size("n_positions", "n_ctx", "max_position_embeddings")
    return Skeleton(
        family="GPT-2",
        n_layers=c.layers("n_layer", "num_hidden_layers"),
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=max(1, hidden // n_heads),
        d_ff=c.maybe("n_inner") or 4 * hidden,
        vocab=c.size("vocab_size"),
        context=positions,
        n_positions=positions,
        position=LEARNED,
        tied=c.flag("tie_word_embeddings", True),
        is_gated=False,
        qkv_bias=True,
        out_bias=True,
        ff_bias=True,
        norm_bias=True,
        tokenizer=BPE,
    )


def _phi(c: Config) -> Skeleton:
    """Phi-1 to Phi-2: attention and feed-forward in parallel, one norm before both."""
    d_ff = c.maybe("intermediate_size") or 4 * c.size("hidden_size")
    tied = c.flag("tie_word_embeddings", False)
    return _classic(c, "Phi", d_ff, position=ROTARY, tied=tied, norms_per_layer=1, head_bias=True)


def _neox(c: Config) -> Skeleton:
    bias = c.flag("attention_bias", True)
    tied = c.flag("tie_word_embeddings", False)
    d_ff = c.size("intermediate_size")
    return _classic(c, "GPT-NeoX", d_ff, position=ROTARY, tied=tied, qkv_bias=bias, out_bias=bias)


def _gptj(c: Config) -> Skeleton:
    hidden, n_heads = c.size("n_embd"), c.size("n_head")
    return Skeleton(
        family="GPT-J",
        n_layers=c.layers("n_layer"),
        hidden=hidden,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=max(1, hidden // n_heads),
        d_ff=c.maybe("n_inner") or 4 * hidden,
        vocab=c.size("vocab_size"),
        context=c.maybe("n_positions"),
        position=ROTARY,
        tied=c.flag("tie_word_embeddings", False),
        is_gated=False,
        ff_bias=True,
        norm_bias=True,
        norms_per_layer=1,
        head_bias=True,
        tokenizer=BPE,
    )


def _opt(c: Config) -> Skeleton:
    """OPT keeps two unused rows before its positions, and its smallest-but-one model embeds in fewer dimensions."""
    embedded = c.maybe("word_embed_proj_dim")
    is_last_normed = c.flag("do_layer_norm_before", True) and not c.flag("_remove_final_layer_norm", False)
    bias = c.flag("enable_bias", True)
    return _classic(
        c,
        "OPT",
        c.size("ffn_dim"),
        position=LEARNED,
        n_positions=c.size("max_position_embeddings") + 2,
        tied=c.flag("tie_word_embeddings", True),
        embedded=embedded if embedded and embedded != c.size("hidden_size") else None,
        final_norms=1 if is_last_normed else 0,
        qkv_bias=bias,
        out_bias=bias,
        ff_bias=bias,
    )


def _bloom(c: Config) -> Skeleton:
    """BLOOM: ALiBi, and a norm right after the embeddings."""
    d_ff = 4 * c.size("hidden_size", "n_embed")
    tied = c.flag("tie_word_embeddings", True)
    return _classic(c, "BLOOM", d_ff, position=ALIBI, tied=tied, final_norms=2)


def _falcon(c: Config) -> Skeleton:
    """Falcon: one key and value head (7B), or a few (40B, with two norms before the parallel blocks)."""
    is_new = c.flag("new_decoder_architecture", False)
    n_heads, hidden = c.size("num_attention_heads", "n_head"), c.size("hidden_size")
    n_kv = (
        (c.maybe("num_kv_heads", "n_head_kv") or n_heads) if is_new else 1 if c.flag("multi_query", True) else n_heads
    )
    bias = c.flag("bias", False)
    norms = c.maybe("num_ln_in_parallel_attn") or 2 if is_new else 1 if c.flag("parallel_attn", True) else 2
    return _classic(
        c,
        "Falcon",
        c.maybe("ffn_hidden_size") or 4 * hidden,
        position=ALIBI if c.flag("alibi", False) else ROTARY,
        tied=c.flag("tie_word_embeddings", True),
        n_kv_heads=n_kv,
        norms_per_layer=norms,
        qkv_bias=bias,
        out_bias=bias,
        ff_bias=bias,
    )


DECODERS: dict[str, Callable[[Config], Skeleton]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi": _phi,
    "phi3": _phi3,
    "smollm3": _smollm3,
    "gpt2": _gpt2,
    "gpt_neox": _neox,
    "gptj": _gptj,
    "opt": _opt,
    "bloom": _bloom,
    "falcon": _falcon,
}
