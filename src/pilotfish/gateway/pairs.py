"""Pairs: after the reply, what a smaller model and the reference both say to one request.

Two coins with known probabilities choose the requests, without regard to what they say: one collects outcomes to learn
a route from, within a budget of money a day; the other audits the route in force. An audited pair is graded by the
judge at once, and a route whose loss speaks against its certificate is withdrawn. Nothing here can delay a reply.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from pilotfish.config.settings import RoutingSettings
from pilotfish.core.errors import ModelError, PilotfishError
from pilotfish.core.log_row import AuditRow, GradeRow, TriedFor, TriedRow
from pilotfish.evals.pair_judge import REFERENCE, grade
from pilotfish.gateway import error_bodies
from pilotfish.gateway.background import Background
from pilotfish.gateway.records import Records
from pilotfish.gateway.repeats import hear
from pilotfish.gateway.routed import Routed
from pilotfish.gateway.rows import Outcome, Turn
from pilotfish.gateway.tried import Routing, Said, prompt_of, total
from pilotfish.gateway.visit import most_usd
from pilotfish.models.base import Model
from pilotfish.store.base import Log

MAX_PENDING = 64
"""More requests than this that are asked of a second model at once would be a load that nobody asked for."""

DAY_S = 86400.0

_log = logging.getLogger(__name__)


class DayBudget:
    """US dollars that may be spent each day (UTC). What a call may cost at most is set aside before it is made, and
    counts on the day it was set aside, as in the log, which a new process begins from. Only one process collects, so
    that nothing need be shared (`routed_budget.py` shares)."""

    def __init__(self, usd: float, spent_since: Callable[[float], float]) -> None:
        """`spent_since` tells what was spent since a time, before this process began."""
        self._usd = usd
        self._day = time.time() // DAY_S
        self._spent_usd = spent_since(self._day * DAY_S)

    def spent_usd(self, now_s: float) -> float:
        """What is spent or set aside since the day began."""
        if now_s // DAY_S > self._day:
            self._day, self._spent_usd = now_s // DAY_S, 0.0
        return self._spent_usd

    def take(self, usd: float, now_s: float) -> bool:
        """Set this much aside; False where the day has no room for it."""
        if self.spent_usd(now_s) + usd > self._usd * (1 + 1e-9):
            return False
        self._spent_usd += usd
        return True

    def settle(self, row: TriedRow) -> None:
        """A call has ended; what was set aside stays spent where its cost is not known."""
        if row.cost_usd is not None and row.time_s // DAY_S == self._day:
            self._spent_usd += row.cost_usd - (row.expected_usd or 0.0)


class Pairs:
    """Collects and audits for one gateway."""

    def __init__(
        self,
        settings: RoutingSettings,
        *,
        routed: Routed,
        models: Mapping[str, Model],
        records: Records,
        log: Log,
        collects: bool = True,
    ) -> None:
        """`models` are all that are configured by name, the reference first. Of several workers one `collects`."""
        self._routed = routed
        self._live = routed.live
        self._reference = next(iter(models.values()))
        self._judge = models.get(settings.judge)
        self._writer, self._rows, self._counts = records.writer, records.rows, records.counts
        self._work = Background("Hearing a second model failed.")
        asked = [*routed.models.values(), *(model for name, model in models.items() if name == settings.verifier)]
        unpriced = [model.card.name for model in asked if model.card.price is None]
        self._share = 0.0 if unpriced or not records.rows.keeps_text or not collects else settings.collect
        self._why_none = ""
        if settings.collect and not self._share and collects:
            self._why_none = f"no price is known for {unpriced[0]!r}" if unpriced else "[log] keep_text is false"
            _log.warning("[routing] collect is set, but %s: nothing is collected.", self._why_none)
        self._budget = DayBudget(settings.collect_usd_per_day or 0.0, log.collected_usd)

    @property
    def status(self) -> dict[str, Any]:
        """What may be collected, what that has cost today, and why nothing is where that is so."""
        return {
            "collect": self._share,
            "spent_usd_today": round(self._budget.spent_usd(time.time()), 9),
            "why_none": self._why_none or None,
        }

    @property
    def n_pending(self) -> int:
        """Requests that are being asked of a second model."""
        return len(self._work)

    def note(self, turn: Turn, outcome: Outcome) -> None:
        """Take up one finished request, if a coin has chosen it."""
        routing = turn.routing
        if routing is not None:
            if turn.sampling == "audit" and not routing.stays and outcome.status == 200:
                self._audit(turn, routing, outcome)
            return
        if not self._share or outcome.status != 200 or outcome.reference_answer is None:
            return
        if self._live.route is None and self._routed.is_open(turn) and not turn.request.has_begun:
            prompt = prompt_of(turn.request)
            if prompt is not None and random.random() < self._share and len(self._work) < MAX_PENDING:
                self._work.start(self._collect(turn, prompt))

    async def aclose(self) -> None:
        """Cancel what is pending. Calls under way stay spent."""
        await self._work.aclose()

    async def _collect(self, turn: Turn, prompt: str) -> None:
        for model in self._routed.models.values():
            expected_usd = _most_usd(model, turn) + self._routed.looks.most_usd(model, turn.request)
            row = self._row(turn, model.card.name, "collect", self._share, prompt)
            row = dataclasses.replace(row, expected_usd=expected_usd)
            if not self._budget.take(expected_usd, row.time_s):
                return
            self._writer.append(row)
            row, _ = await self._hear(turn, model, row)
            self._budget.settle(row)

    def _audit(self, turn: Turn, routing: Routing, outcome: Outcome) -> None:
        if not routing.kept:
            # The reference has answered, so nothing can be lost.
            self._work.start(self._record(routing, loss=0.0, is_local=False))
        if len(self._work) < MAX_PENDING:
            self._work.start(self._compare(turn, routing, outcome))
        elif routing.kept:
            row = AuditRow(
                request_id=turn.request_id,
                time_s=time.time(),
                reference_answer=None,
                status=503,
                error="too many audits were pending",
            )
            self._writer.append(row)
            self._counts.note_audit(self._live.name, row)

    async def _compare(self, turn: Turn, routing: Routing, outcome: Outcome) -> None:
        """Hear everybody who was not asked, and grade what the client got."""
        prompt = routing.request.prompt
        given, reference = outcome.answer, outcome.reference_answer
        if routing.kept:
            heard = await hear(self._reference, self._rows, turn, turn.request)
            row = AuditRow(request_id=turn.request_id, time_s=time.time(), **heard.figures)
            self._writer.append(row)
            self._counts.note_audit(self._live.name, row)
            self._counts.note_spent(self._reference.card.name, row)
            self._pay(row.cost_usd, _most_usd(self._reference, turn))
            reference = None if heard.error else heard.text
            if reference is None:
                return
            await self._grade(turn, routing, given, reference)
        for step in routing.route.steps:
            row_ = self._row(turn, step.model, "audit", turn.coin, prompt)
            # What was heard only in part is no answer that could be graded.
            said = next((one for one in routing.said if one.model == step.model and one.opened is None), None)
            if said is not None:
                looked = await self._look(turn, step.model, said)
                paid_usd = total([call.cost_usd for call in looked.further[len(said.further) :]])
                self._writer.append(self._answered(turn, row_, looked, paid_usd))
            elif step.model in self._routed.models and reference is not None:
                await self._hear(turn, self._routed.models[step.model], row_)

    async def _grade(self, turn: Turn, routing: Routing, given: str | None, reference: str) -> None:
        if self._judge is None:
            return
        prompt = turn.privacy.for_log(routing.request.prompt) or ""
        try:
            graded = await grade(self._judge, prompt, given, reference)
        except ModelError as error:
            _log.warning("An audit could not be graded: %s", error)
            return
        self._pay(graded.cost_usd, _most_usd(self._judge, turn))
        scores = {routing.kept: graded.value, self._reference.card.name: REFERENCE}
        row = GradeRow(
            request_id=turn.request_id,
            source="judge",
            time_s=time.time(),
            scores=json.dumps(scores),
            cost_usd=graded.cost_usd,
        )
        self._writer.append(row)
        if graded.loss > 0:
            self._counts.note_difference(self._live.name)
        await self._record(routing, loss=graded.loss, is_local=True)

    async def _record(self, routing: Routing, *, loss: float, is_local: bool) -> None:
        # In the registry, one after the other: the evidence of all workers is that of one sequence.
        self._live.observe(routing.certificate_id, loss=loss, is_local=is_local)

    async def _hear(self, turn: Turn, model: Model, row: TriedRow) -> tuple[TriedRow, Said | None]:
        """One more call, and its row whatever comes of it."""
        started_s = time.perf_counter()
        said = None
        try:
            said = await self._routed.asker.ask(model, turn.request)
        except PilotfishError as error:
            row = dataclasses.replace(
                row,
                status=error_bodies.status_of(error),
                error=turn.privacy.for_log(f"{error.code}: {error}") or error.code,
                latency_s=time.perf_counter() - started_s,
            )
            self._counts.note_spent(model.card.name, row)
            self._pay(None, _most_usd(model, turn))
        else:
            self._counts.note_given_up(said)
            self._pay(said.cost_usd, _most_usd(model, turn))
            said = await self._look(turn, model.card.name, said)
            row = self._answered(turn, row, said, said.cost_usd)
        self._writer.append(row)
        return row, said

    async def _look(self, turn: Turn, name: str, said: Said) -> Said:
        """An answer with all that signals may need of further calls, as far as it may be kept."""
        if not self._rows.keeps_text:
            return said
        looks, model = self._routed.looks, self._routed.models[name]
        found = await looks.fill(turn, model, said)
        calls = found.further[len(said.further) :]
        self._counts.note_further(calls)
        self._pay(total([call.cost_usd for call in calls]), looks.most_usd(model, turn.request))
        return found

    def _pay(self, cost_usd: float | None, most_usd: float) -> None:
        """Finding out is part of what routed requests cost a day; what is not known counts as the most."""
        if self._routed.budget is not None:
            self._routed.budget.spend(most_usd if cost_usd is None else cost_usd)

    def _row(self, turn: Turn, model: str, purpose: TriedFor, probability: float, prompt: str) -> TriedRow:
        return TriedRow(
            request_id=turn.request_id,
            model=model,
            time_s=time.time(),
            purpose=purpose,
            probability=probability,
            prompt=turn.privacy.for_log(prompt) if self._rows.keeps_text else None,
        )

    def _answered(self, turn: Turn, row: TriedRow, said: Said, paid_usd: float | None) -> TriedRow:
        tried = said.tried
        return dataclasses.replace(
            row,
            tried=said.to_json(turn.privacy.for_log) if self._rows.keeps_text else None,
            status=200,
            prompt_tokens=tried.input_tokens,
            completion_tokens=tried.output_tokens,
            cost_usd=said.cost_usd,
            paid_usd=paid_usd,
            latency_s=tried.latency_s or 0.0,
        )


def _most_usd(model: Model, turn: Turn) -> float:
    """What asking a model the same is likely to cost at most, 0 where no price is known."""
    return 0.0 if model.card.price is None else most_usd(model.card.price, turn.request.raw)
