"""What fewer bits do to a specialist: size, memory, time and flips of fp32, dynamic and static int8, and int4.

    OPENBLAS_NUM_THREADS=1 python benchmarks/students/quantize.py [--texts N]

banking77, learnt on its official training split with the encoder that serves (dynamic int8); the heads stay the same,
only the encoder's precision changes. Compared on the test split, item by item, with fp32 as the model before. Targets:
dynamic int8 flips at most 1 % of the answers, none among the most confident 85 %. Static int8 is calibrated on
training texts. Needs ../shared/data. Writes benchmarks/results/quantize-DATE.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.evals.verdict import Rule
from pilotfish.guarantees.quantized import Change, Loaded, Run, Said, Subject, judge, measure
from pilotfish.scoring.answers import disagreement, parse, settle
from pilotfish.specialists.card import Folder, read_folder
from pilotfish.specialists.encoder import Encoder
from pilotfish.specialists.specialist import Specialist
from pilotfish.students import weights
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.students.quantize import FP32, KINDS, quantize_encoder

sys.path[:0] = [str(Path(__file__).parents[1])]

from record import labelled, save, show  # noqa: E402


def opened(checked: Folder, folder: Path, size_bytes: int) -> Loaded:
    specialist, shape = Specialist(checked, Encoder.load(folder)), checked.card.shape

    def ask(text: str, expected: str) -> Said:
        found = specialist.predict([text])
        right = 1 - disagreement(found.answers[0], parse(shape, expected))
        return Said(answers=[found.answers[0][0]], confidence=[float(found.certainty[0])], score=right)

    return Loaded(ask=ask, size_bytes=size_bytes)


def row_of(run: Run, change: Change | None) -> dict[str, Any]:
    quantiles_s = {share: run.latency(share).value for share in (0.5, 0.95)}
    return {
        "kind": run.kind,
        "encoder_mb": round(run.size_bytes / 1e6, 2),
        "memory_mb": None if run.memory.value is None else round(run.memory.value / 1e6, 1),
        **{f"p{100 * share:g}_ms": None if s is None else round(1e3 * s, 2) for share, s in quantiles_s.items()},
        "accuracy": run.score,
        "answers": len(run.said),
        "flips": change and change.n_flipped,
        "surest": change and change.n_confident,
        "surest_flips": change and change.n_confident_flipped,
        "verdict": change and change.comparison and change.comparison.verdict,
    }


def cell_of(row: dict[str, Any]) -> dict[str, Any]:
    """The same for people: as wide as its column's name, a dash where there is nothing."""
    sizes = {key: f"{row[key] or float('nan'):.1f}" for key in ("encoder_mb", "memory_mb")}
    width = {"kind": f"{row['kind']:>17}", "verdict": f"{row['verdict'] or '-':>15}"}
    return {key: "-" if value is None else value for key, value in {**row, **sizes, **width}.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=3080)
    n_texts = parser.parse_args().texts
    rows = labelled("banking77")
    train = [row for row in rows if row["split"] == "train"]
    items = [(row["text"], row["label"]) for row in rows if row["split"] == "test"][:n_texts]
    shape = settle(row["label"] for row in train)
    task = Task(id="0" * 16, name="banking", instructions_id="", instructions="", shape=shape)
    examples = [Example(text=row["text"], answer=parse(shape, row["label"]), time_s=0) for row in train]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        checked = read_folder(distil(examples, task, open_encoder(place / "cache"), place / "home").folder)
        calibration = [row["text"] for row in train[:: len(train) // 128]]
        runs = []
        for kind in (FP32, *KINDS):
            size_bytes = quantize_encoder(weights.DEFAULT, kind, place / kind, calibration)
            runs.append(measure(Subject(kind=kind, open=partial(opened, checked, place / kind, size_bytes)), items))
            print(f"{kind} measured", flush=True)
    changes = {change.run.kind: change for change in judge(runs[0], runs[1:], Rule(), {})}
    figures = [row_of(run, changes.get(run.kind)) for run in runs]
    show("banking77, one specialist, the encoder in other precisions", [cell_of(row) for row in figures])
    for change in changes.values():
        print(change.sentence)
    targets = {"onnx-dynamic-int8 flips": 0.01, "of the surest 85 %": 0}
    print(save("quantize", targets=targets, figures=figures).name)


if __name__ == "__main__":
    main()
