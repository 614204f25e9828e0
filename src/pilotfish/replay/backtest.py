"""`backtest`: what if Pilotfish had stood in front of this traffic?

The verb that ties the replay together: recognise tasks, replay each task in time order, measure
the local decision, and ask what observing longer would have bought. No model is called.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.messages import Price
from pilotfish.guarantees.advance import Workshop
from pilotfish.guarantees.attempt import attempt
from pilotfish.replay.recorded import TaskTraffic, by_task
from pilotfish.replay.report import Longer, Report, cost
from pilotfish.replay.timeline import Embeddings, Replayed, Setup, Timeline
from pilotfish.scoring import answers
from pilotfish.specialists.load import load
from pilotfish.store.traffic import Traffic
from pilotfish.students.distil import Progress
from pilotfish.tasks.shapes import Given, settle_shape

if TYPE_CHECKING:  # without an encoder nothing of what runs one is installed
    from pilotfish.specialists.encoder import Encoder
    from pilotfish.students.recipe import Tuning

N_TIMED = 200
"""Local decisions timed one by one for the latency figures."""

LONGER = (0.25, 0.5, 0.75)
"""Shares of a task's rows at which "observe longer" is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to replay. `observe` is the number of requests to observe before serving, None for auto.

    `audit_rate` is chosen by each certificate where it is None. With `tuning` encoders are fine-tuned as they would be
    live, but for the question what observing longer would have bought.
    """

    observe: int | None = None
    audit_rate: float | None = None
    first_after: int = 300
    growth: float = 1.5
    price: Price | None = None
    what_if: bool = True
    seed: int = 0
    tuning: Tuning | None = None


def backtest(
    traffic: Traffic,
    claim: Claim,
    encoder: Encoder | None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Report:
    """Replay recorded traffic under a promise.

    Raises `TrafficError` through `read_traffic` only; a log in which nothing can be learnt gives a
    report whose tasks carry refusals.
    """
    options = options or Options()
    show = progress or _silent
    tasks, others = by_task(traffic.exchanges)
    replayed: list[Replayed] = []
    longer: list[Longer] = []
    local_s: list[float] = []
    with tempfile.TemporaryDirectory(prefix="pilotfish-backtest-") as folder:
        setup = Setup(
            workshop=Workshop(claim=claim, encoder=encoder, folder=Path(folder), tuning=options.tuning),
            first_after=options.first_after,
            growth=options.growth,
            is_patient=options.observe is None,
            audit_rate=options.audit_rate,
            seed=options.seed,
        )
        for task in tasks:
            found, more, timed = _replay(task, setup, options, show)
            replayed.append(found)
            longer += more
            local_s += timed
    return Report(
        n_requests=len(traffic.exchanges),
        unreadable=[str(row) for row in traffic.unreadable],
        claim=claim,
        tasks=replayed,
        cost=cost(replayed, [exchange.usage for exchange in others], options.price),
        local_s=local_s,
        longer=longer,
        format=traffic.format,
    )


def _replay(
    traffic: TaskTraffic, setup: Setup, options: Options, show: Progress
) -> tuple[Replayed, list[Longer], list[float]]:
    texts = [row.text for row in traffic.rows]
    embeddings = Embeddings(texts, setup.workshop.encoder)
    serve_from = max(traffic.known_from, (options.observe or 0) + 1)
    timeline = Timeline(traffic.task, traffic.rows, embeddings, replace(setup, serve_from=serve_from))
    found = timeline.run(lambda done: show(f"replaying {traffic.task.name}"[:28], done, len(texts)))
    more = _observing_longer(traffic, embeddings, setup, show) if options.what_if else []
    return found, more, _time_local(found, setup) if found.adopted else []


def _observing_longer(traffic: TaskTraffic, embeddings: Embeddings, setup: Setup, show: Progress) -> list[Longer]:
    """Certify once on everything up to a quarter, half and three quarters of the task's rows."""
    found = []
    n = len(traffic.rows)
    for step, portion in enumerate(LONGER):
        show("what if observed longer", step, len(LONGER))
        n_known = int(portion * n)
        if n_known < setup.first_after:
            continue
        known = traffic.rows[:n_known]
        shape = settle_shape([Given(text=row.text, answer=row.answer) for row in known])
        if not shape.is_closed:
            continue
        examples = [
            Example(
                text=row.text,
                answer=answers.parse(shape, row.answer),
                time_s=row.time_s,
                request_id=str(row.position),
            )
            for row in known
        ]
        tried = attempt(
            replace(traffic.task, shape=shape),
            examples,
            setup.workshop.claim,
            number=1,
            encoder=setup.workshop.encoder,
            folder=setup.workshop.folder,
            embeddings=embeddings.upto(n_known),
        )
        coverage = tried.verdict.coverage if isinstance(tried.verdict, Certificate) else 0.0
        found.append(
            Longer(
                task=traffic.task.name,
                position=known[-1].position,
                certified_coverage=coverage,
                share_of_all=coverage * (1 - portion),
            )
        )
    show("what if observed longer", len(LONGER), len(LONGER))
    return found


def _time_local(found: Replayed, setup: Setup) -> list[float]:
    """Seconds of whole local decisions (n-grams; where these do not decide, encoding and all students), one text at a
    time, after a warm-up."""
    adopted = found.adopted[-1][1]
    fitted, policy = adopted.fitted, adopted.policy
    assert fitted is not None
    specialist = load(fitted.folder, setup.workshop.encoder)
    texts = [found.rows[i].text for i in np.flatnonzero(found.ran)[-N_TIMED:]]
    specialist.predict(texts[:1])
    seconds = []
    for text in texts:
        started = time.perf_counter()
        first = specialist.predict_first([text]) if policy.gates.first is not None else None
        if first is None or not policy.accepts_first(float(first.certainty[0]), float(first.scope[0])):
            specialist.predict([text])
        seconds.append(time.perf_counter() - started)
    return seconds


def _silent(stage: str, done: int, total: int) -> None:
    """No progress display."""
