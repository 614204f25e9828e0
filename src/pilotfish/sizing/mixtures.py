"""The families with a mixture of experts, DeepSeek's latent attention among them.

Memory is that of all experts, computing that of the chosen ones. The extra prediction layers that DeepSeek-V3 and
others ship for speculative decoding are not part of the model that answers and are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilotfish.sizing.decoders import modern, qwen_windows, windows
from pilotfish.sizing.reading import Config
from pilotfish.sizing.skeleton import Experts, Latent, Skeleton


def _mixtral(c: Config) -> Skeleton:
    n_layers = c.layers("num_hidden_layers")
    experts = Experts(
        n=c.size("num_local_experts"),
        n_chosen=c.size("num_experts_per_tok"),
        d_ff=c.size("intermediate_size"),
        n_layers=n_layers,
    )
    return modern(c, "Mixtral", experts=experts, **windows(c, n_layers))


def _sparse_layers(c: Config) -> int:
    """Layers with experts: each `decoder_sparse_step`-th, but those of `mlp_only_layers`."""
    n_layers, step = c.layers("num_hidden_layers"), c.maybe("decoder_sparse_step") or 1
    dense = c.given("mlp_only_layers")
    only_dense = set(dense) if isinstance(dense, list) and all(isinstance(i, int) for i in dense) else set()
    return sum((i + 1) % step == 0 and i not in only_dense for i in range(n_layers))


def _qwen2_moe(c: Config) -> Skeleton:
    experts = Experts(
        n=c.size("num_experts"),
        n_chosen=c.size("num_experts_per_tok"),
        d_ff=c.size("moe_intermediate_size"),
        n_layers=_sparse_layers(c),
        shared_d_ff=c.size("shared_expert_intermediate_size"),
        has_shared_gate=True,
    )
    return modern(c, "Qwen2 MoE", qkv_bias=True, experts=experts, **qwen_windows(c))


def _qwen3_moe(c: Config) -> Skeleton:
    experts = Experts(
        n=c.size("num_experts", "num_local_experts"),
        n_chosen=c.size("num_experts_per_tok"),
        d_ff=c.size("moe_intermediate_size"),
        n_layers=_sparse_layers(c),
    )
    head_dim = c.maybe("head_dim") or 128
    more: dict[str, Any] = qwen_windows(c) | {"head_dim": head_dim, "qk_norm": 2 * head_dim}
    return modern(c, "Qwen3 MoE", experts=experts, **more)


def _deepseek(c: Config, family: str, *, router_bias: bool) -> Skeleton:
    n_layers = c.layers("num_hidden_layers")
    n_shared, inner = c.maybe("n_shared_experts") or 0, c.size("moe_intermediate_size")
    first = c.given("first_k_dense_replace")
    n_dense = min(n_layers, first) if isinstance(first, int) and first > 0 else 0
    experts = Experts(
        n=c.size("n_routed_experts"),
        n_chosen=c.size("num_experts_per_tok"),
        d_ff=inner,
        n_layers=n_layers - n_dense,
        shared_d_ff=n_shared * inner,
        router_bias=router_bias,
    )
    latent = Latent(
        rank=c.size("kv_lora_rank"),
        rope_dim=c.size("qk_rope_head_dim"),
        nope_dim=c.size("qk_nope_head_dim"),
        value_dim=c.size("v_head_dim"),
        query_rank=c.maybe("q_lora_rank"),
    )
    return modern(c, family, experts=experts, latent=latent)


def _deepseek_v2(c: Config) -> Skeleton:
    return _deepseek(c, "DeepSeek-V2", router_bias=False)


def _deepseek_v3(c: Config) -> Skeleton:
    """The router has a correction for each expert that balances their load."""
    return _deepseek(c, "DeepSeek-V3", router_bias=True)


def _gpt_oss(c: Config) -> Skeleton:
    n_layers = c.layers("num_hidden_layers")
    experts = Experts(
        n=c.size("num_local_experts"),
        n_chosen=c.size("num_experts_per_tok", "experts_per_token"),
        d_ff=c.size("intermediate_size"),
        n_layers=n_layers,
        router_bias=True,
    )
    more: dict[str, Any] = windows(c, n_layers, 2) | {"qkv_bias": True, "out_bias": True, "ff_bias": True}
    return modern(c, "gpt-oss", experts=experts, sinks=True, **more)


def _minimax_m2(c: Config) -> Skeleton:
    """Norms over all query and all key heads together; the router corrects its load as DeepSeek-V3's does."""
    n_heads, head_dim = c.size("num_attention_heads"), c.size("head_dim")
    experts = Experts(
        n=c.size("num_local_experts"),
        n_chosen=c.size("num_experts_per_tok"),
        d_ff=c.size("intermediate_size"),
        n_layers=c.layers("num_hidden_layers"),
        router_bias=True,
    )
    qk_norm = head_dim * (n_heads + (c.maybe("num_key_value_heads") or n_heads))
    return modern(c, "MiniMax-M2", experts=experts, qk_norm=qk_norm)


MIXTURES: dict[str, Callable[[Config], Skeleton]] = {
    "mixtral": _mixtral,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
    "deepseek_v2": _deepseek_v2,
    "deepseek_v3": _deepseek_v3,
    "gpt_oss": _gpt_oss,
    "minimax_m2": _minimax_m2,
}
