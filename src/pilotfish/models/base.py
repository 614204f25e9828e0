"""The model protocol: anything that answers a chat request.

An HTTP endpoint, a recording and a scripted double all look like this, so the gateway, the demo and
the tests of users stand in front of any of them. How one is reached is known to the files beside.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from pilotfish.core.messages import Answer, ChatRequest, Family, Price


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a model is. `price` is None where nobody stated one (never 0).

    One that `is_local` runs on the user's own machines, and may see what must not leave them.
    """

    name: str
    price: Price | None = None
    is_local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a model server speaks.

    `has_responses` says whether one of OpenAI's family speaks responses beside chat completions. `max_tokens` is
    asked of one of Anthropic's where a client of the other family names no limit; None refuses such requests.
    """

    family: Family = "openai"
    has_responses: bool = True
    max_tokens: int | None = None


class Model(Protocol):
    """Anything that answers a chat request."""

    @property
    def card(self) -> ModelCard:
        """What it is."""

    async def answer(self, request: ChatRequest) -> Answer:
        """The whole answer. Raises a `ModelError` where there is none."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent-event bytes, in whatever pieces they come.

        Raises a `ModelError` before the first piece where there is no answer. Closing the iterator
        (`aclose`) cancels the work upstream at once.
        """

    async def aclose(self) -> None:
        """Release connections and threads."""
