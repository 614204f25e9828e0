"""The fine-tuned student beside the default one: accuracy, certified coverage, CPU time, int8 against fp32.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/students/finetune.py [NAME ...] [--rows N]

banking77, sst2 and ag_news (7,600 rows) by their splits: all training rows teach, or as many as --rows; the test rows
are answered. "Expected" is the coverage that out-of-fold scores let expect, by which learning chooses between the two;
"certified" that of a certificate on the test rows at 5 % disagreement. CPU seconds include the folds and encoding;
"parts" are those of the lower layers, steps of training, embeddings of the halves, n-grams and mixture, and embeddings
as served. A machine that others use counts up to three times as many, so those of answering one text stand beside (1.0
ms on an idle machine). Flips: the share of test texts whose answer changes when the encoder's weights are fp32, also
among the 85 % most certain.
Needs ../shared/data and the `train` extra. Writes benchmarks/results/students_finetune-DATE.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.config import load
from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.guarantees.certify import Evidence, Terms, certify, expected_coverage
from pilotfish.guarantees.fitting import look
from pilotfish.scoring.answers import disagreement, parse, settle
from pilotfish.specialists.encoder import Graph
from pilotfish.specialists.specialist import Predictions, Specialist
from pilotfish.students import distil, encoder_cache, encoder_graph, finetune, fit, last_layers, tuned, weights
from pilotfish.students.distil import Fitted
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.students.recipe import Tuning

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import cpu_s, labelled, save

NAMES = ("banking77", "sst2", "ag_news_7600")
CLAIM = Claim(max_risk=0.05)
SURE = 0.85


def rows(name: str, most: int) -> tuple[Task, list[Example], list[Example]]:
    read = labelled(name)
    shape = settle(row["label"] for row in read if row["split"] == "train")
    task = Task(id="0" * 16, name=name, instructions_id="", instructions="", shape=shape)
    parts = [
        [
            Example(text=row["text"], answer=parse(shape, row["label"]), time_s=0)
            for row in read
            if row["split"] == split
        ]
        for split in ("train", "test")
    ]
    random.Random(0).shuffle(parts[0])
    return task, parts[0][:most], parts[1]


class Parts:
    """CPU seconds by part: functions that another module calls are timed in its place."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def time(self, module: Any, name: str, part: str) -> None:
        """Count what `module.name` takes towards the part, from now on."""
        timed = getattr(module, name)

        def run(*given: Any, **options: Any) -> Any:
            started = cpu_s()
            try:
                return timed(*given, **options)
            finally:
                self.spent[part] = self.spent.get(part, 0.0) + cpu_s() - started

        setattr(module, name, run)

    def taken(self) -> dict[str, float]:
        """Those since the last time, rounded."""
        found = {part: round(spent, 1) for part, spent in self.spent.items()}
        self.spent.clear()
        return found


PARTS = Parts()
PARTS.time(tuned, "compute", "lower layers")
PARTS.time(finetune, "tune", "steps of training")
PARTS.time(last_layers, "embed", "embeddings of the halves")
PARTS.time(fit, "fit_field", "n-grams and mixture")
PARTS.time(distil, "encode", "embeddings as served")


def figures(student: str, fitted: Fitted, said: Predictions, test: list[Example], spent: float) -> dict[str, Any]:
    losses = [disagreement(answer, row.answer) for answer, row in zip(said.answers, test, strict=True)]
    seen = dataclasses.replace(look(fitted.out_of_fold), first=None)
    evidence: Evidence = dataclasses.replace(
        seen, losses=losses, certainty=said.certainty.tolist(), scope=said.scope.tolist()
    )
    terms = Terms(task_id="", task_name="", attempt=1, created_at="")
    verdict = certify(evidence, CLAIM, terms)
    return {
        "student": student,
        "accuracy": 1 - float(np.mean(losses)),
        "out of fold": 1 - float(fitted.out_of_fold.disagreement.mean()),
        "expected": expected_coverage(seen, len(test), CLAIM, 1),
        "certified": verdict.coverage if isinstance(verdict, Certificate) else 0.0,
        "fit_cpu_s": spent,
    }


def flips(specialist: Specialist, said: Predictions, texts: list[str], graph: bytes) -> dict[str, float]:
    """How often the same specialist answers otherwise on an encoder with fp32 weights."""
    exact = Graph(graph)
    encoder = specialist._encoder
    assert encoder is not None
    kept = encoder._session
    encoder._session = exact.session
    changed = [one != other for one, other in zip(specialist.predict(texts).answers, said.answers, strict=True)]
    encoder._session = kept
    surest = np.argsort(-said.certainty, kind="stable")[: int(SURE * len(texts))]
    return {"flips": float(np.mean(changed)), "flips_of_surest_85": float(np.array(changed)[surest].mean())}


def measure(name: str, most: int, home: Path) -> list[dict[str, Any]]:
    task, train, test = rows(name, most)
    texts = [row.text for row in test]
    encoder, found = open_encoder(load.cache()), weights.find()
    written: dict[str, Any] = {}
    make = encoder_cache.contents

    def contents(*given: Any, **options: Any) -> dict[str, bytes]:
        written.update(options.get("replaced") or {})
        return make(*given, **options)

    encoder_cache.contents = contents
    cells = []
    for student in ("default", "fine-tuned"):
        started = cpu_s()
        if student == "default":
            fitted: Fitted | None = distil.distil(train, task, encoder, home)
        else:
            tuning = Tuning(weights=found, announce=print)
            fitted = tuned.distil_tuned(train, task, encoder, home, tuning, is_worth=lambda _: True)
        assert fitted is not None
        spent = cpu_s() - started
        specialist = Specialist.load(fitted.folder, encoder)
        started = cpu_s()
        said = specialist.predict(texts)
        own_ms = 1e3 * (cpu_s() - started) / len(texts)
        exact = encoder_graph.write_graph(found.folder, precision="fp32", replaced=written)
        cells.append(
            {
                "data": name,
                "taught": len(train),
                "tested": len(test),
                **figures(student, fitted, said, test, spent),
                "parts_cpu_s": PARTS.taken(),
                **flips(specialist, said, texts, exact),
                "cpu_ms_a_text": own_ms,
                "load": round(os.getloadavg()[0], 1),
                "card": dict(specialist.card.scores),
            }
        )
        print({key: round(v, 4) if isinstance(v, float) else v for key, v in cells[-1].items()}, flush=True)
    encoder_cache.contents = make
    return cells


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rows", type=int, default=1_000_000, help="so many training rows at most, drawn with seed 0")
    given = parser.parse_args()
    names = given.names
    with tempfile.TemporaryDirectory() as folder:
        cells = [cell for name in names for cell in measure(name, given.rows, Path(folder))]
    print(save("students_finetune" if len(names) > 1 else f"students_finetune_{names[0]}", figures=cells))


if __name__ == "__main__":
    main()
