"""Extraction: SNIPS frames with their certified coverage, and the entities of WNUT17.

    OPENBLAS_NUM_THREADS=1 python benchmarks/students/extraction.py [--dev] [snips wnut17]

Every task goes the product's way: the reference's answers are JSON texts, the shape is inferred
from them, and the student learns what that takes. "answers_right" compares whole answers (of snips: frames);
"certified" is the coverage of a first attempt at 5 % risk for snips, which sets its calibration rows aside from
those that teach. Learns `train`; tests on `test`, or with --dev on a part of `train` (wnut17 has its own dev part).
Needs ../shared/data. Writes benchmarks/results/extraction_NAME-DATE.json, unless with --dev.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.item import Item
from pilotfish.core.task import Task
from pilotfish.guarantees.attempt import attempt
from pilotfish.scoring.answers import disagreement, parse, render, settle
from pilotfish.scoring.spans import entities_of_tags, entity_corpus
from pilotfish.specialists.load import load
from pilotfish.specialists.specialist import Specialist
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.students.teach import teach

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import cpu_s, labelled, read, save, show

RISK = 0.05
N_DEV = 2000
DELAYS = 300

Pairs = list[tuple[str, str, dict[str, Any]]]
"""The input, what the reference answers, and the row."""


def snips(part: str) -> Pairs:
    rows = [row for row in labelled("snips") if row["split"] == part]
    names = sorted({slot["slot"] for row in rows for slot in row["slots"]})
    found = []
    for row in rows:
        slots = {slot["slot"]: row["text"][slot["start"] : slot["end"]] for slot in row["slots"]}
        frame = {"intent": row["label"], **{name: slots[name] for name in names if name in slots}}
        found.append((row["text"], json.dumps(frame, ensure_ascii=False), row))
    return found


def wnut17(part: str) -> Pairs:
    found = []
    for row in read("ner_wnut17"):
        if row["split"] == part:
            entities = [
                {"type": kind, "text": " ".join(row["tokens"][first : last + 1])}
                for kind, (first, last) in entities_of_tags(row["tags"])
            ]
            text = " ".join(row["tokens"])
            found.append((text, json.dumps(entities, ensure_ascii=False), {"entities": entities}))
    return found


def entity_figures(tested: Pairs, written: list[str]) -> dict[str, float]:
    pairs = [
        (Item(id=str(number), messages=[], expected=row["entities"], tags={}), answer)
        for number, ((_, _, row), answer) in enumerate(zip(tested, written, strict=True))
    ]
    figures = entity_corpus(pairs)
    return {
        "entity_precision": figures["precision"],
        "entity_recall": figures["recall"],
        "entity_f1": figures["micro_f1"],
    }


def coverage(certainty: np.ndarray, differs: np.ndarray, risk: float) -> float:
    """The largest share whose most certain answers differ at most `risk`, never cutting through equal scores."""
    order = np.argsort(-certainty, kind="stable")
    mean = np.cumsum(differs[order]) / np.arange(1, len(order) + 1)
    can_end = np.append(certainty[order][1:] < certainty[order][:-1], True)
    ends = np.flatnonzero((mean <= risk) & can_end)
    return float((ends.max() + 1) / len(order)) if len(ends) else 0.0


def task_of(name: str, learnt: Pairs) -> tuple[Task, list[Example]]:
    shape = settle([answer for _, answer, _ in learnt], [text for text, _, _ in learnt])
    if shape.kind != "extraction":
        sys.exit(f"{name} is no extraction: {shape.why_open or shape.kind}")
    task = Task(id="0" * 16, name=name, instructions_id="", instructions="", shape=shape)
    examples = [
        Example(text=text, answer=parse(shape, answer), time_s=float(number), request_id=str(number))
        for number, (text, answer, _) in enumerate(learnt)
    ]
    return task, examples


def tested_on(
    specialist: Specialist, task: Task, tested: Pairs
) -> tuple[dict[str, Any], list[str], np.ndarray, np.ndarray]:
    texts = [text for text, _, _ in tested]
    said = specialist.predict(texts)
    differs = np.array(
        [
            disagreement(answer, parse(task.shape, given))
            for answer, (_, given, _) in zip(said.answers, tested, strict=True)
        ]
    )
    written = [render(task.shape, values, text) for values, text in zip(said.answers, texts, strict=True)]
    figures = {"tested": len(tested), "answers_right": 1 - float(differs.mean())}
    return figures, written, said.certainty, differs


def learn(
    name: str, learnt: Pairs, tested: Pairs, cache: Path, extra: Callable[..., dict[str, float]] | None
) -> dict[str, Any]:
    encoder = open_encoder(cache)
    started = cpu_s()
    task, examples = task_of(name, learnt)
    settled = cpu_s()
    fitted = teach(examples, task, encoder, cache / "specialists")
    cpu = cpu_s() - settled
    specialist = load(fitted.folder, encoder)
    figures, written, certainty, differs = tested_on(specialist, task, tested)
    delays = []
    for text, _, _ in tested[:DELAYS]:
        at = time.perf_counter()
        specialist.predict([text])
        delays.append(1e3 * (time.perf_counter() - at))
    return {
        "data": f"{name:>8}",
        "learnt": len(fitted.out_of_fold.certainty),
        **figures,
        "best_coverage_at_5%": coverage(certainty, differs, RISK),
        **(extra(tested, written) if extra else {}),
        "out_of_fold_right": 1 - float(fitted.out_of_fold.disagreement.mean()),
        "settle_cpu_s": round(settled - started, 1),
        "fit_cpu_s": round(cpu, 1),
        "folder_mb": round(sum(path.stat().st_size for path in fitted.folder.iterdir()) / 1e6, 1),
        "decision_p50_ms": round(float(np.median(delays)), 2),
    }


def certified(name: str, learnt: Pairs, tested: Pairs, cache: Path) -> dict[str, Any]:
    encoder = open_encoder(cache)
    task, examples = task_of(name, learnt)
    started = cpu_s()
    tried = attempt(task, examples, Claim(max_risk=RISK), number=1, encoder=encoder, folder=cache / "specialists")
    cpu = cpu_s() - started
    verdict = tried.verdict
    if not isinstance(verdict, Certificate) or tried.fitted is None:
        return {"data": name, "refused": verdict.message, "attempt_cpu_s": round(cpu, 1)}
    said = load(tried.fitted.folder, encoder).predict([text for text, _, _ in tested])
    served = (said.certainty >= verdict.min_certainty) & (said.scope >= verdict.min_scope)
    differs = np.array(
        [
            disagreement(answer, parse(task.shape, given))
            for answer, (_, given, _) in zip(said.answers, tested, strict=True)
        ]
    )
    return {
        "data": f"{name:>8}",
        "calibration": verdict.n,
        "certified_coverage": verdict.coverage,
        "bound": verdict.bound,
        "coverage_in_test": float(served.mean()),
        "differs_in_test": float(differs[served].mean()) if served.any() else 0.0,
        "attempt_cpu_s": round(cpu, 1),
    }


PARTS: dict[str, tuple[Callable[[str], Pairs], Callable[..., dict[str, float]] | None]] = {
    "snips": (snips, None),
    "wnut17": (wnut17, entity_figures),
}


def rows_of(name: str, is_dev: bool) -> tuple[Pairs, Pairs]:
    make = PARTS[name][0]
    learnt = make("train")
    if name == "wnut17":
        return learnt, make("dev" if is_dev else "test")
    random.Random(0).shuffle(learnt)
    return (learnt[N_DEV:], learnt[:N_DEV]) if is_dev else (learnt, make("test"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--dev", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        for name in options.parts:
            learnt, tested = rows_of(name, options.dev)
            figures = {"learnt": learn(name, learnt, tested, Path(cache), PARTS[name][1])}
            show(name, [figures["learnt"] | {"folder_mb": str(figures["learnt"]["folder_mb"])}])
            if name == "snips":
                figures["certified"] = certified(name, learnt, tested, Path(cache))
                show("certified", [figures["certified"]])
            if not options.dev:
                save(f"extraction_{name}", **figures)


if __name__ == "__main__":
    main()
