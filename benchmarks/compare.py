"""`pilotfish compare`: its overhead, its speed on recordings, and three students on banking77 with all five axes.

    OPENBLAS_NUM_THREADS=1 python benchmarks/compare.py [--items N]

Overhead: a function that does nothing, 10,000 calls, everything between the send time and the line in the run file.
Recordings: 10,000 items of three recordings, from the command's start to its report and page. Students: the first tier
of a specialist (n-grams) alone, the whole specialist on the frozen encoder, and, where transformers is installed, a
causal model of a few kilobytes with random weights (its answers are noise; its five axes are not). Needs
../shared/data. Writes benchmarks/results/compare-DATE.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.scoring.answers import parse, settle
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import open_encoder

from record import labelled, save, show

N_ITEMS = 10_000


def nothing(messages: list[dict[str, Any]]) -> str:
    return "x"


def compare(*arguments: object) -> tuple[dict[str, Any], float]:
    """What the command says as JSON, and how many seconds it took in a process of its own."""
    command = [sys.executable, "-m", "pilotfish", "compare", *map(str, arguments), "--json"]
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    return json.loads(done.stdout), time.perf_counter() - started


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def overhead(folder: Path) -> dict[str, Any]:
    data = write(folder / "data.jsonl", [{"id": str(i), "input": f"item {i}", "output": "x"} for i in range(N_ITEMS)])
    found, _ = compare("compare:nothing", "--on", data, "--scorer", "exact", "--home", folder / "home")
    (model,) = found["models"]
    return {"calls": N_ITEMS, "per_call_us": round(1e6 / model["requests_per_s"]["value"], 1)}


def recordings(folder: Path) -> dict[str, Any]:
    source = random.Random(0)
    shares = {"a": 0.8, "b": 0.82, "c": 0.6}
    rows = [
        {"id": str(i), "scores": {name: float(source.random() < share) for name, share in shares.items()}}
        for i in range(N_ITEMS)
    ]
    path = write(folder / "scores.jsonl", rows)
    models = [f"{path}#{name}" for name in shares]
    page = folder / "page.html"
    found, took_s = compare(*models, "--on", "recorded", "--html", page, "--home", folder / "home")
    return {
        "items": N_ITEMS,
        "recordings": len(shares),
        "whole_s": round(took_s, 2),
        "verdicts": [row["verdict"] for row in found["comparisons"]],
    }


def specialist(home: Path) -> Path:
    rows = [row for row in labelled("banking77") if row["split"] == "train"]
    shape = settle(row["label"] for row in rows)
    task = Task(id="0" * 16, name="banking77", instructions_id="", instructions="", shape=shape)
    examples = [Example(text=row["text"], answer=parse(shape, row["label"]), time_s=0) for row in rows]
    return distil(examples, task, open_encoder(home), home / "specialists").folder


def tiny_causal(folder: Path) -> Path | None:
    """A causal model with random weights, where transformers is installed."""
    if importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None:
        return None
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<s>", *string.printable]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(words), n_embd=32, n_layer=2, n_head=2, n_positions=1024, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def students(folder: Path, n_items: int) -> list[dict[str, Any]]:
    learnt = specialist(folder)
    rows = [row for row in labelled("banking77") if row["split"] == "test"]
    random.Random(0).shuffle(rows)
    asked = [{"id": row["id"], "input": row["text"], "output": row["label"]} for row in rows[:n_items]]
    data = write(folder / "banking77.jsonl", asked)
    models = [f"frozen-encoder={learnt}", f"n-gram=first-tier:{learnt}"]
    causal = tiny_causal(folder / "tiny-causal")
    if causal is not None:
        models.append(f"tiny-causal={causal}")
    flags = ["--scorer", "exact", "--max-tokens", "16", "--warm-up", "3", "--home", folder / "home"]
    found, _ = compare(*models, "--on", data, *flags)
    verdicts = {row["candidate"]: row["verdict"] for row in found["comparisons"]}
    return [_cell(model, verdicts) for model in found["models"]]


def _cell(model: dict[str, Any], verdicts: dict[str, str]) -> dict[str, Any]:
    latency = model["latency_s"]["end_to_end"]
    energy = model["energy_j"][0]["j_per_request"]
    first = model["latency_s"]["ttft"]["p50"]
    return {
        "model": model["name"],
        "n": model["quality"]["n"],
        "accuracy": model["quality"]["value"],
        "low": model["quality"]["low"],
        "high": model["quality"]["high"],
        "verdict": verdicts.get(model["name"], "baseline"),
        "p50_ms": 1e3 * latency["p50"]["value"],
        "p99_ms": 1e3 * latency["p99"]["value"],
        "ttft_p50_ms": first.get("why_none") or 1e3 * first["value"],
        "peak_mb": round(model["memory_bytes"]["value"] / 1e6),
        "memory_method": model["memory_bytes"]["method"],
        "energy": energy.get("why_none") or energy["value"],
        "usd_per_task": model["money"]["usd_per_task"].get("why_none") or model["money"]["usd_per_task"]["value"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    n_items = parser.parse_args().items
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        calls, read = overhead(folder), recordings(folder)
        print(f"overhead: {calls['per_call_us']} us a call over {calls['calls']:,} calls (target: 1,000)")
        print(f"recordings: {read['items']:,} items x {read['recordings']} in {read['whole_s']} s (target: 20)")
        cells = students(folder, n_items)
    show("banking77, test split", [{key: cell[key] for key in cell if key != "memory_method"} for cell in cells])
    save("compare", overhead=calls, recordings=read, students=cells)


if __name__ == "__main__":
    main()
