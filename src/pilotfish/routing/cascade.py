"""The live decision: try the specialist, accept its answer or defer to the reference.

A cascade is itself a model, so it can stand wherever one can. The gateway calls `decide` and relays
the reference itself; in-process users call `answer`. Both go through the same policy as backtest and
certification. What runs the specialist is passed in: this file knows neither threads nor folders.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from pilotfish.core.errors import SpecialistError
from pilotfish.core.messages import Answer, ChatRequest
from pilotfish.core.receipt import Reason
from pilotfish.models import wire
from pilotfish.models.base import Model, ModelCard
from pilotfish.routing.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a specialist says about one text. `answer` is written as the reference would write it.

    `values` are its canonical values; `local_s` the seconds from asking to knowing, waiting included.
    """

    answer: str
    values: tuple[str, ...]
    certainty: float
    scope: float
    local_s: float


Predict = Callable[[str], Awaitable[Prediction | None]]
"""Runs a specialist on a text. None where it would have had to wait too long. Raises `SpecialistError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether the specialist's answer is accepted ("certified"), or why not; no `prediction` where it did not run."""

    reason: Reason
    prediction: Prediction | None = None

    @property
    def is_local(self) -> bool:
        """Whether the specialist's answer goes to the client."""
        return self.reason == "certified"


async def decide(request: ChatRequest, text: str | None, predict: Predict, policy: Policy) -> Decision:
    """The decision on one request of a task. Never raises a `SpecialistError`: a broken specialist defers.

    `text` is the request's input without its template, None where it has none.
    """
    if text is None:
        return Decision(reason="no-task")
    if request.unsupported_option:
        return Decision(reason="unsupported-option")
    try:
        prediction = await predict(text)
    except SpecialistError:
        return Decision(reason="specialist-failed")
    if prediction is None:
        return Decision(reason="overloaded")
    return Decision(reason=policy.decide(prediction.certainty, prediction.scope), prediction=prediction)


def local_name(task_name: str) -> str:
    """The `model` field of answers given by the specialist of a task."""
    return f"pilotfish/{task_name}"


class Cascade:
    """The specialist of one task in front of the reference, as one model."""

    def __init__(
        self,
        *,
        task_name: str,
        reference: Model,
        predict: Predict,
        policy: Policy,
        text_of: Callable[[ChatRequest], str | None],
    ) -> None:
        """`text_of` finds a request's input, such as `lambda request: recogniser.recognise(request).text`."""
        self._name = local_name(task_name)
        self._reference = reference
        self._predict = predict
        self._policy = policy
        self._text_of = text_of

    @property
    def card(self) -> ModelCard:
        """The reference's price and context: the cascade costs at most that."""
        card = self._reference.card
        return ModelCard(
            name=f"{self._name} or {card.name}", is_local=False, context_tokens=card.context_tokens, price=card.price
        )

    async def decide(self, request: ChatRequest) -> Decision:
        """What `answer` would do with `request`."""
        return await decide(request, self._text_of(request), self._predict, self._policy)

    async def answer(self, request: ChatRequest) -> Answer:
        """The specialist's answer where the policy accepts it, else the reference's."""
        decision = await self.decide(request)
        if decision.is_local and decision.prediction is not None:
            return local_answer(decision.prediction, self._name)
        return await self._reference.answer(request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The same as server-sent events."""
        decision = await self.decide(request)
        if decision.is_local and decision.prediction is not None:
            for event in local_stream(decision.prediction, self._name, request):
                yield event
            return
        pieces = self._reference.stream(request)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    async def aclose(self) -> None:
        """Close the reference."""
        await self._reference.aclose()


def local_answer(prediction: Prediction, name: str) -> Answer:
    """A specialist's answer as a chat completion of the model `name`."""
    return wire.answer_of(prediction.answer, model=name, usage=wire.NOTHING_BOUGHT, latency_s=prediction.local_s)


def local_stream(prediction: Prediction, name: str, request: ChatRequest) -> list[bytes]:
    """The same as server-sent events, with usage where the request asks for it."""
    usage = wire.NOTHING_BOUGHT if request.wants_usage_chunk else None
    return wire.encode_stream(prediction.answer, model=name, usage=usage)
