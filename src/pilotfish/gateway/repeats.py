"""Repeats: after the reply has left, ask the reference the very same again, to learn how far it agrees with itself.

Only with consent to spend (`[consistency] calls`) and only for tasks whose answers form a closed set. Which requests
are asked again is decided by a coin and the budget, never by what a request says or by who answered it, so they are an
unbiased sample. A call is written down before it is made: neither a restart nor a crash spends the budget twice.
"""

from __future__ import annotations

import dataclasses
import logging
import random
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pilotfish.config.settings import ConsistencySettings
from pilotfish.core.errors import ModelError, PilotfishError
from pilotfish.core.log_row import RepeatRow
from pilotfish.core.messages import ChatRequest, Usage
from pilotfish.gateway import error_bodies
from pilotfish.gateway.background import Background
from pilotfish.gateway.records import Records
from pilotfish.gateway.rows import Outcome, RowMaker, Turn
from pilotfish.models.base import Model
from pilotfish.models.wire.format import ClientRequest
from pilotfish.models.wire.formats import format_of

MAX_PENDING = 64
"""More requests than this that are being asked again at once would be a load that nobody asked for."""

SHARE = 0.5
"""Of the requests that may be asked again, where two answers are enough: half of them show the floor by the time of the
first attempt, and the sample spreads over twice the traffic. Where the majority is the standard, all are asked: only
these can certify."""

UNKNOWN_COST = (
    "[consistency] usd is set, but what a call costs is not known: the large model has no price in [large], or its "
    "server counts no tokens. Nothing is asked again."
)

_log = logging.getLogger(__name__)


