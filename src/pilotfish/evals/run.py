"""The run: every item, every model, every repeat, one line each; what is already in the file is not asked again.

Models take their turns, so that memory and energy belong to one of them; each is opened when its turn comes and
closed after it. A model that cannot be reached, or refuses the key, stops the run before it fills the file with
failures; later failures are rows and count as wrong. What takes long to score is scored after the model's turn
(`late_scores.py`), so that neither its speed nor its energy is that of the scorer. Statistics and reports are made from
the file alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pilotfish.core.errors import ModelError, ModelTimeoutError, SpecialistError
from pilotfish.core.item import Item
from pilotfish.evals.answerers import Answerer, Response, is_fatal
from pilotfish.evals.candidates import Candidate
from pilotfish.evals.late_scores import LateScorer, finished, score_late
from pilotfish.evals.load_shape import LoadShape, drive
from pilotfish.evals.own_process import in_own_process
from pilotfish.evals.perturb import perturbed
from pilotfish.evals.run_file import AnswerRow, ModelRow, RunFile, SessionRow
from pilotfish.meters.base import Meter
from pilotfish.meters.build import memory_meters, work_meters
from pilotfish.scoring.score import Score
from pilotfish.scoring.scorers import Scorer

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to ask. `variants` are names of perturbations; `timeout_s` counts for one call.

    With `rescores` a recorded answer is judged by the scorer of this run, like everybody's; without, and where no
    answer was recorded, the score that it brings stays.
    """

    repeats: int = 1
    shape: LoadShape = field(default_factory=LoadShape)
    timeout_s: float = 120.0
    variants: tuple[str, ...] = ()
    estimate_watts: float | None = None
    seed: int = 0
    rescores: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to ask."""

    item: Item
    repeat: int
    variant: str = ""


def run(
    items: Sequence[Item],
    candidates: Sequence[Candidate],
    scorer: Scorer | LateScorer,
    file: RunFile,
    options: Options,
    progress: Progress = lambda stage, done, total: None,
) -> None:
    """Ask what the file does not hold yet, and score what has no score yet.

    Raises a `ModelError` where a model cannot be reached at all (everything answered so far is in the file), and
    `DataError` before anybody is asked where a late scorer cannot score some item.
    """
    if isinstance(scorer, LateScorer):
        for item in items:
            scorer.check(item)
    for candidate in candidates:
        file.add_model(
            ModelRow(
                name=candidate.name,
                kind=candidate.kind,
                spec=candidate.spec,
                sha256=candidate.sha256,
                is_local=candidate.is_local,
                price=_price(candidate),
            )
        )
    for candidate in candidates:
        if jobs := _jobs(items, candidate, file, options):
            turn = _Turn(candidate, None if isinstance(scorer, LateScorer) else scorer, file, options, progress)
            if not candidate.is_local:
                asyncio.run(turn.take(jobs))
            elif in_own_process(lambda turn=turn, jobs=jobs: asyncio.run(turn.take(jobs))):  # type: ignore[misc]
                file.catch_up()
        if isinstance(scorer, LateScorer):
            score_late(items, candidate.name, scorer, file, seed=options.seed, progress=progress)


def _jobs(items: Sequence[Item], candidate: Candidate, file: RunFile, options: Options) -> list[Job]:
    """What is left to ask of one model; a recording has no variants, having heard none."""
    jobs = [Job(item, repeat) for repeat in range(options.repeats) for item in items]
    if not candidate.recordings:
        for variant in options.variants:
            changed = [perturbed(item, variant, options.seed) for item in items]
            jobs += [Job(item, 0, variant) for item in changed if item is not None]
    return [job for job in jobs if (candidate.name, job.item.id, job.repeat, job.variant) not in file.answers]


def _price(candidate: Candidate) -> str:
    price = candidate.price
    if price is None:
        return ""
    return f"{price.input_usd_per_mtok:g} in, {price.output_usd_per_mtok:g} out ({price.source or 'no source stated'})"


class _Turn:
    """One model's turn. Without a `scorer` its answers are scored later."""

    def __init__(
        self,
        candidate: Candidate,
        scorer: Scorer | None,
        file: RunFile,
        options: Options,
        progress: Progress,
    ) -> None:
        self._candidate = candidate
        self._score = scorer
        self._file = file
        self._options = options
        self._progress = progress
        self._n_done = self._n_answered = 0
        self._tokens: int | None = None
        self._n_total = 0

    async def take(self, jobs: Sequence[Job]) -> None:
        """Ask all `jobs`; the session is entered however it ends, if anything was answered."""
        self._n_total = len(jobs)
        started_s, started = time.time(), time.perf_counter()
        memory = _started(memory_meters() if self._candidate.is_local else [])
        work: list[Meter] = []
        measured = loaded = started
        is_whole = False
        try:
            answerer = await asyncio.to_thread(self._candidate.open)
            loaded = time.perf_counter()
            try:
                await self._warm_up(answerer, jobs)
                work = _started(work_meters(self._options.estimate_watts) if self._candidate.is_local else [])
                measured = time.perf_counter()
                await drive(jobs, lambda job, sent_s: self._ask(answerer, job, sent_s), self._options.shape)
                is_whole = True
            finally:
                await answerer.aclose()
        finally:
            wall_s = time.perf_counter() - measured
            readings = [asdict(reading) for meter in (*memory, *work) for reading in meter.stop()]
            if self._n_done:
                self._enter(started_s, wall_s, loaded - started, readings, is_whole)

    def _enter(
        self, started_s: float, wall_s: float, load_s: float, readings: list[dict[str, Any]], is_whole: bool
    ) -> None:
        self._file.add_session(
            SessionRow(
                model=self._candidate.name,
                started_s=started_s,
                wall_s=wall_s,
                load_s=load_s,
                n=self._n_done,
                completion_tokens=self._tokens,
                load=str(self._options.shape),
                warm_up=self._n_warm_up(),
                is_whole=is_whole,
                readings=readings,
            )
        )

    def _n_warm_up(self) -> int:
        return 0 if self._candidate.kind == "recording" else self._options.shape.warm_up

    async def _warm_up(self, answerer: Answerer, jobs: Sequence[Job]) -> None:
        for job in jobs[: self._n_warm_up()]:
            await self._answered(answerer, job, time.perf_counter())

    async def _ask(self, answerer: Answerer, job: Job, sent_s: float) -> None:
        time_s = time.time() - (time.perf_counter() - sent_s)
        response, error = await self._answered(answerer, job, sent_s)
        is_kept = not self._options.rescores or not response.answer
        score = response.score if is_kept else None
        if score is None:
            score = self._judged(job.item, response, error)
        self._file.add_answer(_row(self._candidate.name, job, response, score, time_s, error))
        self._n_done += 1
        if response.usage is not None:
            self._tokens = (self._tokens or 0) + response.usage.completion
        self._progress(f"asking {self._candidate.name}"[:28], self._n_done, self._n_total)

    def _judged(self, item: Item, response: Response, error: str) -> Score | None:
        """The score of what was answered, a failure counting as wrong; None where it is scored later."""
        if response.failure in ("error", "timeout"):
            return Score(0.0, response.failure, error)
        return None if self._score is None else finished(self._score(item, response.answer), response.finish_reason)

    async def _answered(self, answerer: Answerer, job: Job, sent_s: float) -> tuple[Response, str]:
        """The response, or one that is a failure, and the error behind it."""
        try:
            async with asyncio.timeout(self._options.timeout_s):
                response = await answerer.ask(job.item, job.repeat, sent_s)
        except (TimeoutError, ModelTimeoutError) as error:
            return Response(answer="", failure="timeout"), str(error) or f"none within {self._options.timeout_s:g} s"
        except (ModelError, SpecialistError) as error:
            if not self._n_answered and is_fatal(error):
                raise
            return Response(answer="", failure="error"), str(error)
        self._n_answered += 1
        return response, ""


def _started(meters: list[Meter]) -> list[Meter]:
    for meter in meters:
        meter.start()
    return meters


def _row(model: str, job: Job, response: Response, score: Score | None, time_s: float, error: str) -> AnswerRow:
    usage = response.usage
    is_scored = score is not None
    score = score or Score(0.0)
    return AnswerRow(
        model=model,
        item=job.item.id,
        cluster=job.item.cluster,
        repeat=job.repeat,
        variant=job.variant,
        answer=response.answer,
        score=float(score.value),
        failure=score.failure,
        note=score.note,
        prompt_tokens=None if usage is None else usage.prompt,
        completion_tokens=None if usage is None else usage.completion,
        cached_tokens=None if usage is None else usage.cached,
        cost_usd=response.cost_usd,
        ttft_s=response.ttft_s,
        latency_s=response.latency_s,
        gaps_ms=[round(1e3 * gap, 3) for gap in response.gaps_s],
        certainty=response.certainty,
        is_escalated=response.is_escalated,
        time_s=round(time_s, 6),
        error=error,
        finish_reason="" if response.finish_reason == "stop" else response.finish_reason,
        is_scored=is_scored,
    )
