"""One pair of answers before a judge: asked in both orders, read, and counted in tokens.

The question and the reading of the verdict stand in `scoring/judging.py`. Used where pairs come one at a time, from
live traffic and its log; `evals/judge.py` judges whole comparisons.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pilotfish.core.messages import Usage
from pilotfish.models.base import Model
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.format import ClientRequest, encode
from pilotfish.scoring.judging import PairVerdict, pair_prompt

MOST_TOKENS = 2048
"""Of a verdict, thinking included."""

REFERENCE = 0.5
"""The reference's own score where a judge compares: what an answer earns that is as good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What the smaller model's answer earns against the reference's (1 better, 0.5 as good, 0 worse), and its cost.

    A judge that cannot be read counts as "worse": it must not let a promise pass.
    """

    value: float
    cost_usd: float | None

    @property
    def loss(self) -> float:
        """The reference's score less this one, in [-0.5, 0.5]."""
        return REFERENCE - self.value


async def grade(judge: Model, prompt: str, smaller: str | None, reference: str) -> Graded:
    """The verdict on two answers to a request. An answer without text is worse unasked. Raises a `ModelError`."""
    if not smaller:
        return Graded(value=0.0, cost_usd=0.0)
    if smaller == reference:
        return Graded(value=REFERENCE, cost_usd=0.0)
    questions = (pair_prompt(prompt, smaller, reference), pair_prompt(prompt, reference, smaller))
    replies = await asyncio.gather(*(judge.answer(_request(question)) for question in questions))
    verdict = PairVerdict.of_replies(replies[0].text or "", replies[1].text or "")
    return Graded(
        value=verdict.value if verdict.is_readable else 0.0,
        cost_usd=_cost_usd(judge, [reply.usage for reply in replies]),
    )


def _request(question: str) -> ClientRequest:
    """The question with a limit: a judge that does not end must not be paid for it."""
    messages = [{"role": "user", "content": question}]
    return CHAT.decode_request(encode({"messages": messages, "max_completion_tokens": MOST_TOKENS}))


def _cost_usd(judge: Model, usages: list[Usage | None]) -> float | None:
    price = judge.card.price
    known = [usage for usage in usages if usage is not None]
    if price is None or len(known) < len(usages):
        return None
    return sum(price.cost_usd(usage) for usage in known)
