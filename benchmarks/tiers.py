"""Two tiers against the mixture alone: coverage, what the first tier takes, and the time of one local decision.

    OPENBLAS_NUM_THREADS=1 python benchmarks/tiers.py [--seeds 3]

The first rows of a shuffled data set teach and calibrate as the product splits them; the others are later traffic. Both
certificates are first attempts per answer about the same specialist and the same calibration rows: with its first
tier, as deployed, and with the mixture alone. Time is that of whole decisions, one text at a time on one thread, by the
wall clock and by the thread's CPU clock, which a busy machine disturbs less. Of the gateway's part the price of waking
the inference thread is measured, which a short text's first tier is spared.
Needs ../shared/data. Writes benchmarks/results/tiers-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.config.load import cache
from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.task import AnswerShape, Task
from pilotfish.gateway.local import Inference
from pilotfish.guarantees.certify import Evidence, Terms, certify
from pilotfish.guarantees.fitting import look
from pilotfish.guarantees.split import split
from pilotfish.routing.policy import Policy, policy_of
from pilotfish.scoring.answers import disagreement, parse, settle
from pilotfish.specialists.encoder import Encoder
from pilotfish.specialists.specialist import Predictions, Specialist
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import open_encoder

from record import labelled, save, show

OBSERVED = {"banking77": 11_500, "customer_support_bitext": 4_000, "snips": 4_000}
RISKS = (0.02, 0.05)
TERMS = Terms(task_id="", task_name="", attempt=1, created_at="")
N_TIMED = 1000


@dataclass(frozen=True)
class Learnt:
    """A specialist, the evidence of both tiers, and later rows."""

    specialist: Specialist
    evidence: Evidence
    later: list[Example]
    shape: AnswerShape


def learn(name: str, seed: int, encoder: Encoder, home: Path) -> Learnt:
    rows = labelled(name)
    random.Random(seed).shuffle(rows)
    shape = settle(row["label"] for row in rows)
    task = Task(id="0" * 16, name=name, instructions_id="", instructions="", shape=shape)
    examples = [
        Example(text=row["text"], answer=parse(shape, row["label"]), time_s=float(i)) for i, row in enumerate(rows)
    ]
    known, later = examples[: OBSERVED[name]], examples[OBSERVED[name] :]
    parts = split(known)
    fitted = distil([known[i] for i in parts.fit], task, encoder, home)
    specialist = Specialist.load(fitted.folder, encoder)
    calibration = [known[i] for i in parts.calibration]
    texts = [row.text for row in calibration]
    seen = look(fitted.out_of_fold)
    assert seen.first is not None
    full = with_rows(seen, specialist.predict(texts), calibration)
    evidence = replace(full, first=with_rows(seen.first, specialist.predict_first(texts), calibration))
    return Learnt(specialist, evidence, later, shape)


def with_rows(seen: Evidence, said: Predictions, rows: list[Example]) -> Evidence:
    losses = [disagreement(answer, row.answer) for answer, row in zip(said.answers, rows, strict=True)]
    return replace(seen, losses=losses, certainty=said.certainty.tolist(), scope=said.scope.tolist())


def decide(specialist: Specialist, policy: Policy, text: str) -> tuple[int, tuple[str, ...]]:
    """Which tier answers (0 defers), and what: one local decision, as the gateway makes it."""
    if policy.gates.first is not None:
        first = specialist.predict_first([text])
        if policy.accepts_first(float(first.certainty[0]), float(first.scope[0])):
            return 1, first.answers[0]
    full = specialist.predict([text])
    is_served = policy.decide(float(full.certainty[0]), float(full.scope[0])) == "certified"
    return 2 if is_served else 0, full.answers[0]


def measure(name: str, max_risk: float, seed: int, learnt: Learnt) -> list[dict[str, Any]]:
    cells = []
    for tiers, evidence in (("one", replace(learnt.evidence, first=None)), ("two", learnt.evidence)):
        verdict = certify(evidence, Claim(max_risk=max_risk), TERMS)
        if not isinstance(verdict, Certificate):
            print(name, max_risk, tiers, verdict.message)
            continue
        policy, seconds, cpu, tier, wrong = policy_of(verdict), [], [], [], []
        for row in learnt.later:
            started, cpu_started = time.perf_counter(), time.thread_time()
            by, answer = decide(learnt.specialist, policy, row.text)
            seconds.append(time.perf_counter() - started)
            cpu.append(time.thread_time() - cpu_started)
            tier.append(by)
            wrong.append(by > 0 and answer != row.answer)
        served = np.array(tier) > 0
        cells.append(
            {
                "data": name,
                "max_risk": max_risk,
                "seed": seed,
                "tiers": tiers,
                "certified": verdict.coverage,
                "coverage": float(served.mean()),
                "by_first_tier": float((np.array(tier) == 1).mean()),
                "disagreement": float(np.array(wrong).sum() / max(1, served.sum())),
                "mean_cpu_ms": 1e3 * float(np.mean(cpu[:N_TIMED])),
                "p50_cpu_ms": 1e3 * float(np.quantile(cpu[:N_TIMED], 0.5)),
                "p95_cpu_ms": 1e3 * float(np.quantile(cpu[:N_TIMED], 0.95)),
                "p50_ms": 1e3 * float(np.quantile(seconds[:N_TIMED], 0.5)),
                "p95_ms": 1e3 * float(np.quantile(seconds[:N_TIMED], 0.95)),
            }
        )
    return cells


def switching(learnt: Learnt) -> dict[str, float]:
    """Milliseconds of a first tier on the event loop and through the inference thread, by the length of the text."""

    async def run() -> dict[str, float]:
        inline, queued, found = Inference(inline_characters=1 << 30), Inference(inline_characters=0), {}
        joined = " ".join(row.text for row in learnt.later)
        for length in (60, 250, 500, 1000, 2000):
            texts = [joined[i * length : (i + 1) * length] for i in range(min(300, len(joined) // length))]
            for inference in (inline, queued):
                seconds = []
                for text in texts:
                    started = time.perf_counter()
                    await inference.predict_first(learnt.specialist, learnt.shape, text)
                    seconds.append(time.perf_counter() - started)
                way = "loop" if inference is inline else "thread"
                found[f"{length} characters, {way}_ms"] = 1e3 * float(np.median(seconds))
        queued.close()
        return found

    return asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    encoder = open_encoder(cache())
    cells: list[dict[str, Any]] = []
    latency: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as home:
        for name in OBSERVED:
            for seed in range(seeds):
                learnt = learn(name, seed, encoder, Path(home))
                latency = latency or switching(learnt)
                for max_risk in RISKS:
                    found = measure(name, max_risk, seed, learnt)
                    show(f"{name}, seed {seed}", found)
                    cells += found
    print({key: round(value, 3) for key, value in latency.items()})
    save("tiers", figures=cells, first_tier_in_the_gateway=latency)


if __name__ == "__main__":
    main()
