"""Scoring that takes long (tests that run, a model that judges, the user's own function), after the model's turn.

While a model is asked, its speed and its energy are measured; a judge that is waited for in between would be measured
with it. So its answers are written without a score, and scored from the file once its turn is over. A run that was
killed goes on where it stopped here too: no answer is asked for, or scored, twice.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from pilotfish.core.errors import DataError, UserError
from pilotfish.core.item import Item
from pilotfish.evals.load_shape import LoadShape, drive
from pilotfish.evals.perturb import perturbed
from pilotfish.evals.run_file import AnswerRow, RunFile, ScoreRow
from pilotfish.scoring.score import Score, with_finish
from pilotfish.scoring.scorers import Scorer

Verdicts = tuple[str, ...]
"""What a judge said in both orders; empty where nobody judged."""

Judged = Callable[[Item, str], Awaitable[tuple[Score, Verdicts]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LateScorer:
    """`check` raises `DataError` for an item that cannot be scored; what `open` gives scores while it is open."""

    check: Callable[[Item], object]
    open: Callable[[], AbstractAsyncContextManager[Judged]]
    concurrency: int


def timely(name: str, scorer: Scorer) -> Scorer | LateScorer:
    """The scorer itself where it is quick, else a late one. Raises `UserError` for a judge without a model."""
    if name == "judge":
        raise UserError("The scorer 'judge' needs a model that judges.", hint="Name one: --judge MODEL.")
    if name != "unit_tests" and ":" not in name:
        return scorer

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Judged, None]:
        async def judged(item: Item, answer: str) -> tuple[Score, Verdicts]:
            return await asyncio.to_thread(scorer, item, answer), ()

        yield judged

    # Tests are timed, so they do not share a core; the user's function need not bear being called twice at a time.
    n_tests = max(1, (os.cpu_count() or 1) // 2) if name == "unit_tests" else 1
    return LateScorer(check=_has_tests if name == "unit_tests" else lambda item: None, open=opened, concurrency=n_tests)


def finished(score: Score, finish_reason: str) -> Score:
    """The score once it is known how the answer ended. A failure counts as wrong, whatever part of it was right."""
    score = with_finish(score, finish_reason)
    return Score(0.0, score.failure, score.note) if score.failure else score


def score_late(
    items: Sequence[Item],
    model: str,
    scorer: LateScorer,
    file: RunFile,
    *,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> None:
    """Score every answer of `model` that has no score yet; each score is in the file as soon as it is known."""
    asked = {item.id: item for item in items}
    waiting = [row for row in file.answers.values() if row.model == model and not row.is_scored and row.item in asked]
    if waiting:
        asyncio.run(_score_all(asked, waiting, scorer, file, seed, lambda n: _say(progress, model, n, len(waiting))))


async def _score_all(
    items: dict[str, Item],
    rows: Sequence[AnswerRow],
    scorer: LateScorer,
    file: RunFile,
    seed: int,
    progress: Callable[[int], None],
) -> None:
    n_done = 0
    async with scorer.open() as judged:

        async def work(row: AnswerRow, _due_s: float) -> None:
            nonlocal n_done
            item = items[row.item]
            changed = perturbed(item, row.variant, seed) if row.variant else item
            score, verdicts = await judged(changed or item, row.answer)
            score = finished(score, row.finish_reason)
            file.add_score(
                ScoreRow(
                    model=row.model,
                    item=row.item,
                    repeat=row.repeat,
                    variant=row.variant,
                    score=float(score.value),
                    failure=score.failure,
                    note=score.note,
                    verdicts=list(verdicts),
                )
            )
            n_done += 1
            progress(n_done)

        await drive(rows, work, LoadShape(clients=scorer.concurrency))


def _say(progress: Callable[[str, int, int], None], model: str, n_done: int, n_total: int) -> None:
    progress(f"scoring {model}"[:28], n_done, n_total)


def _has_tests(item: Item) -> None:
    if not item.tests:
        raise DataError(f"Item {item.id!r} has no tests, which the scorer 'unit_tests' runs.")
