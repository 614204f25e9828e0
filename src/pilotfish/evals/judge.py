"""Asks a model to judge answers, every pair in both orders, and reports how far the judge can be trusted.

The question and the reading of the verdict stand in `scoring/judging.py`, which knows no models. Here they meet one:
any `Model` (an endpoint, a local one, a recording). A judge that fails to answer, or says nothing that can be read,
is counted as unreadable and never dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from pilotfish.core.errors import ModelError
from pilotfish.core.item import Item
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.models.base import Model
from pilotfish.scoring.judging import PairVerdict, pair_prompt
from pilotfish.scoring.score import Score, expected_texts, unread


class Pair(NamedTuple):
    """Two answers to one request."""

    request: str
    first: str
    second: str


async def judge_pairs(judge: Model, pairs: Sequence[Pair], *, concurrency: int = 8) -> list[PairVerdict]:
    """The verdicts on pairs of answers, two questions each. `scoring.judging.report` sums them up."""
    gate = asyncio.Semaphore(concurrency)

    async def ask(prompt: str) -> str:
        async with gate:
            try:
                answer = await judge.answer(ChatRequest(messages=[Message(role="user", content=prompt)]))
            except ModelError:
                return ""
        return answer.text or ""

    async def both(pair: Pair) -> PairVerdict:
        forward = ask(pair_prompt(pair.request, pair.first, pair.second))
        swapped = ask(pair_prompt(pair.request, pair.second, pair.first))
        return PairVerdict.of_replies(*await asyncio.gather(forward, swapped))

    return await asyncio.gather(*map(both, pairs))


async def judge_answers(
    judge: Model, answers: Sequence[tuple[Item, str]], *, concurrency: int = 8
) -> list[tuple[Score, PairVerdict]]:
    """The scores of answers judged beside the expected ones: 1 better, 0.5 as good or undecided, 0 worse.

    Raises `DataError` for an item that expects no text.
    """
    pairs = [Pair(request_text(item), answer, expected_texts(item, "judge")[0]) for item, answer in answers]
    verdicts = await judge_pairs(judge, pairs, concurrency=concurrency)
    return [(score_of(verdict), verdict) for verdict in verdicts]


def score_of(verdict: PairVerdict) -> Score:
    """What the first answer of a pair earns; a parse failure where the judge cannot be read."""
    if not verdict.is_readable:
        return unread("the judge's verdict cannot be read")
    return Score(verdict.value, "", f"judged {verdict.forward} and, swapped, {verdict.backward}")


def request_text(item: Item) -> str:
    """What an item asks, as the judge reads it."""
    return "\n\n".join(message.text or "" for message in item.messages)
