from __future__ import annotations

import asyncio

import pytest

from pilotfish.core.errors import SpecialistError
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.routing.cascade import Prediction, decide
from pilotfish.routing.policy import Gates, Policy

POLICY = Policy(Gates(min_certainty=0.9, min_scope=0.5))


def said(certainty: float, scope: float = 1.0) -> Prediction:
    return Prediction(answer="refund", values=("refund",), certainty=certainty, scope=scope, local_s=0.001)


SAID = [Message(role="user", content="hi")]


def request(**fields: object) -> ChatRequest:
    return ChatRequest(**({"messages": SAID} | fields))  # type: ignore[arg-type]


class Specialist:
    """Says one thing, or fails; keeps what it was asked."""

    def __init__(self, outcome: Prediction | SpecialistError | None) -> None:
        self.outcome = outcome
        self.texts: list[str] = []

    async def __call__(self, text: str) -> Prediction | None:
        self.texts.append(text)
        if isinstance(self.outcome, SpecialistError):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (said(0.9, 0.5), "certified"),
        (said(0.89), "uncertain"),
        (said(0.99, 0.4), "out-of-scope"),
        (None, "overloaded"),
        (SpecialistError("broken"), "specialist-failed"),
    ],
)
def test_every_outcome_has_its_reason(outcome: Prediction | SpecialistError | None, reason: str) -> None:
    decision = asyncio.run(decide(request(), "hi", Specialist(outcome), POLICY))
    assert decision.reason == reason
    assert decision.is_local == (reason == "certified")
    assert decision.prediction is (outcome if isinstance(outcome, Prediction) else None)


@pytest.mark.parametrize(
    ("asked", "text", "reason"),
    [
        (request(), None, "no-task"),
        (request(n=2), "hi", "unsupported-option"),
        (request(tools=[{"type": "function"}]), "hi", "unsupported-option"),
        (request(stop=["x"]), "hi", "unsupported-option"),
        (request(messages=[*SAID, Message(role="tool", content="42")]), "hi", "tool-loop"),
        (request(messages=[*SAID, Message(role="assistant", tool_calls=[{"id": "c"}]), *SAID]), "hi", "tool-loop"),
    ],
)
def test_what_no_specialist_can_honour_is_not_even_tried(asked: ChatRequest, text: str | None, reason: str) -> None:
    specialist = Specialist(said(1.0))
    assert asyncio.run(decide(asked, text, specialist, POLICY)).reason == reason
    assert specialist.texts == []


TIERS = Policy(Gates(min_certainty=0.9, min_scope=0.5, first=Gates(min_certainty=0.99, min_scope=0.8)))


@pytest.mark.parametrize(
    ("first", "reason", "n_full"),
    [
        (said(0.99, 0.8), "certified", 0),
        (said(0.98, 0.8), "uncertain", 1),
        (said(0.99, 0.7), "uncertain", 1),
        (None, "overloaded", 0),
        (SpecialistError("broken"), "specialist-failed", 0),
    ],
)
def test_the_mixture_is_asked_only_where_the_first_tier_does_not_answer(first, reason, n_full) -> None:  # type: ignore[no-untyped-def]
    full = Specialist(said(0.5))
    decision = asyncio.run(decide(request(), "hi", full, TIERS, Specialist(first)))
    assert decision.reason == reason
    assert len(full.texts) == n_full
    if reason == "certified":
        assert decision.prediction is first
