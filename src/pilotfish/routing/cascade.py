"""The live decision: try the specialist's first tier, then all of it; accept its answer or defer to the reference.

The decision goes through the same policy as backtest and certification, and never fails: whatever is
wrong with a specialist defers. Relaying the reference is the gateway's business. What runs the specialist
is passed in: this file knows neither threads nor folders.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pilotfish.core.errors import SpecialistError
from pilotfish.core.messages import Answer, ChatRequest
from pilotfish.core.receipt import Reason
from pilotfish.models.wire.format import NOTHING_BOUGHT
from pilotfish.models.wire.formats import format_of
from pilotfish.routing.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a specialist says about one text. `answer` is written as the reference would write it.

    `values` are its canonical values; `local_s` the seconds from asking to knowing, waiting included. `tier` is 1 where
    the n-grams alone say it, 2 where the full mixture does; both scores are that tier's.
    """

    answer: str
    values: tuple[str, ...]
    certainty: float
    scope: float
    local_s: float
    tier: int = 2


Predict = Callable[[str], Awaitable[Prediction | None]]
"""Runs a specialist, or its first tier, on a text. None where it would have had to wait too long.

Raises `SpecialistError`.
"""


# Never changed. To freeze what every request makes costs 0.1 µs a field.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Decision:
    """Whether the specialist's answer is accepted ("certified"), or why not; no `prediction` where it did not run."""

    reason: Reason
    prediction: Prediction | None = None

    @property
    def is_local(self) -> bool:
        """Whether the specialist's answer goes to the client."""
        return self.reason == "certified"


async def decide(
    request: ChatRequest, text: str | None, predict: Predict, policy: Policy, predict_first: Predict | None = None
) -> Decision:
    """The decision on one request of a task. Never raises a `SpecialistError`: a broken specialist defers.

    `text` is the request's input without its template, None where it has none. What `predict_first` says and the policy
    accepts is the answer; `predict` is not asked.
    """
    if text is None:
        return Decision(reason="no-task")
    if request.unsupported_option:
        return Decision(reason="unsupported-option")
    if request.is_tool_loop:
        return Decision(reason="tool-loop")
    try:
        return await _by_tiers(text, predict, policy, predict_first)
    except SpecialistError:
        return Decision(reason="specialist-failed")


async def _by_tiers(text: str, predict: Predict, policy: Policy, predict_first: Predict | None) -> Decision:
    prediction = None if predict_first is None else await predict_first(text)
    if prediction is not None and policy.accepts_first(prediction.certainty, prediction.scope):
        return Decision(reason="certified", prediction=prediction)
    if prediction is not None or predict_first is None:
        prediction = await predict(text)
    if prediction is None:
        return Decision(reason="overloaded")
    return Decision(reason=policy.decide(prediction.certainty, prediction.scope), prediction=prediction)


def local_name(task_name: str) -> str:
    """The `model` field of answers given by the specialist of a task."""
    return f"pilotfish/{task_name}"


def local_answer(prediction: Prediction, name: str, request: ChatRequest) -> Answer:
    """A specialist's answer as a reply of the model `name`, in the format of the request."""
    return format_of(request).answer_of(
        prediction.answer, request, model=name, usage=NOTHING_BOUGHT, latency_s=prediction.local_s
    )


def local_stream(prediction: Prediction, name: str, request: ChatRequest) -> list[bytes]:
    """The same as server-sent events, with usage where the request asks for it."""
    return format_of(request).encode_stream(prediction.answer, request, model=name, usage=NOTHING_BOUGHT)
