"""Retrieved answers beside a plain semantic cache: what is answered, and how much of it wrongly.

    OPENBLAS_NUM_THREADS=1 python benchmarks/students/retrieved.py [--rows N]

Questions are banking77's, real and in random order. Answers are made here, since no public set has both: each intent
has one canned reply of some forty words. In the second variant the replies of every fourth intent are written anew each
time (they hold a case number), as a model does where there is nothing to reuse: such questions have no past answer, and
any that is given is wrong. The labels stand for the large model, so no answer varies by chance; real traffic is harder.

The first rows teach and certify (of those the product's own split), the last 3,000 are the test. The cache is the usual
one: the answer to the most similar question of all those known (cosine of the same encoder), where it is at least as
similar as a fixed threshold. "wrong" is the share of answers given that differ. Needs ../shared/data.
Writes benchmarks/results/retrieved-DATE.json.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.guarantees.attempt import attempt
from pilotfish.scoring.answers import disagreement, parse, render
from pilotfish.specialists.encoder import Encoder
from pilotfish.specialists.load import load
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.tasks.shapes import Given, settle_shape

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import cpu_s, labelled, save, show

N_TEST = 3000
RISKS = (0.02, 0.05)
THRESHOLDS = (0.8, 0.9, 0.95)
OPEN_EVERY = 4

Pairs = list[tuple[str, str]]


def reply(intent: str) -> str:
    topic = intent.replace("_", " ").strip("?")
    return (
        f"Thank you for writing to us about {topic}. Please open the app, choose Help and then the entry on {topic}, "
        "where each step is shown with what you need for it. If the steps do not solve it, answer this message and a "
        "colleague will look at your account today."
    )


def faq(*, some_open: bool) -> Pairs:
    rows = labelled("banking77")
    random.Random(0).shuffle(rows)
    intents = sorted({row["label"] for row in rows})
    is_open = set(intents[::OPEN_EVERY]) if some_open else set()
    found = []
    for number, row in enumerate(rows):
        case = f" Your case has the number {number}." if row["label"] in is_open else ""
        found.append((row["text"], reply(row["label"]) + case))
    return found


def cached(known: Pairs, tested: Pairs, vectors: np.ndarray, asked: np.ndarray) -> list[dict[str, Any]]:
    """A plain semantic cache of all that is known, at each threshold."""
    likeness = asked @ vectors.T
    nearest, similarity = likeness.argmax(axis=1), likeness.max(axis=1)
    differs = np.array([known[at][1] != answer for at, (_, answer) in zip(nearest, tested, strict=True)])
    cells = []
    for threshold in THRESHOLDS:
        hits = similarity >= threshold
        cells.append(cell(f"cache, cosine >= {threshold:g}", hits, differs))
    return cells


def cell(who: str, served: np.ndarray, differs: np.ndarray) -> dict[str, Any]:
    wrong = float(differs[served].mean()) if served.any() else 0.0
    return {
        "who": f"{who:>24}",
        "answered": float(served.mean()),
        "wrong": wrong,
        "n_wrong": int(differs[served].sum()),
    }


def certified(
    task: Task, known: Pairs, tested: Pairs, risk: float, encoder: Encoder, folder: Path, vectors: np.ndarray
) -> dict[str, Any]:
    examples = [
        Example(text=text, answer=parse(task.shape, answer), time_s=float(number), request_id=str(number))
        for number, (text, answer) in enumerate(known)
    ]
    started = cpu_s()
    tried = attempt(
        task, examples, Claim(max_risk=risk), number=1, encoder=encoder, folder=folder, embeddings=vectors[: len(known)]
    )
    verdict, cpu = tried.verdict, cpu_s() - started
    if not isinstance(verdict, Certificate) or tried.fitted is None:
        return {"who": f"{f'certified, {risk:.0%}':>24}", "refused": verdict.message}
    specialist = load(tried.fitted.folder, encoder)
    texts = [text for text, _ in tested]
    full, first = specialist.predict(texts, vectors[len(known) :]), specialist.predict_first(texts)
    policy = tried.policy
    by_first = np.array([policy.accepts_first(*row) for row in zip(first.certainty, first.scope, strict=True)])
    by_full = np.array([policy.decide(*row) == "certified" for row in zip(full.certainty, full.scope, strict=True)])
    said = [one if early else two for one, two, early in zip(first.answers, full.answers, by_first, strict=True)]
    differs = np.array(
        [disagreement(values, parse(task.shape, answer)) > 0 for values, (_, answer) in zip(said, tested, strict=True)]
    )
    served = by_first | by_full
    # What is written is compared once more as text, as a client sees it.
    written = [render(task.shape, values) for values in said]
    assert all(written[i] == tested[i][1] for i in np.flatnonzero(served & ~differs))
    return {
        **cell(f"certified, {risk:.0%}", served, differs),
        "certified_coverage": verdict.coverage,
        "first_tier": float(by_first.mean()),
        "calibration": verdict.n,
        "folder_kb": round(sum(path.stat().st_size for path in tried.fitted.folder.iterdir()) / 1e3),
        "attempt_cpu_s": round(cpu, 1),
    }


def run(name: str, pairs: Pairs, encoder: Encoder, folder: Path, vectors: np.ndarray) -> dict[str, Any]:
    known, tested = pairs[:-N_TEST], pairs[-N_TEST:]
    shape = settle_shape([Given(text=text, answer=answer) for text, answer in known])
    if not shape.is_retrieved:
        sys.exit(f"{name} has no retrieved answers: {shape.why_open or shape.kind}")
    task = Task(id="0" * 16, name=name, instructions_id="", instructions="", shape=shape)
    cells = cached(known, tested, vectors[:-N_TEST], vectors[-N_TEST:])
    proven = [certified(task, known, tested, risk, encoder, folder, vectors) for risk in RISKS]
    show(f"{name}: {len(known):,} known, {len(shape.fields[0].values)} past answers, {N_TEST:,} tested", cells)
    for found in proven:
        show("", [found])
    return {"known": len(known), "past_answers": len(shape.fields[0].values), "cache": cells, "certified": proven}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="Only so many rows, for a look; nothing is written.")
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        encoder = open_encoder(Path(folder))
        found = {}
        vectors = encoder.encode([text for text, _ in faq(some_open=False)][-(rows or 0) :])
        for name, some_open in (("all canned", False), ("three in four canned", True)):
            pairs = faq(some_open=some_open)[-(rows or 0) :]
            found[name] = run(name, pairs, encoder, Path(folder) / "specialists", vectors)
    if rows is None:
        print(save("retrieved", tested=N_TEST, open_every=OPEN_EVERY, thresholds=THRESHOLDS, runs=found))


if __name__ == "__main__":
    main()
