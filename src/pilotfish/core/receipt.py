"""Receipts: why this model answered this request, in one closed set of reasons.

The words here are those of the headers, the log, `pilotfish explain` and the documentation. Who decides for which
reason is known to `routing/` and the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "certified",
    "observing",
    "shadow",
    "uncertain",
    "out-of-scope",
    "stale",
    "other-key",
    "unsupported-option",
    "tool-loop",
    "other-model",
    "degraded",
    "overloaded",
    "specialist-failed",
    "no-task",
    "private",
    "encoder",
    "kept",
    "asked-further",
    "asked-at-once",
    "same-model",
    "smaller-failed",
    "imported",
    "budget",
]

TIERS: dict[int, str] = {
    1: "the first tier, n-grams alone, without encoding the text",
    2: "the full mixture, all students of the specialist together",
}

REASONS: dict[Reason, str] = {
    "certified": "a specialist answered; both gates passed under a valid certificate",
    "observing": "the task is only observed; the reference answered",
    "shadow": "the specialist ran beside, unseen; the reference answered",
    "uncertain": "the specialist was not certain enough and deferred",
    "out-of-scope": "the text is unlike the task's traffic; the specialist deferred",
    "stale": "the past answer was forgotten, or not confirmed for too long; deferred",
    "other-key": "the task's past answers were given to another key; the reference answered",
    "unsupported-option": "the request asks for what a closed local answer cannot honour (n, tools, logprobs, stop)",
    "tool-loop": "a model called a tool in this conversation; it goes on with the reference",
    "other-model": "the client named another model than the reference; passed through",
    "degraded": "the reference was down; whom the settings allow answered instead, without a promise",
    "overloaded": "the local queue was full or late; deferred rather than waited",
    "specialist-failed": "the specialist could not be loaded or failed; deferred",
    "no-task": "the request carries no text that a task could be recognised by",
    "private": "the request must stay here and no specialist answered; refused, or answered by a local large model",
    "encoder": "the shared encoder computed the embeddings here",
    "kept": "a certified route let a smaller model answer",
    "asked-further": "a smaller model was asked first; the route went on to the reference, which answered",
    "asked-at-once": "the route asked the reference without trying a smaller model",
    "same-model": "a smaller model began this conversation under a route, and goes on with it",
    "smaller-failed": "a smaller model failed, was late or is not allowed to this key; the reference answered",
    "imported": "read from a file with its answer; nobody was asked here",
    "budget": "the day's budget for routed requests was short: a smaller model answered without a promise, or nobody",
}


# Never changed. To freeze what every request makes costs 0.1 µs a field.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Receipt:
    """Why this model answered this request; `tier` is the specialist's that did, None where none did.

    `privacy` says what was done about personal data: types, never values. `route` says what a route decided by: numbers
    and names of signals and models, never texts.
    """

    request_id: str
    model: str
    reason: Reason
    task_id: str = ""
    task_name: str = ""
    certificate_id: str = ""
    privacy: str = ""
    tier: int | None = None
    route: str = ""
