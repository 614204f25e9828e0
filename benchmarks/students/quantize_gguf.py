"""What a language model loses as a GGUF file of 8, 6, 5 or 4 bits: a small Llama trained here, on texts it never saw.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/students/quantize_gguf.py [--steps 300]

No published model can be had offline, so a Llama of 2.8 million parameters (4 layers of 256, bytes as tokens) learns
the training texts of banking77, and is written as f32. `pilotfish quantize` then measures every kind on 300 texts of
the test split, item by item, on one core. Weights of a small model bear rounding less well than those of a large one.
Checked as well: the file's perplexity is torch's. Needs ../shared/data. Writes
benchmarks/results/quantize_gguf-DATE.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers

from pilotfish.cli.main import run

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from tools.tiny_gguf import N_HEADS, write_gguf

from record import labelled, save, show

SIZE, N_LAYERS, N_TOKENS, BATCH, N_TESTED = 256, 4, 128, 8, 300
BEGIN, FIRST_BYTE = 1, 3


def tokens(text: str) -> list[int]:
    """As llama.cpp reads a text with this vocabulary: spaces are the character that stands for them."""
    return [BEGIN, *(byte + FIRST_BYTE for byte in text.replace(" ", "\u2581").encode())]


def trained(texts: list[str], steps: int) -> Any:
    """The model after so many steps over windows of the texts, one after another."""
    torch.manual_seed(0)
    size = {"hidden_size": SIZE, "intermediate_size": 2 * SIZE, "num_hidden_layers": N_LAYERS}
    heads = {"num_attention_heads": N_HEADS, "vocab_size": 259, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**size, **heads, tie_word_embeddings=False))
    stream = torch.tensor([token for text in texts for token in tokens(text)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    for step in range(steps):
        starts = torch.randint(len(stream) - N_TOKENS, (BATCH,))
        batch = torch.stack([stream[start : start + N_TOKENS] for start in starts])
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: {loss.item():.3f} nats", file=sys.stderr, flush=True)
    return model.eval()


def perplexity(model: Any, texts: list[str]) -> float:
    with torch.inference_mode():
        rows = [torch.tensor([tokens(text)]) for text in texts]
        return math.exp(fmean(float(model(row, labels=row).loss) for row in rows))


def tensors(model: Any) -> dict[str, Any]:
    """The weights by llama.cpp's names."""
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    found = {"token_embd.weight": state["model.embed_tokens.weight"], "output.weight": state["lm_head.weight"]}
    found["output_norm.weight"] = state["model.norm.weight"]
    for layer in range(N_LAYERS):
        for name, told in names.items():
            value = state[f"model.layers.{layer}.{name}.weight"]
            if told in ("attn_q", "attn_k"):  # llama.cpp turns neighbouring pairs, transformers halves
                value = value.reshape(N_HEADS, 2, -1, SIZE).swapaxes(1, 2).reshape(SIZE, SIZE)
            found[f"blk.{layer}.{told}.weight"] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # llama.cpp's threads would wait for one another
    rows = labelled("banking77")
    train = [row["text"] for row in rows if row["split"] == "train"]
    test = [row["text"] for row in rows if row["split"] == "test"][:: 3080 // N_TESTED][:N_TESTED]
    model = trained(train, steps)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = write_gguf(place / "small.gguf", n_layers=N_LAYERS, size=SIZE, tensors=tensors(model))
        data = place / "texts.jsonl"
        data.write_text("".join(json.dumps({"text": text, "label": "-"}) + "\n" for text in test))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            run(["quantize", str(source), "--on", str(data), "--home", str(place / "home"), "--json"])
    found = json.loads(said.getvalue())
    before, by_torch = found["before"], perplexity(model, test)
    cells = [
        {
            "kind": row["kind"],
            "MB": f"{row['size_bytes'] / 1e6:.2f}",
            "p50_ms": 1e3 * row["latency_s"]["p50"]["value"],
            "perplexity": f"{row['perplexity']:.4f}",
            "KL_nats": f"{row.get('kl_nats') or 0:.6f}",
            "right": row["score"],
            "flips": f"{row.get('n_flipped', 0)} of {row.get('n_answers', 0)}",
            "verdict": row.get("verdict", "-"),
        }
        for row in (before, *found["after"])
    ]
    show(f"a small Llama on {len(test)} texts; perplexity by torch {by_torch:.4f}", cells)
    n = sum(value.numel() for value in model.parameters())
    print(save("quantize_gguf", parameters=n, steps=steps, texts=len(test), perplexity_by_torch=by_torch, **found))
    sys.exit(0 if abs(before["perplexity"] / by_torch - 1) < 0.01 else 1)


if __name__ == "__main__":
    main()
