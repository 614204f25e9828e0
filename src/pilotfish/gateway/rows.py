"""From one finished request to its log row: what was sampled why, and what privacy leaves out.

What `[log] keep_text` excludes is left out here, before anything is written. Costs are unknown where no price was
stated. When a row is written, and where to, is not known here.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field

from pilotfish.config.settings import Settings
from pilotfish.core.example import Sampling
from pilotfish.core.log_row import RequestRow
from pilotfish.core.messages import Message, Price, Usage
from pilotfish.core.receipt import Reason, Receipt
from pilotfish.core.task import Mode
from pilotfish.gateway.live_tasks import LiveTask
from pilotfish.gateway.privacy_guard import Guarded
from pilotfish.gateway.tried import Routing, cost_usd
from pilotfish.gateway.visit import OPEN, Visit
from pilotfish.models.base import Model
from pilotfish.models.wire.format import NOTHING_BOUGHT, ClientRequest
from pilotfish.routing.cascade import Decision
from pilotfish.tasks.fingerprint import last_user_index
from pilotfish.tasks.recognise import Recognised

_UNPROMISED: frozenset[Reason] = frozenset(("degraded", "budget"))
"""Reasons of answers under a route that its certificate does not speak of."""

_OUTSIDE: frozenset[Reason] = frozenset(("unsupported-option", "tool-loop", "degraded", "budget"))
"""Reasons of requests that no certificate speaks of."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """One request on its way through the gateway, with what is known of it so far.

    `recognised` is None where the client named a model that is not ours to answer for, `task_id` empty where there
    is no task. `mode` is what is done with the task right now. `is_audited` is the coin, drawn before anything
    else was decided. `target` is the model that answers where no specialist does, `price` what its tokens cost.
    `privacy` says what of it may leave and be written down. `named` is the model as the client named it, `begun_s` when
    a stream's reply began, on the clock of `started_s`. `routing` is what a route did, None where none was asked; then
    `is_audited` is the route's coin, and `coin` its probability. `wait_s` is how long the reply of a smaller model is
    waited for that is relayed as it comes, None for as long as a model may take.
    """

    request_id: str
    request: ClientRequest
    model: str
    recognised: Recognised | None
    live: LiveTask | None
    is_audited: bool
    decision: Decision
    task_id: str
    mode: Mode
    target: Model
    price: Price | None = None
    privacy: Guarded = field(default_factory=lambda: Guarded(body=b""))
    visit: Visit = OPEN
    named: str = ""
    begun_s: float | None = None
    routing: Routing | None = None
    coin: float = 0.0
    wait_s: float | None = None
    time_s: float = field(default_factory=time.time)
    started_s: float = field(default_factory=time.perf_counter)

    @property
    def may_leave(self) -> bool:
        """Whether the model that would answer may see the request."""
        return self.target.card.is_local or not self.privacy.is_local_only

    @property
    def sampling(self) -> Sampling:
        """Why the reference's answer is known, or is not. What must stay here never teaches and is never audited."""
        if self.privacy.is_local_only:
            return "local" if self.decision.is_local else "none"
        if self.routing is not None and self.decision.reason not in _UNPROMISED:
            # What a route sends to whom depends on what it says: only its coin does not.
            return "audit" if self.is_audited else "none"
        if not self.task_id or self.decision.reason in _OUTSIDE:
            return "none"
        if self.mode != "serve":
            return "observe"
        if self.is_audited:
            return "audit"
        return "local" if self.decision.is_local else "deferred"

    @property
    def receipt(self) -> Receipt:
        """Why this model answered."""
        live, prediction = self.live, self.decision.prediction
        return Receipt(
            request_id=self.request_id,
            model=self.model,
            reason=self.decision.reason,
            task_id=self.task_id,
            task_name=live.record.name if live is not None else "",
            certificate_id=self._certificate_id,
            tier=prediction.tier if prediction is not None and self.decision.is_local else None,
            privacy=self.privacy.note,
            route="" if self.routing is None else self.routing.note,
        )

    @property
    def _certificate_id(self) -> str:
        if self.routing is not None:
            return self.routing.certificate_id if self.decision.reason == "kept" else ""
        return self.live.record.certificate_id if self.live is not None and self.decision.is_local else ""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How the request ended. `answer` is what the client got, `reference_answer` what the reference said in full."""

    answer: str | None = None
    reference_answer: str | None = None
    usage: Usage | None = None
    status: int = 200
    error: str = ""


def for_log(turn: Turn, outcome: Outcome) -> Outcome:
    """The outcome as it may be written down, and learnt from: masked, or without its texts."""
    privacy = turn.privacy
    if privacy.masker is None and not privacy.is_local_only:
        return outcome
    return dataclasses.replace(
        outcome,
        answer=privacy.for_log(outcome.answer),
        reference_answer=privacy.for_log(outcome.reference_answer),
        error=privacy.for_log(outcome.error) or outcome.error.partition(":")[0],
    )


class RowMaker:
    """Makes rows under one set of settings."""

    def __init__(self, settings: Settings, settings_sha256: str, price: Price | None) -> None:
        self._keeps_text = settings.log.keep_text
        self._settings_sha256 = settings_sha256
        self._price = price

    @property
    def keeps_text(self) -> bool:
        """Whether messages and answers may be written at all."""
        return self._keeps_text

    @property
    def has_price(self) -> bool:
        """Whether the reference's price was stated."""
        return self._price is not None

    def cost_usd(self, usage: Usage | None) -> float | None:
        """What the reference's tokens cost, None where tokens or price are unknown."""
        return _cost_usd(usage, self._price)

    def request_row(self, turn: Turn, outcome: Outcome) -> RequestRow:
        """The row of one finished request."""
        recognised, live, prediction = turn.recognised, turn.live, turn.decision.prediction
        keeps = self._keeps_text and not turn.privacy.is_local_only
        sampling = turn.sampling
        is_live = live is not None and turn.mode != "observe"
        is_certified = is_live and turn.decision.reason != "degraded"
        return RequestRow(
            request_id=turn.request_id,
            time_s=turn.time_s,
            instructions_id=recognised.instructions_id if recognised is not None else "",
            task_id=turn.task_id,
            mode=turn.mode,
            model=turn.model,
            reason=turn.decision.reason,
            sampling=sampling,
            probability=_probability(turn) if sampling == "audit" else 1.0,
            input=_user_text(turn.request.messages) if keeps else None,
            answer=outcome.answer if keeps else None,
            reference_answer=outcome.reference_answer if keeps and recognised is not None else None,
            local_answer=prediction.answer if keeps and prediction is not None else None,
            certainty=prediction.certainty if prediction is not None else None,
            scope=prediction.scope if prediction is not None else None,
            tier=prediction.tier if prediction is not None else None,
            status=outcome.status,
            error=outcome.error,
            prompt_tokens=outcome.usage.prompt if outcome.usage is not None else None,
            completion_tokens=outcome.usage.completion if outcome.usage is not None else None,
            cost_usd=_cost_usd(outcome.usage, turn.price),
            latency_s=time.perf_counter() - turn.started_s,
            local_s=prediction.local_s if prediction is not None else None,
            is_stream=turn.request.stream,
            settings_sha256=self._settings_sha256,
            specialist_sha256=live.record.specialist_sha256 if live is not None and is_live else "",
            certificate_id=_certificate_id(turn, is_certified=is_certified),
            key_id=turn.visit.key_id,
            server=turn.request.server,
            tries=turn.request.tries,
            price_source=turn.price.source if turn.price is not None and turn.request.tries else "",
            route=turn.routing.to_json() if turn.routing is not None else "",
            tried_usd=turn.routing.tried_usd if turn.routing is not None else 0.0,
        )


def _probability(turn: Turn) -> float:
    if turn.routing is not None:
        return turn.coin
    return turn.live.coin if turn.live is not None else 1.0


def _certificate_id(turn: Turn, *, is_certified: bool) -> str:
    """The certificate that the decision stood under, whoever answered."""
    if turn.routing is not None:
        is_decided = not turn.routing.stays and turn.decision.reason not in _UNPROMISED
        return turn.routing.certificate_id if is_decided else ""
    return turn.live.record.certificate_id if turn.live is not None and is_certified else ""


def _cost_usd(usage: Usage | None, price: Price | None) -> float | None:
    return 0.0 if usage == NOTHING_BOUGHT else cost_usd(usage, price)


def _user_text(messages: list[Message]) -> str | None:
    index = last_user_index(messages)
    return messages[index].text if index >= 0 else None
