"""How long a smaller model should be waited for: answers given up that would have come, against the wait for one that
hangs.

    python benchmarks/routing/patience.py [--most 600]

Nobody has recorded times here, so an answer's time is its recorded length (49 models on AlpacaEval, 51 on CRUXEval, 45
on GSM8K), without the time until a first token, which would make tails shorter; beside it the same with a server that
swings by itself, by a lognormal factor (sigma 0.5 and 1). Each model answers in an order of chance and is given up
after so many times what nine in ten of its last answers took, as `routing/latency.py` has it, without its least wait.
Nobody is called. Writes benchmarks/results/routing_patience-DATE.json.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections import defaultdict, deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pilotfish.routing.latency import FEWEST, MOST, TIMES, late

from record import read, save, show

SETS = {
    "AlpacaEval": ("routing_alpacaeval_49models",),
    "CRUXEval": ("routing_cruxeval_51models",),
    "GSM8K": ("routing_gsm8k_43models", "routing_gsm8k"),
}
SIGMAS = (0.0, 0.5, 1.0)
WAITS = (2.0, 3.0, 4.0, TIMES, 6.0, 8.0, 10.0)
FEWEST_ANSWERS = 200


def lengths(names: tuple[str, ...], most: int) -> list[list[int]]:
    """The lengths of each model's answers."""
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for name in names:
        for row in read(name):
            told = row.get("out_chars") or {model: len(text) for model, text in row["responses"].items() if text}
            for model, length in told.items():
                if length:
                    found[name, model].append(length)
    return [values[:most] for values in found.values() if len(values) >= FEWEST_ANSWERS]


def given_up(times: list[float], wait: float) -> tuple[float, float]:
    """The share of answers that are given up, and for how many median answers a hang is waited for."""
    answered: deque[float] = deque(maxlen=MOST)
    limits, n = [], 0
    for took in times:
        if len(answered) >= FEWEST:
            limits.append(wait * (late(answered) or 0.0))
            if took > limits[-1]:
                n += 1
                continue
        answered.append(took)
    return n / len(limits), statistics.fmean(limits) / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=600, help="answers of each model")
    options = parser.parse_args()
    source = random.Random(0)
    figures = []
    for name, files in SETS.items():
        models = lengths(files, options.most)
        for sigma in SIGMAS:
            drawn = [[one * math.exp(sigma * source.gauss(0.0, 1.0)) for one in model] for model in models]
            for times in drawn:
                source.shuffle(times)
            for wait in WAITS:
                found = [given_up(times, wait) for times in drawn]
                figures.append(
                    {
                        "data": name,
                        "models": len(models),
                        "sigma": f"{sigma:g}",
                        "times": f"{wait:g}",
                        "given up": statistics.fmean(share for share, _ in found),
                        "worst model": max(share for share, _ in found),
                        "hang in medians_ratio": statistics.median(hang for _, hang in found),
                    }
                )
    show("Answers given up that would have come", figures)
    print(f"\nwritten: {save('routing_patience', figures=figures).name}")


if __name__ == "__main__":
    main()
