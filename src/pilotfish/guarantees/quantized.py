"""What quantizing a model has changed: size, memory, time, and its answers to the same held-out texts, in pairs.

A quantized model is a candidate against the one it was made from, judged by the fixed rule of `evals/verdict.py`:
harmless is what is shown to be no worse within the margin, and where the data names no right answers, or too few, that
is said instead. Beside it stands what needs no right answers: how many answers flipped, also among the most confident.
Each model runs in a process of its own. How a model is quantized or opened is not known here.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pilotfish.core.measured import Measured
from pilotfish.evals.own_process import in_own_process
from pilotfish.evals.verdict import Comparison, Paired, Rule, compare
from pilotfish.meters.memory import MemoryMeter, tree_bytes
from pilotfish.stats.percentiles import percentile

CONFIDENT_SHARE = 0.85
"""Of the answers, by the confidence of the model before: those that are served under a typical certificate."""

WARM_UP = 5
"""Calls before the clock starts: the first ones load code and fill caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a model said of one text: one answer with its confidence, or one for each token of the text.

    `score` is the share of right ones, None where nobody knows what is right; `loss` the mean negative log-likelihood
    of the text's tokens in nats, for language models.
    """

    answers: list[str]
    confidence: list[float]
    score: float | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that can be asked: the text and the right answer (None where unknown) in, what it says out."""

    ask: Callable[[str, Any], Said]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model to measure: its name, and how it is loaded, which happens in the process that measures it."""

    kind: str
    open: Callable[[], Loaded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One model over all items. `memory` is what it added to a process: its peak less what was there before."""

    kind: str
    size_bytes: int
    memory: Measured
    latencies_s: list[float]
    said: list[Said]

    @property
    def score(self) -> float | None:
        """The mean score, None where the data does not name right answers."""
        known = [said.score for said in self.said if said.score is not None]
        return fmean(known) if len(known) == len(self.said) else None

    @property
    def perplexity(self) -> float | None:
        """Of a language model: e to the mean loss of a text, None of others."""
        losses = [said.loss for said in self.said if said.loss is not None]
        return math.exp(fmean(losses)) if losses else None

    def latency(self, share: float) -> Measured:
        """A percentile of the seconds of one call."""
        return percentile(self.latencies_s, share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A quantized model beside the one it was made from.

    `n_answers` answers were compared, `n_flipped` of which differ; `n_confident` of them were the most confident 85 %
    before, `n_confident_flipped` of which differ. `comparison` is the verdict, None where no right answer is known.
    """

    run: Run
    n_answers: int
    n_flipped: int
    n_confident: int
    n_confident_flipped: int
    comparison: Comparison | None
    kl: float | None = None

    @property
    def is_harmless(self) -> bool:
        """Whether it is shown to be no worse within the margin. Not shown is not harmless."""
        return self.comparison is not None and self.comparison.verdict in ("non-inferior", "better")

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.comparison is None:
            return f"Whether {self.run.kind} is harmless is unknown: the data names no right answers."
        return self.comparison.sentence


def measure(subject: Subject, items: Sequence[tuple[str, Any]]) -> Run:
    """The model over the items (text and right answer), after a warm-up, where possible in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "run.json"
        is_own = in_own_process(lambda: _write(path, subject, items))
        row = json.loads(path.read_text("utf-8"))
    return Run(
        kind=subject.kind,
        size_bytes=row["size_bytes"],
        memory=_memory(row["memory_bytes"], is_own=is_own),
        latencies_s=row["latencies_s"],
        said=[Said(**said) for said in row["said"]],
    )


def judge(
    before: Run, after: Sequence[Run], rule: Rule, kl: Mapping[str, float], clusters: Sequence[str] | None = None
) -> list[Change]:
    """The verdicts on all quantized models together, since each further one is a further chance of a wrong claim.

    `kl` is the mean divergence of a language model's next token, by kind, in nats; `clusters` name what each item hangs
    together with, None where items are independent.
    """
    if before.score is None:
        return [_change(before, run, None, kl.get(run.kind)) for run in after]
    baseline = _scores(before)
    pairs = [
        Paired(
            candidate=run.kind,
            baseline=before.kind,
            scores=_scores(run),
            baseline_scores=baseline,
            clusters=clusters,
        )
        for run in after
    ]
    return [
        _change(before, run, comparison, kl.get(run.kind))
        for run, comparison in zip(after, compare(pairs, rule), strict=True)
    ]


def _scores(run: Run) -> list[float]:
    return [said.score for said in run.said if said.score is not None]


def _change(before: Run, run: Run, comparison: Comparison | None, kl: float | None) -> Change:
    confidence = [value for said in before.said for value in said.confidence]
    has_flipped = [one != other for one, other in zip(_answers(before), _answers(run), strict=True)]
    n_confident = round(CONFIDENT_SHARE * len(confidence))
    surest = sorted(range(len(confidence)), key=lambda index: -confidence[index])[:n_confident]
    return Change(
        run=run,
        n_answers=len(has_flipped),
        n_flipped=sum(has_flipped),
        n_confident=n_confident,
        n_confident_flipped=sum(has_flipped[index] for index in surest),
        comparison=comparison,
        kl=kl,
    )


def _answers(run: Run) -> list[str]:
    return [answer for said in run.said for answer in said.answers]


def _write(path: Path, subject: Subject, items: Sequence[tuple[str, Any]]) -> None:
    there_bytes = tree_bytes(os.getpid())
    meter = MemoryMeter()
    meter.start()
    model = subject.open()
    for text, expected in items[:WARM_UP]:
        model.ask(text, expected)
    latencies_s, said = [], []
    for text, expected in items:
        started_s = time.perf_counter()
        found = model.ask(text, expected)
        latencies_s.append(time.perf_counter() - started_s)
        said.append(asdict(found))
    peak_bytes = meter.stop()[0].value
    added = None if peak_bytes is None or not there_bytes else peak_bytes - there_bytes
    row = {"size_bytes": model.size_bytes, "memory_bytes": added, "latencies_s": latencies_s, "said": said}
    path.write_text(json.dumps(row), "utf-8")


def _memory(added_bytes: float | None, *, is_own: bool) -> Measured:
    if not is_own or added_bytes is None:
        return Measured(value=None, unit="bytes", why_none="the model shared its process with others")
    return Measured(value=added_bytes, unit="bytes", n=1, method="peak resident memory less what was there before")
