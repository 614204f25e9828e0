"""Eight requests at once to weights in this process, against the same eight one after the other.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/batched.py [--rounds N]

A GPT-2 of 124 million parameters and a MiniLM-sized BERT with random weights: what is said means nothing, what it
costs is the same. Generation: prompts of 8 to 60 tokens, 16 tokens each; labels and vectors: the same texts. The
answers of both ways are compared. Rounds alternate; wall time is the quickest round's, since others use this machine,
CPU time the mean. Writes benchmarks/results/batched-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from pilotfish.models.local_tasks import TASKS
from pilotfish.models.local_weights import LocalWeights
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.embeddings import EMBEDDINGS

from record import save, show

N_TOKENS = 16
LENGTHS = [8, 60, 15, 30, 22, 45, 12, 37]


def write(place: Path, model: Any) -> str:
    """The model in a folder, with a tokenizer of one token a word."""
    words = {f"w{number}": number for number in range(model.config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0").save_pretrained(place)
    model.save_pretrained(place)
    return str(place)


def gpt2() -> Any:
    """Of GPT-2's own size, weights large enough that it does not say one word for ever."""
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(initializer_range=0.1, eos_token_id=None))


def bert(kind: Any) -> Any:
    """Of MiniLM's size: 6 layers of 384."""
    size = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    return kind(transformers.BertConfig(**size, pad_token_id=0))


def text(number: int, n_words: int) -> str:
    return " ".join(f"w{1 + (number * 131 + place * 17) % 999}" for place in range(n_words))


def chats() -> list[Any]:
    rows = [[{"role": "user", "content": text(*pair)}] for pair in enumerate(LENGTHS)]
    bodies = [{"model": "m", "messages": row, "max_tokens": N_TOKENS} for row in rows]
    return [CHAT.decode_request(json.dumps(body).encode()) for body in bodies]


def vectors() -> list[Any]:
    bodies = [{"model": "m", "input": text(*pair)} for pair in enumerate(LENGTHS)]
    return [EMBEDDINGS.decode_request(json.dumps(body).encode()) for body in bodies]


async def sequential(model: Any, asked: list[Any]) -> list[Any]:
    return [await model.answer(one) for one in asked]


async def concurrent(model: Any, asked: list[Any]) -> list[Any]:
    return list(await asyncio.gather(*(model.answer(one) for one in asked)))


def timed(way: Any, model: Any, asked: list[Any]) -> tuple[float, float, list[Any]]:
    wall_s, busy_s = time.perf_counter(), time.process_time()
    found = asyncio.run(way(model, asked))
    return (
        time.perf_counter() - wall_s,
        time.process_time() - busy_s,
        [one.body if one.text is None else one.text for one in found],
    )


def measure(kind: str, model: Any, asked: list[Any], rounds: int) -> dict[str, Any]:
    timed(sequential, model, asked[:1])
    rows = [(timed(sequential, model, asked), timed(concurrent, model, asked)) for _ in range(rounds)]
    one, both = ([row[side] for row in rows] for side in (0, 1))
    walls = [min(found[0] for found in side) for side in (one, both)]
    busy = [fmean(found[1] for found in side) for side in (one, both)]
    return {
        "kind": kind,
        "requests": len(asked),
        "one_by_one_s": round(walls[0], 3),
        "at_once_s": round(walls[1], 3),
        "throughput_ratio": round(walls[0] / walls[1], 2),
        "one_by_one_cpu_s": round(busy[0], 3),
        "at_once_cpu_s": round(busy[1], 3),
        "cpu_ratio": round(busy[0] / busy[1], 2),
        "same_answers": all(same(*pair) for found in rows for pair in zip(found[0][2], found[1][2], strict=True)),
    }


def same(one: Any, other: Any) -> bool:
    """The same text; of vectors, no number that differs by more than 1e-5."""
    if isinstance(one, str):
        return bool(one == other)
    first, second = (torch.tensor(json.loads(body)["data"][0]["embedding"]) for body in (one, other))
    return bool((first - second).abs().max() < 1e-5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = [
            ("generate", LocalWeights(write(folder / "g", gpt2())), chats()),
            (
                "classify",
                TASKS["classify"](write(folder / "c", bert(transformers.BertForSequenceClassification))),
                chats(),
            ),
            ("embed", TASKS["embed"](write(folder / "e", bert(transformers.BertModel))), vectors()),
        ]
        cells = [measure(kind, model, asked, rounds) for kind, model, asked in made]
    show("8 requests one after the other, and at once", cells)
    save("batched", threads=torch.get_num_threads(), tokens_each=N_TOKENS, rounds=rounds, measured=cells)
    sys.exit(0 if all(cell["same_answers"] for cell in cells) else 1)


if __name__ == "__main__":
    main()
