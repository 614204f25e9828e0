"""Questions answered from passages (SQuAD, 24 articles): exact match and F1, and the certified coverage.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/students/reading.py [--rows N] [--dev]

The product's way: a text is a passage with its question on the last line, the reference's answer the first of SQuAD's,
and the task is recognised from both. Passages come in random order, each with all of its questions; `guarantees.split`
sets the latest rows aside, the others teach. So the certificate speaks of new passages of the articles that taught; the
test rows are of six other articles, and their exact match and F1 are SQuAD's, against all of its answers, with 95 %
intervals from 1,000 resamples of passages. "agrees" is what certificates count: equality with the first answer. With
--dev a part of the training articles is tested on. Needs ../shared/data and the `train` extra. Writes
benchmarks/results/reading-DATE.json, unless with --dev.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.item import Item
from pilotfish.core.task import Task
from pilotfish.guarantees.certify import Evidence, Terms, certify
from pilotfish.guarantees.fitting import look
from pilotfish.guarantees.split import data_sha256, split
from pilotfish.scoring.answers import disagreement, parse, render, settle
from pilotfish.scoring.spans import score_squad
from pilotfish.specialists.load import load
from pilotfish.specialists.specialist import Predictions, Specialist
from pilotfish.students import weights
from pilotfish.students.reading import distil_reading
from pilotfish.students.recipe import Recipe, Tuning

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import cpu_s, read, save, show

CLAIMS = (Claim(max_risk=0.05), Claim(max_risk=0.1), Claim(max_risk=0.2))
DEV_ARTICLES = ("Warsaw", "Pharmacy", "Yuan_dynasty", "Force")
N_RESAMPLES = 1000
N_TIMED = 300

Rows = list[dict[str, Any]]


def rows(is_dev: bool, most: int) -> tuple[Rows, Rows]:
    """What teaches and certifies, passages in random order, and what is tested on."""
    known = read("qa_squad_24_articles")
    train = [row for row in known if row["split"] == "train"]
    tested = [row for row in known if row["split"] == "test"]
    if is_dev:
        tested = [row for row in train if row["title"] in DEV_ARTICLES]
        train = [row for row in train if row["title"] not in DEV_ARTICLES]
    passages: dict[str, Rows] = defaultdict(list)
    for row in train:
        passages[row["context"]].append(row)
    order = list(passages)
    random.Random(0).shuffle(order)
    return [row for passage in order for row in passages[passage]][:most], tested


def text_of(row: dict[str, Any]) -> str:
    return f"{row['context']}\n\nQuestion: {row['question']}"


def task_of(learnt: Rows) -> Task:
    shape = settle([row["answers"][0] for row in learnt], [text_of(row) for row in learnt])
    if shape.question is None:
        sys.exit(f"not recognised as questions of passages: {shape.why_open or shape.kind}")
    return Task(id="0" * 16, name="squad", instructions_id="", instructions="", shape=shape)


def squad_figures(specialist: Specialist, task: Task, tested: Rows) -> tuple[dict[str, Any], Predictions, np.ndarray]:
    """Exact match and F1 with intervals; what was said, and of each row whether it differs from the first answer."""
    texts = [text_of(row) for row in tested]
    said = specialist.predict(texts)
    scores = np.zeros((len(tested), 2))
    for number, (row, values) in enumerate(zip(tested, said.answers, strict=True)):
        item = Item(id=row["id"], messages=[], expected=row["answers"], tags={})
        written = render(task.shape, values, texts[number])
        scores[number] = [score_squad(item, written, exact=exact).value for exact in (True, False)]
    differs = np.array(
        [
            disagreement(values, parse(task.shape, row["answers"][0]))
            for values, row in zip(said.answers, tested, strict=True)
        ]
    )
    by_passage: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(tested):
        by_passage[row["context"]].append(number)
    clusters = [np.array(found) for found in by_passage.values()]
    rng = np.random.default_rng(0)
    resampled = [
        scores[np.concatenate([clusters[i] for i in rng.integers(len(clusters), size=len(clusters))])].mean(axis=0)
        for _ in range(N_RESAMPLES)
    ]
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    exact, f1 = scores.mean(axis=0)
    figures = {
        "tested": len(tested),
        "exact_match": float(exact),
        "exact_match_interval": [float(low[0]), float(high[0])],
        "f1": float(f1),
        "f1_interval": [float(low[1]), float(high[1])],
        "agrees": 1 - float(differs.mean()),
        "f1_by_certainty_fifth": [
            float(scores[part, 1].mean()) for part in np.array_split(np.argsort(-said.certainty, kind="stable"), 5)
        ],
    }
    return figures, said, differs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--dev", action="store_true")
    parser.add_argument("--home", type=Path, help="Keep the work here, so that an interrupted run is taken up.")
    options = parser.parse_args()
    train, tested = rows(options.dev, options.rows)
    task = task_of(train)
    examples = [
        Example(text=text_of(row), answer=parse(task.shape, row["answers"][0]), time_s=float(i), request_id=str(i))
        for i, row in enumerate(train)
    ]
    parts = split(examples)
    plan = Tuning(weights=weights.find(), recipe=Recipe(n_epochs=options.epochs), announce=print)
    with tempfile.TemporaryDirectory() as temporary:
        home = options.home or Path(temporary)
        started = cpu_s()
        taught = [examples[i] for i in parts.fit]
        fitted = distil_reading(taught, task, home, plan, is_worth=lambda _: True, progress=progress)
        fit_cpu_s = cpu_s() - started
        if fitted is None:
            sys.exit("too few rows teach")
        specialist = load(fitted.folder, None)
        folder_mb = sum(path.stat().st_size for path in fitted.folder.iterdir()) / 1e6
        figures, told, differs = squad_figures(specialist, task, tested)
        learnt = {
            "learnt": len(taught),
            "fit_cpu_s": round(fit_cpu_s, 1),
            "folder_mb": round(folder_mb, 1),
            **specialist.card.scores,
            **figures,
            "decision_p50_ms": timed(specialist, [text_of(row) for row in tested[:N_TIMED]]),
        }
        calibration = [examples[i] for i in parts.calibration]
        said = specialist.predict([row.text for row in calibration])
        evidence = Evidence(
            **{
                name: getattr(look(fitted.out_of_fold), name)
                for name in ("fold_losses", "fold_certainty", "fold_scope")
            },
            losses=[disagreement(answer, row.answer) for answer, row in zip(said.answers, calibration, strict=True)],
            certainty=said.certainty.tolist(),
            scope=said.scope.tolist(),
        )
        learnt["agrees_in_calibration"] = 1 - float(np.mean(evidence.losses))
        certified = []
        for claim in CLAIMS:
            terms = Terms(
                task_id=task.id,
                task_name=task.name,
                attempt=1,
                created_at="",
                split_rule=parts.rule,
                data_sha256=data_sha256(calibration),
                artefact_sha256=specialist.sha256,
                request_ids=tuple(row.request_id for row in calibration),
            )
            verdict = certify(evidence, claim, terms)
            row: dict[str, Any] = {"max_risk": claim.max_risk, "calibration": len(calibration)}
            if isinstance(verdict, Certificate):
                served = (told.certainty >= verdict.min_certainty) & (told.scope >= verdict.min_scope)
                row |= {
                    "certified_coverage": verdict.coverage,
                    "bound": verdict.bound,
                    "coverage_in_test": float(served.mean()),
                    "differs_in_test": float(differs[served].mean()) if served.any() else 0.0,
                }
            else:
                row |= {"certified_coverage": 0.0, "refused": verdict.message, "passing_risk": verdict.passing_risk}
            certified.append(row)
    show("squad_24", [{key: value for key, value in learnt.items() if not isinstance(value, list)}])
    for row in certified:
        show("certified", [row])
    if not options.dev:
        save("reading", learnt=learnt, certified=certified)


def timed(specialist: Specialist, texts: list[str]) -> float:
    """The median of single decisions in milliseconds."""
    delays = []
    for text in texts:
        at = time.perf_counter()
        specialist.predict([text])
        delays.append(1e3 * (time.perf_counter() - at))
    return round(float(np.median(delays)), 1)


def progress(stage: str, done: int, total: int) -> None:
    if done == total or done % 50 == 0:
        print(f"{stage}: {done:,} of {total:,}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
