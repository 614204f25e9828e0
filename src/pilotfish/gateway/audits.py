"""Audits: after the reply has left, ask the reference what it would have said.

The coin was drawn before anything was decided, so the audited rows are an unbiased sample. A task whose
audits speak against its certificate is withdrawn at once. Nothing here can delay or change a reply.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from functools import partial

from pilotfish.core.certificate import Certificate
from pilotfish.core.log_row import AuditRow
from pilotfish.gateway.background import Background
from pilotfish.gateway.live_tasks import LiveTask, LiveTasks
from pilotfish.gateway.records import Records
from pilotfish.gateway.repeats import Draw, Repeats, hear
from pilotfish.gateway.rows import Outcome, Turn
from pilotfish.guarantees.audit import observe
from pilotfish.models.base import Model
from pilotfish.scoring import answers
from pilotfish.store.base import Log

MAX_PENDING = 64
"""More audits than this at once would be a load on the reference that nobody asked for."""

_log = logging.getLogger(__name__)


class Audits:
    """Runs the audits of one gateway."""

    def __init__(self, *, reference: Model, tasks: LiveTasks, log: Log, records: Records, repeats: Repeats) -> None:
        self._reference = reference
        self._repeats = repeats
        self._tasks = tasks
        self._writer = records.writer
        self._log = log
        self._rows = records.rows
        self._counts = records.counts
        self._work = Background("An audit failed.")

    @property
    def n_pending(self) -> int:
        """Audits under way."""
        return len(self._work)

    def note(self, turn: Turn, outcome: Outcome) -> None:
        """Take up one finished request of a serving task, if the coin chose it; ask any again that is to be."""
        live = turn.live
        drawn = self._repeats.draw(turn, outcome)
        if not turn.decision.is_local:
            self._repeats.note(turn, outcome, drawn)
        if live is not None and turn.mode == "serve":
            self._tasks.note_scores(live, turn.decision)
        if turn.sampling != "audit" or live is None or live.certificate is None:
            return
        if turn.decision.is_local:
            if len(self._work) < MAX_PENDING:
                self._work.start(self._ask(turn, live, drawn))
            else:
                self._repeats.give_back(turn, drawn)
                row = AuditRow(
                    request_id=turn.request_id,
                    time_s=time.time(),
                    reference_answer=None,
                    status=503,
                    error="too many audits were pending",
                    task_id=live.record.task_id,
                )
                self._writer.append(row)
                self._counts.note_audit(live.record.name, row)
        elif live.certificate.claim.per == "traffic" and outcome.status == 200:
            # Deferred traffic cannot differ from the reference, and counts as such.
            self._work.start(self._record(live, losses=(0.0,), is_local=False))

    async def aclose(self) -> None:
        """Cancel what is pending, and write down what was watched."""
        await self._work.aclose()
        self._tasks.keep_drifts()

    async def _ask(self, turn: Turn, live: LiveTask, drawn: Draw) -> None:
        heard = await hear(self._reference, self._rows, turn, turn.request)
        text, error = heard.text, heard.error
        row = AuditRow(request_id=turn.request_id, time_s=time.time(), task_id=live.record.task_id, **heard.figures)
        self._counts.note_audit(live.record.name, row)
        self._counts.note_spent(self._reference.card.name, row)
        self._tasks.note_reference(live, text)
        certificate = live.certificate
        assert certificate is not None
        said, losses = [text], None
        try:
            if not error and certificate.n_votes > 1:
                said += await self._repeats.ask_again(turn, certificate.n_votes - 1, drawn)
            losses = None if error else _losses(turn, live, certificate, said)
        finally:
            # Also where it is cancelled: what the answer has cost stays known.
            self._writer.append(dataclasses.replace(row, loss=None if losses is None else max(losses)))
        if error:
            self._repeats.give_back(turn, drawn)
            return
        if losses is not None:
            if max(losses) > 0:
                self._counts.note_difference(live.record.name)
            await self._record(live, losses=losses, is_local=True)
        if certificate.n_votes == 1 and drawn.n:
            await self._repeats.ask_again(turn, drawn.n, drawn)

    async def _record(self, live: LiveTask, *, losses: tuple[float, ...], is_local: bool) -> None:
        certificate = live.certificate
        assert certificate is not None
        change = partial(self._tasks.change_audit, live)
        audit = observe(certificate, change, loss=max(losses), is_local=is_local, by_field=losses)
        if audit is None:
            return
        if not audit.withdraws:
            self._tasks.note_audit(live)
        else:
            n_known = await asyncio.to_thread(self._n_known, live.record.task_id)
            self._tasks.withdraw(live, audit.evidence(live.coin), audit_state=audit.to_json(), n_known=n_known)

    def _n_known(self, task_id: str) -> int:
        return sum(count.n_reference_known for count in self._log.task_counts() if count.task_id == task_id)


def _losses(turn: Turn, live: LiveTask, certificate: Certificate, said: list[str | None]) -> tuple[float, ...] | None:
    """The loss of each field against what the certificate is about; None with fewer answers, which are no evidence."""
    prediction, shape = turn.decision.prediction, live.record.shape
    if prediction is None or len(said) != certificate.n_votes:
        return None
    expected = answers.majority([None if text is None else answers.parse(shape, text) for text in said])
    return answers.disagreements(prediction.values, expected)
