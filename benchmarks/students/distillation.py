"""Does a teacher's probability teach more than its language alone? A tiny teacher into half its layers, five seeds.

    OMP_NUM_THREADS=1 python benchmarks/students/distillation.py [--seeds N]

The language is a Markov chain of order 2 over 8 letters, whose entropy is known. A GPT-2 of 4 layers learns it from
30,000 letters. A student of 2 layers sees 3,000 or 10,000 others, once alone (cross entropy) and once with the teacher
beside (`finetune --teacher`), from the same weights, in the same order, both stopped early. Compared on 20,000 letters
that none has seen, block by block, in nats a letter. Target: the taught student is better, paired, over the seeds.
Writes benchmarks/results/distillation-DATE.json.
"""

from __future__ import annotations

import argparse
import math
import random
import string
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from pilotfish.stats.paired import difference
from pilotfish.stats.resampled_pairs import paired_bootstrap
from pilotfish.students.generative import Learner, Recipe, Shown
from pilotfish.students.generative_training import finetune, held_out_loss

sys.path[:0] = [str(Path(__file__).parents[1])]

from record import save, show  # noqa: E402

LETTERS = string.ascii_lowercase[:8]
BLOCK = 64
TEACHER_LETTERS = 30_000
STUDENT_LETTERS = (3_000, 10_000)
STUDENT = Recipe(learning_rate=3e-3, epochs=12, patience=2, batch=8, max_tokens=BLOCK)
TEACHER = Recipe(learning_rate=3e-3, epochs=6, patience=2, batch=16, max_tokens=BLOCK)


def chain(rng: random.Random) -> dict[str, list[float]]:
    """The probabilities of the next letter after each two: few likely ones, by a Dirichlet of 0.3."""
    found = {}
    for first in LETTERS:
        for second in LETTERS:
            drawn = [rng.gammavariate(0.3, 1) + 1e-9 for _ in LETTERS]
            found[first + second] = [one / sum(drawn) for one in drawn]
    return found


def speak(probabilities: dict[str, list[float]], n: int, rng: random.Random) -> tuple[str, float]:
    """n letters, and the mean nats that a letter costs who knows the chain."""
    text, cost = rng.choice(LETTERS) + rng.choice(LETTERS), 0.0
    for _ in range(n):
        row = probabilities[text[-2:]]
        letter = rng.choices(LETTERS, row)[0]
        cost -= math.log(row[LETTERS.index(letter)])
        text += letter
    return text[2:], cost / n


def write_gpt2(place: Path, n_layers: int, seed: int) -> str:
    """An untrained GPT-2 over the letters."""
    torch.manual_seed(seed)
    vocabulary = {character: number for number, character in enumerate(["<end>", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(place)
    size = {"vocab_size": len(vocabulary), "n_embd": 64, "n_layer": n_layers, "n_head": 4, "n_positions": BLOCK}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = transformers.GPT2Config(**size, **dropout, bos_token_id=0, eos_token_id=0)
    transformers.GPT2LMHeadModel(config).save_pretrained(place)
    return str(place)


def losses(folder: Path, text: str) -> list[float]:
    """The mean nats a letter of each block."""
    learner = Learner(str(folder))
    ids = learner.tokenizer(text, verbose=False).input_ids
    blocks = [ids[i : i + BLOCK] for i in range(0, len(ids) - BLOCK + 1, BLOCK)]
    return [held_out_loss(learner, [Shown(ids=block, labels=block)], 1) for block in blocks]


def one_seed(seed: int, place: Path) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    language = chain(rng)
    much, _ = speak(language, TEACHER_LETTERS, rng)
    unseen, entropy = speak(language, 20_000, rng)
    teacher = finetune(write_gpt2(place / "large", 4, seed), much, place / "teacher", TEACHER).folder
    student = write_gpt2(place / "small", 2, seed + 1000)
    rows = []
    for n in STUDENT_LETTERS:
        little, _ = speak(language, n, rng)
        alone = finetune(student, little, place / f"alone-{n}", STUDENT)
        taught = finetune(student, little, place / f"taught-{n}", STUDENT, teacher=str(teacher))
        one, other = losses(alone.folder, unseen), losses(taught.folder, unseen)
        gained = [a - b for a, b in zip(one, other, strict=True)]
        low, high = paired_bootstrap(gained, seed=seed)
        rows.append(
            {
                "letters": n,
                "seed": seed,
                "entropy": entropy,
                "teacher": fmean(losses(teacher, unseen)),
                "alone": fmean(one),
                "taught": fmean(other),
                "gained": fmean(gained),
                "gained_low": low,
                "gained_high": high,
                "blocks": len(gained),
                "epochs_alone": alone.best_epoch,
                "epochs_taught": taught.best_epoch,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    figures = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as temporary:
            figures += one_seed(seed, Path(temporary))
        print(f"seed {seed} done", flush=True)
    over_seeds = []
    for n in STUDENT_LETTERS:
        rows = [row for row in figures if row["letters"] == n]
        cells = [{key: f"{v:.4f}" if isinstance(v, float) else v for key, v in row.items()} for row in rows]
        show(f"{n:,} letters: nats a letter on unseen text", cells)
        gained = difference([row["gained"] for row in rows])
        better = sum(row["gained_low"] > 0 for row in rows)
        print(f"gained {gained.mean:.4f} ± {gained.error:.4f} (standard error over seeds); better in {better}")
        means = {key: fmean(row[key] for row in rows) for key in ("entropy", "teacher", "alone", "taught")}
        over_seeds.append(
            {
                "letters": n,
                **means,
                "gained": gained.mean,
                "standard_error": gained.error,
                "seeds": seeds,
                "seeds_better": better,
            }
        )
    sizes = {"teacher_layers": 4, "student_layers": 2, "teacher_letters": TEACHER_LETTERS}
    print(save("distillation", unit="nats a letter", sizes=sizes, over_seeds=over_seeds, figures=figures).name)


if __name__ == "__main__":
    main()
