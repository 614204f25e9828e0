"""Outcomes with a known truth: a hidden difficulty that an answer's log-probabilities show, more or less."""

from __future__ import annotations

import json
import random
from pathlib import Path

from pilotfish.core.outcome import Outcome, Tried
from pilotfish.evals.outcomes import to_row

WORDS = ("harbour", "lantern", "meadow", "copper", "violin", "granite", "orchard", "saddle", "velvet", "anchor")


def outcomes(n: int, *, seed: int = 0, tells: bool = True, gap: float = 0.4) -> list[Outcome]:
    """n outcomes of the models "small" and "large".

    The large one is right; the small one is wrong with a chance that grows with the difficulty, by `gap` on average.
    Its
    log-probabilities show the difficulty where it `tells`.
    """
    source = random.Random(seed)
    found = []
    for i in range(n):
        hard = source.random()
        shown = hard if tells else source.random()
        wrong = source.random() < 2.0 * gap * hard * hard * 1.5
        words = [source.choice(WORDS) for _ in range(source.randint(4, 12))]
        small = Tried(
            score=float(not wrong),
            text=f"It is the {words[0]}.",
            cost_usd=0.001,
            latency_s=0.2,
            logprobs=(-0.01, -0.05 - shown),
            tokens=("It", " is"),
        )
        large = Tried(score=1.0, text="It is so.", cost_usd=0.02, latency_s=1.0)
        found.append(
            Outcome(
                request_id=f"{seed}-{i}",
                prompt=f"Which of these is meant: {', '.join(words)}?",
                tried={"small": small, "large": large},
                task="words",
            )
        )
    return found


def write(path: Path, found: list[Outcome]) -> Path:
    """A file of our own layout."""
    path.write_text("".join(json.dumps(to_row(outcome)) + "\n" for outcome in found))
    return path