class Budget:
    """What one gateway may still spend on asking again: calls by task, and dollars over all tasks.

    A call is taken before it is made, at the cost of the dearest call of its task so far. Of dollars no more can be
    spent than is allowed but for what calls under way cost above that.
    """

    def __init__(self, settings: ConsistencySettings, spent: Iterable[RepeatRow]) -> None:
        """`spent` are the repeats in the log; only sampled ones count."""
        self._settings = settings
        self.calls: Counter[str] = Counter()
        self.usd = 0.0
        self._dearest: dict[str, float] = {}
        for row in spent:
            if row.is_sampled:
                self.calls[row.task_id] += 1
                self.usd += (row.expected_usd or 0.0) if row.cost_usd is None else row.cost_usd
            self.note_cost(row.task_id, row.cost_usd)

    def note_cost(self, task_id: str, cost_usd: float | None) -> None:
        """Take note of what a call of a task cost."""
        if cost_usd is not None:
            self._dearest[task_id] = max(cost_usd, self._dearest.get(task_id, 0.0))

    def expected_usd(self, task_id: str) -> float | None:
        """What is set aside for a call of this task, None where no cost has been seen yet."""
        return self._dearest.get(task_id)

    def take(self, task_id: str, n: int, expected_usd: float | None) -> bool:
        """Set `n` calls aside at this cost each, all or none; False where the budget has no room for them."""
        if self.calls[task_id] + n > self._settings.calls:
            return False
        if self._settings.usd is not None and (
            expected_usd is None or self.usd + n * expected_usd > self._settings.usd * (1 + 1e-9)
        ):
            return False
        self.calls[task_id] += n
        self.usd += n * (expected_usd or 0.0)
        return True

    def give_back(self, task_id: str, n: int, expected_usd: float | None) -> None:
        """`n` calls that were set aside, at this cost each, were not made."""
        self.calls[task_id] -= n
        self.usd -= n * (expected_usd or 0.0)

    def settle(self, row: RepeatRow) -> None:
        """A call that was set aside has ended."""
        if row.cost_usd is not None:
            self.usd += row.cost_usd - (row.expected_usd or 0.0)
            self.note_cost(row.task_id, row.cost_usd)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Further calls set aside for one request, none where it was not drawn."""

    n: int = 0
    expected_usd: float | None = None


class Repeats:
    """Asks the reference again for one gateway."""

    def __init__(self, settings: ConsistencySettings, *, reference: Model, records: Records, budget: Budget) -> None:
        self._settings = settings
        self._reference = reference
        self._writer = records.writer
        self._rows = records.rows
        self._counts = records.counts
        self._budget = budget
        self._work = Background("Asking again failed.")
        self._why_none = ""
        if settings.calls and settings.usd is not None and not records.rows.has_price:
            self._tell_unknown_cost()

    @property
    def status(self) -> dict[str, Any]:
        """What may be spent, what has been spent in all, and why nothing is asked where that is so."""
        return {
            "calls_per_task": self._settings.calls,
            "usd": self._settings.usd,
            "answers": self._settings.answers,
            "spent_calls": dict(self._budget.calls),
            "spent_usd": round(self._budget.usd, 9) if self._rows.has_price else None,
            "why_none": self._why_none or None,
        }

    @property
    def n_pending(self) -> int:
        """Requests being asked again."""
        return len(self._work)

    def draw(self, turn: Turn, outcome: Outcome) -> Draw:
        """Decide whether this request is asked again, and set the calls aside. The same rule whoever answered it.

        Its own cost is taken note of after that, so that the decision cannot depend on it.
        """
        drawn = self._draw(turn)
        if turn.live is not None and turn.decision.reason not in ("certified", "degraded"):
            cost_usd = self._rows.cost_usd(outcome.usage)
            self._budget.note_cost(turn.task_id, cost_usd)
            if self._settings.calls and self._settings.usd is not None and outcome.status == 200 and cost_usd is None:
                self._tell_unknown_cost()
        return drawn

    def note(self, turn: Turn, outcome: Outcome, drawn: Draw) -> None:
        """Ask a request again that the reference has answered, where it was drawn."""
        if not drawn.n:
            return
        if outcome.reference_answer is None:
            self.give_back(turn, drawn)
            return
        self._work.start(self._again(turn, drawn))

    def give_back(self, turn: Turn, drawn: Draw) -> None:
        """The request that was drawn has no first answer."""
        self._budget.give_back(turn.task_id, drawn.n, drawn.expected_usd)

    async def ask_again(self, turn: Turn, n: int, drawn: Draw) -> list[str | None]:
        """The reference's next `n` answers (None for one without text), fewer where calls fail.

        A call that fails is made once more, where the budget has room. Without a draw the calls are an audit's, which
        no budget limits.
        """
        said: list[str | None] = []
        is_sampled = drawn.n > 0
        left = drawn.n
        number = 0
        while len(said) < n and number < n + 1:
            if is_sampled and not left:
                if not self._budget.take(turn.task_id, 1, drawn.expected_usd):
                    break
                left = 1
            number += 1
            left -= is_sampled
            row, text = await self._ask(turn, number, drawn)
            if row.is_answered:
                said.append(text)
        if left:
            self._budget.give_back(turn.task_id, left, drawn.expected_usd)
        return said

    async def aclose(self) -> None:
        """Cancel what is pending. Calls under way stay spent."""
        await self._work.aclose()

    def _draw(self, turn: Turn) -> Draw:
        live = turn.live
        # Without texts in the log nothing could be learnt from it; nor where the answers form no closed set.
        if not self._settings.calls or not self._rows.keeps_text or live is None or not live.record.shape.is_closed:
            return Draw()
        if turn.sampling not in ("observe", "audit") or len(self._work) >= MAX_PENDING:
            return Draw()
        if self._settings.n_votes == 1 and random.random() >= SHARE:
            return Draw()
        n, expected_usd = self._settings.answers - 1, self._budget.expected_usd(turn.task_id)
        is_taken = self._budget.take(turn.task_id, n, expected_usd)
        return Draw(n=n, expected_usd=expected_usd) if is_taken else Draw()

    def _tell_unknown_cost(self) -> None:
        if not self._why_none:
            self._why_none = UNKNOWN_COST
            _log.warning(UNKNOWN_COST)

    async def _again(self, turn: Turn, drawn: Draw) -> None:
        await self.ask_again(turn, drawn.n, drawn)

    async def _ask(self, turn: Turn, number: int, drawn: Draw) -> tuple[RepeatRow, str | None]:
        """One more call, written down before and after."""
        row = RepeatRow(
            request_id=turn.request_id,
            number=number,
            task_id=turn.task_id,
            time_s=time.time(),
            is_sampled=drawn.n > 0,
            expected_usd=drawn.expected_usd,
        )
        self._writer.append(row)
        heard = await hear(self._reference, self._rows, turn, _anew(turn.request))
        row = dataclasses.replace(row, **heard.figures)
        self._writer.append(row)
        self._counts.note_spent(self._reference.card.name, row)
        if row.is_sampled:
            self._budget.settle(row)
        return row, heard.text


def _anew(request: ClientRequest) -> ClientRequest:
    """The same without the client's idempotency key, for which a server would repeat its first answer."""
    headers = tuple(header for header in request.headers if header[0] != "idempotency-key")
    return dataclasses.replace(request, headers=headers)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the reference said after the reply: its text as it may be written down, `error` where there is none, and
    the columns that an audit and a repeat have in common."""

    text: str | None
    error: str
    figures: dict[str, Any]


async def hear(reference: Model, rows: RowMaker, turn: Turn, request: ClientRequest) -> Heard:
    """Ask the reference, whatever comes of it."""
    started_s = time.perf_counter()
    text, usage, status, error = None, None, 200, ""
    try:
        text, usage = await ask(reference, request)
        text = turn.privacy.for_log(text)
    except PilotfishError as failure:
        status = error_bodies.status_of(failure)
        error = turn.privacy.for_log(f"{failure.code}: {failure}") or failure.code
    figures = {
        "reference_answer": text if rows.keeps_text else None,
        "status": status,
        "error": error,
        "prompt_tokens": usage.prompt if usage is not None else None,
        "completion_tokens": usage.completion if usage is not None else None,
        "cost_usd": rows.cost_usd(usage),
        "latency_s": time.perf_counter() - started_s,
    }
    return Heard(text=text, error=error, figures=figures)


async def ask(reference: Model, request: ChatRequest) -> tuple[str | None, Usage | None]:
    """The reference's text and usage, asked in the client's own words, as a stream where it was one.

    Raises a `ModelError` where there is no whole answer.
    """
    if not request.stream:
        answer = await reference.answer(request)
        return answer.text, answer.usage
    data = b"".join([piece async for piece in reference.stream(request)])
    summary = await format_of(request).read_stream(data)
    if not summary.is_whole:
        raise ModelError(summary.error or "The stream was cut.", model=reference.card.name)
    return summary.text, summary.usage
