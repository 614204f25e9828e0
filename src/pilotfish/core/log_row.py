"""The rows of the request log. The store writes them as given; the gateway fills them.

Six kinds: `RequestRow` (one a request), `AuditRow` (the reference's later answer to a request
that a smaller model answered), `RepeatRow` (what the reference said when asked the same again), `TriedRow` (what a
smaller model says to a request that the reference answers too), `GradeRow` (how good the answers were),
`InstructionsRow` (the shared part of requests, once).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilotfish.core.example import Sampling
from pilotfish.core.receipt import Reason
from pilotfish.core.task import Mode


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class RequestRow:
    """One request. `input` is the last user message as sent; `answer` what the client got.

    Never changed, but not frozen: that would cost each request 4 µs. `instructions_id` names the rest of the
    conversation (`InstructionsRow`). `local_answer` is what the specialist said when it ran, served or not;
    `certainty` and `scope` are the scores of the `tier` that said it (`core.receipt.TIERS`; None in rows from before
    there were two, which were of tier 2).
    `reference_answer` is what the reference said, where it was asked. Text fields are None where
    `privacy` excludes them or there is none. Costs are US dollars, None where no price is known.
    `key_id` names the virtual key that asked, None where none was needed. `server` is the one that was asked last,
    empty where none was; `tries` how many were. `price_source` says where the prices behind `cost_usd` come from.
    `route` is what a route decided by, as a JSON object, empty where none did; `tried_usd` what the answers of smaller
    models cost that were not given, and further looks at the one that was, which `cost_usd` leaves out.
    """

    request_id: str
    time_s: float
    instructions_id: str
    task_id: str
    mode: Mode
    model: str
    reason: Reason
    sampling: Sampling
    probability: float
    input: str | None
    answer: str | None
    reference_answer: str | None = None
    local_answer: str | None = None
    certainty: float | None = None
    scope: float | None = None
    status: int = 200
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float = 0.0
    local_s: float | None = None
    is_stream: bool = False
    settings_sha256: str = ""
    specialist_sha256: str = ""
    certificate_id: str = ""
    key_id: str | None = None
    tier: int | None = None
    server: str = ""
    tries: int = 0
    price_source: str = ""
    route: str = ""
    tried_usd: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """The reference's answer to a request that had been answered locally.

    `loss` is the disagreement that counts as evidence, in 0..1; None where there is none (no answer came, or not enough
    for a majority), and in rows from before it was kept.
    """

    request_id: str
    time_s: float
    reference_answer: str | None
    status: int = 200
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float = 0.0
    task_id: str = ""
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatRow:
    """One more call of the reference with a request it had answered before; `number` counts them from 1.

    It is written before the call with status 0, so that no crash makes a budget forget it, and again, under the same
    number, once the answer is known. `is_sampled` says that the request was chosen without regard to its content and
    counts in the budget; otherwise an audit asked, and the answer is no evidence for a certificate. `expected_usd`
    was set aside for the call, and counts where its cost is unknown.
    """

    request_id: str
    number: int
    task_id: str
    time_s: float
    is_sampled: bool
    reference_answer: str | None = None
    status: int = 0
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    expected_usd: float | None = None
    latency_s: float = 0.0

    @property
    def is_answered(self) -> bool:
        """Whether the reference answered, in text or not."""
        return self.status == 200 and not self.error


TriedFor = Literal["collect", "audit"]
"""Why a smaller model's answer is written down: a share of the requests, or the audit of a route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedRow:
    """A smaller model's answer to a request that was drawn with `probability`, whatever it says.

    `prompt` is the request as routes read it, `tried` what was answered as a JSON object (`core.outcome.Tried` without
    its score). It is written before the call with status 0, so that no crash makes a budget forget it, and again once
    the answer is known. `expected_usd` was set aside for the call, and counts where its cost is unknown. `paid_usd` is
    what of `cost_usd` was paid for this row: less than all where an audit looked again at an answer that the request
    had paid; None where that is not known.
    """

    request_id: str
    model: str
    time_s: float
    purpose: TriedFor
    probability: float
    prompt: str | None = None
    tried: str | None = None
    status: int = 0
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    expected_usd: float | None = None
    latency_s: float = 0.0
    paid_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeRow:
    """How good the answers to a request were, in 0..1 by model, as `source` (`feedback`, `judge`) found.

    `scores` is a JSON object; a later grade of the same source replaces it. `cost_usd` is what grading cost.
    """

    request_id: str
    source: str
    time_s: float
    scores: str
    comment: str | None = None
    key_id: str | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionsRow:
    """The shared part of requests: all messages but the last user message, response format, tools.

    `body` is a JSON object with the keys `messages`, `response_format` and `tools` as they came;
    `text` the same for people.
    """

    instructions_id: str
    time_s: float
    body: str
    text: str


LogRow = RequestRow | AuditRow | RepeatRow | TriedRow | GradeRow | InstructionsRow
