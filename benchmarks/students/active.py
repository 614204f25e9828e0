"""Which answers to buy: those the specialist is least sure of, as the gateway defers them, or as many at random.

    OPENBLAS_NUM_THREADS=1 nice -n 10 python benchmarks/students/active.py [--seeds 3]

banking77, its training rows as a stream in random order. The first 300 answers are bought as they come. Then, four
times, a specialist learns from what is known and 1,200 further requests arrive, of which 300 are asked of the
reference: the least certain (deferred), or by a coin (as audits are). The official test split is answered after each
round; both ways see the same stream, and have bought as many answers. Needs ../shared/data. Writes
benchmarks/results/students_active-DATE.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from few import Bank

from pilotfish.specialists.specialist import Specialist
from pilotfish.students.distil import distil

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import save, show

FIRST, ARRIVE, ASKED, ROUNDS = 300, 1200, 300, 4


def certainty(bank: Bank, known: list[int], arrived: list[int]) -> Any:
    """How sure a specialist of the known rows is of those that arrive."""
    train, vectors = bank.parts["train"], bank.vectors["train"]
    fitted = distil([train[i] for i in known], bank.task, bank.encoder, bank.home, embeddings=vectors[known])
    specialist = Specialist.load(fitted.folder, bank.encoder)
    return specialist.predict([train[i].text for i in arrived], vectors[arrived]).certainty


def run(bank: Bank, seed: int, way: str) -> list[float]:
    """The accuracy on the test split after each purchase."""
    rng = np.random.default_rng(seed)
    stream = rng.permutation(len(bank.parts["train"])).tolist()
    known, rest = stream[:FIRST], stream[FIRST:]
    found = [bank.accuracy(known)]
    for number in range(ROUNDS):
        arrived = rest[number * ARRIVE : (number + 1) * ARRIVE]
        if way == "deferred":
            asked = np.argsort(certainty(bank, known, arrived), kind="stable")[:ASKED]
        else:
            asked = rng.choice(ARRIVE, ASKED, replace=False)
        known = known + [arrived[i] for i in asked]
        found.append(bank.accuracy(known))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory() as folder:
        bank = Bank(Path(folder))
        runs = {way: [run(bank, seed, way) for seed in range(seeds)] for way in ("deferred", "random")}
    cells = []
    for number in range(ROUNDS + 1):
        of = {way: [accuracy[number] for accuracy in found] for way, found in runs.items()}
        gains = [one - other for one, other in zip(of["deferred"], of["random"], strict=True)]
        cells.append(
            {
                "answers": FIRST + number * ASKED,
                **{way: float(np.mean(values)) for way, values in of.items()},
                "gain": float(np.mean(gains)),
                "least_gain": min(gains),
                "most_gain": max(gains),
            }
        )
    show("banking77, accuracy on the test split", cells)
    print(save("students_active", seeds=seeds, rounds=cells, runs=runs))


if __name__ == "__main__":
    main()
