"""Learning from little: 5, 10 and 20 answers a class, n-grams alone, and answers that look wrong.

    OPENBLAS_NUM_THREADS=1 python benchmarks/students/few.py [--draws 5] [--tuned 10]

banking77: so many seeded random training rows of each of its 77 classes teach the default student, and the n-grams
alone; the official test split is answered. "names" says in how many draws the classes' names were taken as further
texts, and "without_names" what the same rows gave when they were not. Suspects: 3,000 training rows, 6 % of them with
another class's answer at random; of those listed, how many were exchanged, and how many of the exchanged are listed.
With --tuned only the
default student and the fine-tuned one, as by `--finetune always`, are compared, at so many answers a class.
Needs ../shared/data. Writes benchmarks/results/students_few-DATE.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.config import load
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.scoring.answers import parse, settle
from pilotfish.specialists.specialist import Specialist
from pilotfish.students import fit, weights
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.students.recipe import Tuning
from pilotfish.students.suspects import suspects
from pilotfish.students.tuned import distil_tuned

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import cpu_s, labelled, save, show

SHOTS = (5, 10, 20)
N_DOUBTED, EXCHANGED = 3000, 0.06


class Bank:
    """Both splits as examples, with the embeddings of all texts."""

    def __init__(self, home: Path) -> None:
        rows = labelled("banking77")
        shape = settle(row["label"] for row in rows if row["split"] == "train")
        self.task = Task(id="0" * 16, name="banking77", instructions_id="", instructions="", shape=shape)
        self.encoder = open_encoder(load.cache())
        self.home = home
        self.parts = {
            split: [
                Example(text=row["text"], answer=parse(shape, row["label"]), time_s=0, request_id=row["id"])
                for row in rows
                if row["split"] == split
            ]
            for split in ("train", "test")
        }
        self.vectors = {split: self.encoder.encode([row.text for row in part]) for split, part in self.parts.items()}

    def accuracy(self, picked: list[int], *, has_encoder: bool = True) -> float:
        """Of a student of these training rows on the test split."""
        taught, test = [self.parts["train"][i] for i in picked], self.parts["test"]
        encoder = self.encoder if has_encoder else None
        fitted = distil(taught, self.task, encoder, self.home, embeddings=self.vectors["train"][picked])
        said = Specialist.load(fitted.folder, encoder).predict([row.text for row in test], self.vectors["test"])
        return float(np.mean([answer == row.answer for answer, row in zip(said.answers, test, strict=True)]))

    def draw(self, shots: int, seed: int) -> list[int]:
        """So many training rows of each class."""
        train = self.parts["train"]
        rng = np.random.default_rng(seed)
        classes = sorted({row.answer for row in train if row.answer})
        of = {answer: [i for i, row in enumerate(train) if row.answer == answer] for answer in classes}
        return [int(i) for rows in of.values() for i in rng.choice(rows, shots, replace=False)]

    def tuned_accuracy(self, picked: list[int]) -> float:
        """Of a fine-tuned student of these training rows on the test split."""
        taught, test, tuning = (
            [self.parts["train"][i] for i in picked],
            self.parts["test"],
            Tuning(weights=weights.find()),
        )
        fitted = distil_tuned(taught, self.task, self.encoder, self.home, tuning, is_worth=lambda _: True)
        assert fitted is not None
        said = Specialist.load(fitted.folder, None).predict([row.text for row in test])
        return float(np.mean([answer == row.answer for answer, row in zip(said.answers, test, strict=True)]))


def tuned(bank: Bank, shots: int, draws: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {"default": [], "fine-tuned": []}
    spent = 0.0
    for seed in range(draws):
        picked = bank.draw(shots, seed)
        found["default"].append(bank.accuracy(picked))
        started = cpu_s()
        found["fine-tuned"].append(bank.tuned_accuracy(picked))
        spent += cpu_s() - started
        print(seed, {name: round(values[-1], 4) for name, values in found.items()}, flush=True)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return {"answers_a_class": shots, **means, "by_draw": found, "fine_tuned_cpu_s": spent / draws, "draws": draws}


def few(bank: Bank, shots: int, draws: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {"default": [], "without_names": [], "ngrams": []}
    for seed in range(draws):
        picked = bank.draw(shots, seed)
        found["default"].append(bank.accuracy(picked))
        kept, fit.FEW_A_CLASS = fit.FEW_A_CLASS, 0
        found["without_names"].append(bank.accuracy(picked))
        fit.FEW_A_CLASS = kept
        found["ngrams"].append(bank.accuracy(picked, has_encoder=False))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return {
        "answers_a_class": shots,
        **means,
        "default_worst": min(found["default"]),
        "names": sum(one != other for one, other in zip(found["default"], found["without_names"], strict=True)),
        "draws": draws,
    }


def doubted(bank: Bank) -> dict[str, Any]:
    train = bank.parts["train"]
    rng = np.random.default_rng(0)
    picked = rng.choice(len(train), N_DOUBTED, replace=False)
    rows = [train[i] for i in picked]
    classes = sorted({row.answer for row in rows if row.answer})
    exchanged = set(rng.choice(N_DOUBTED, int(EXCHANGED * N_DOUBTED), replace=False).tolist())
    for i in exchanged:
        place = classes.index(rows[i].answer or ()) + 1 + int(rng.integers(len(classes) - 1))
        rows[i] = dataclasses.replace(rows[i], answer=classes[place % len(classes)])
    scored = distil(rows, bank.task, bank.encoder, bank.home, embeddings=bank.vectors["train"][picked]).out_of_fold
    names = {rows[i].request_id for i in exchanged}
    listed = [suspect.request_id in names for suspect in suspects(rows, scored)]
    return {
        "rows": N_DOUBTED,
        "exchanged": len(exchanged),
        "listed": len(listed),
        "of_listed_exchanged": float(np.mean(listed)),
        "of_exchanged_listed": sum(listed) / len(exchanged),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--tuned", type=int, default=0)
    options = parser.parse_args()
    draws = options.draws
    with tempfile.TemporaryDirectory() as folder:
        bank = Bank(Path(folder))
        if options.tuned:
            cell = tuned(bank, options.tuned, draws)
            show("banking77, fine-tuned, accuracy on the test split", [cell])
            print(save("students_few_tuned", tuned=cell))
            return
        cells = [few(bank, shots, draws) for shots in SHOTS]
        show("banking77, accuracy on the test split", cells)
        found = doubted(bank)
        show("answers that look wrong", [found])
    print(save("students_few", few=cells, suspects=found))


if __name__ == "__main__":
    main()
