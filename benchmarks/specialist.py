"""The default student: accuracy, coverage at a perfectly known threshold, time of one local decision.

    OPENBLAS_NUM_THREADS=1 python benchmarks/specialist.py

banking77 by its official split; the other sets learn 3,000 seeded random rows and are tested on the rest.
"Known threshold" is the best anyone could certify, with the test answers at hand. Needs ../shared/data.
Writes benchmarks/results/specialist-DATE.json.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.scoring.answers import disagreement, parse, settle
from pilotfish.specialists.encoder import Encoder
from pilotfish.specialists.specialist import Specialist
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import open_encoder

from record import labelled, save

SETS = ("banking77", "customer_support_bitext", "snips", "ag_news_7600", "sst2")
RISKS = (0.01, 0.02, 0.05)
TEST_ROWS = 4000


def split(name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows = labelled(name)
    if name == "banking77":
        return [row for row in rows if row["split"] == "train"], [row for row in rows if row["split"] == "test"]
    random.Random(0).shuffle(rows)
    return rows[:3000], rows[3000 : 3000 + TEST_ROWS]


def coverage(certainty: np.ndarray, differs: np.ndarray, risk: float) -> float:
    """The largest share whose most certain answers differ at most `risk`, never cutting through equal scores."""
    order = np.argsort(-certainty, kind="stable")
    mean = np.cumsum(differs[order]) / np.arange(1, len(order) + 1)
    can_end = np.append(certainty[order][1:] < certainty[order][:-1], True)
    ends = np.flatnonzero((mean <= risk) & can_end)
    return float((ends.max() + 1) / len(order)) if len(ends) else 0.0


def learn(name: str, encoder: Encoder, home: Path) -> tuple[dict[str, Any], Specialist, list[str]]:
    train, test = split(name)
    shape = settle(row["label"] for row in train)
    task = Task(id="0" * 16, name=name, instructions_id="", instructions="", shape=shape)
    examples = [Example(text=row["text"], answer=parse(shape, row["label"]), time_s=0) for row in train]
    specialist = Specialist.load(distil(examples, task, encoder, home).folder, encoder)
    texts = [row["text"] for row in test]
    found = specialist.predict(texts)
    differs = np.array(
        [disagreement(a, parse(shape, row["label"])) for a, row in zip(found.answers, test, strict=True)]
    )
    figures = {
        "data": name,
        "learnt": len(train),
        "tested": len(test),
        "accuracy": round(1 - float(differs.mean()), 4),
        **{f"coverage at {risk:.0%}": round(coverage(found.certainty, differs, risk), 3) for risk in RISKS},
    }
    return figures, specialist, texts


def decision_ms(specialist: Specialist, encoder: Encoder, texts: list[str]) -> dict[str, float]:
    """Milliseconds of one decision, text to answer, and of its part after the encoding."""
    short = [text for text in texts if len(encoder.tokens(text)) <= 16][:1000]
    whole, after = [], []
    for text in short:
        started = time.perf_counter()
        specialist.predict([text])
        whole.append(time.perf_counter() - started)
        embedding = encoder.encode([text])
        started = time.perf_counter()
        specialist.predict([text], embedding)
        after.append(time.perf_counter() - started)
    return {
        "texts": len(short),
        "p50_ms": round(1e3 * float(np.quantile(whole, 0.5)), 3),
        "p95_ms": round(1e3 * float(np.quantile(whole, 0.95)), 3),
        "p99_ms": round(1e3 * float(np.quantile(whole, 0.99)), 3),
        "after_encoding_p50_ms": round(1e3 * float(np.quantile(after, 0.5)), 3),
    }


def main() -> None:
    figures, latency = [], {}
    with tempfile.TemporaryDirectory() as home:
        encoder = open_encoder(Path(home))
        for name in SETS:
            row, specialist, texts = learn(name, encoder, Path(home) / "specialists")
            if not figures:
                print("  ".join(row))
                latency = decision_ms(specialist, encoder, texts)
            figures.append(row)
            print("  ".join(f"{value!s:>{len(key)}}" for key, value in row.items()), flush=True)
    print("one decision on banking77, at most 16 tokens:", latency)
    save("specialist", figures=figures, decision=latency)


if __name__ == "__main__":
    main()
