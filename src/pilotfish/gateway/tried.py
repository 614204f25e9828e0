"""A smaller model asked before the reference, or beside it: its answer, and what a route made of it.

The model is asked in the client's own words, with log-probabilities where its server gives them; what was added for our
sake is taken out of the answer again. Nothing here decides.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from pilotfish.core.errors import ModelFormatError, ModelStatusError
from pilotfish.core.messages import Answer, ChatRequest, Price, Usage
from pilotfish.core.outcome import Outcome, Tried
from pilotfish.models.base import Model
from pilotfish.models.wire import logprobs
from pilotfish.models.wire.format import ClientRequest
from pilotfish.routing.route import Choice, Route
from pilotfish.routing.signals import SIGNALS

LIVE = frozenset(signal.name for signal in SIGNALS if signal.cost in ("free", "text"))
"""Signals that one reply shows; others take further calls, or run code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one model said: as signals see it (its score is not known, NaN), and the bytes for the client."""

    model: str
    tried: Tried
    body: bytes
    headers: tuple[tuple[str, str], ...]
    usage: Usage | None
    server: str = ""
    tries: int = 0

    def to_json(self, text: str | None) -> str:
        """What of it a later grade needs, as a JSON object: no score, and nothing that is not known.

        `text` is the answer as it may be written down; tokens are only where that is all of it.
        """
        row = {key: value for key, value in asdict(self.tried).items() if value not in (None, "", (), [])}
        del row["score"]
        if text != self.tried.text:
            row |= {"text": text, "tokens": ()}
        return json.dumps(row)


@dataclass(slots=True, kw_only=True)
class Routing:
    """One request under a route: what was said on the way, and what came of it.

    `stays` names the model that goes on with a conversation; then nothing is decided. `kept` is the smaller model that
    answers, empty where the reference does.
    """

    route: Route
    certificate_id: str
    request: Outcome
    stays: str = ""
    kept: str = ""
    choice: Choice | None = None
    place: int = 0
    said: list[Said] = field(default_factory=list)
    signals: dict[str, float | None] = field(default_factory=dict)
    is_left: bool = False

    @property
    def given_up(self) -> list[Said]:
        """The answers that were not given."""
        return [said for said in self.said if said.model != self.kept]

    @property
    def tried_usd(self) -> float | None:
        """What the answers that were not given have cost, None where one cost is not known."""
        costs = [said.tried.cost_usd for said in self.given_up]
        known = [cost for cost in costs if cost is not None]
        return math.fsum(known) if len(known) == len(costs) else None

    def read(self, said: Said) -> None:
        """Note an answer, and the signals that the step decides by as it reads them."""
        self.said.append(said)
        gain = self.route.steps[self.place].gain
        self.signals = {name: gain.read(name, self.request, said.tried) for name in gain.signals}

    def to_json(self) -> str:
        """What the log keeps of it: numbers and names, no texts."""
        choice, used = self.choice, self.signals
        row: dict[str, Any] = {
            "route": self.route.id,
            "why": choice.why if choice is not None else "",
            "need": choice.need if choice is not None else None,
            "threshold": self.route.threshold,
            "signals": used,
            "not_used": sorted(LIVE - used.keys()) if self.said else [],
            "asked": [
                {
                    "model": said.model,
                    "cost_usd": said.tried.cost_usd,
                    "latency_s": said.tried.latency_s,
                    "prompt_tokens": said.tried.input_tokens,
                    "completion_tokens": said.tried.output_tokens,
                }
                for said in self.said
            ],
        }
        return json.dumps(row)

    @property
    def note(self) -> str:
        """The same in one line, for a header."""
        if self.choice is None:
            return ""
        parts = [f"why={self.choice.why}"]
        if self.choice.need is not None and self.route.threshold is not None:
            sign = "<=" if self.choice.need <= self.route.threshold else ">"
            parts.append(f"need {self.choice.need:.4g} {sign} {self.route.threshold:.4g}")
        parts += [f"{name}={'unknown' if value is None else f'{value:.4g}'}" for name, value in self.signals.items()]
        if self.said:
            parts.append(f"{len(LIVE - self.signals.keys())} signals not used")
        for said in self.said:
            cost = said.tried.cost_usd
            parts.append(f"{said.model} cost {'unknown' if cost is None else f'{cost:.6f} USD'}")
        return "; ".join(parts)


class Asker:
    """Asks models for answers with what signals need."""

    def __init__(self) -> None:
        self._without_logprobs: set[str] = set()

    async def ask(self, model: Model, request: ClientRequest) -> Said:
        """One whole answer. Raises a `ModelError`.

        A server that refuses the request with log-probabilities is asked once more without, and from then on.
        """
        name = model.card.name
        started_s = time.perf_counter()
        added = logprobs.asking(request, logprobs=name not in self._without_logprobs)
        try:
            answer, tokens = await _whole(model, added)
        except ModelStatusError as error:
            if error.status not in (400, 422) or "logprobs" not in added.names:
                raise
            added = logprobs.asking(request, logprobs=False)
            answer, tokens = await _whole(model, added)
            self._without_logprobs.add(name)
        usage = answer.usage
        tried = Tried(
            score=math.nan,
            text=answer.text,
            finish_reason=answer.finish_reason,
            cost_usd=cost_usd(usage, model.card.price),
            input_tokens=usage.prompt if usage is not None else None,
            output_tokens=usage.completion if usage is not None else None,
            latency_s=time.perf_counter() - started_s,
            tokens=tokens.tokens,
            logprobs=tokens.logprobs,
            margins=tokens.margins,
        )
        sent = added.request
        return Said(
            model=name,
            tried=tried,
            body=answer.body,
            headers=answer.headers,
            usage=usage,
            server=sent.server,
            tries=sent.tries,
        )


async def _whole(model: Model, added: logprobs.Added) -> tuple[Answer, logprobs.Tokens]:
    """The whole answer, of a stream too, without what was added; and its tokens."""
    request = added.request
    if not request.stream:
        answer = await model.answer(request)
        tokens = logprobs.read(answer.body)
        body = added.without(answer.body)
    else:
        data = b"".join([piece async for piece in model.stream(request)])
        summary = await request.format.read_stream(data)
        if not summary.is_whole:
            raise ModelFormatError(f"{model.card.name} cut its stream: {summary.error}", model=model.card.name)
        tokens = logprobs.read_stream(data)
        body = added.stream_without(data)
        answer = Answer(
            text=summary.text,
            model=model.card.name,
            body=body,
            usage=summary.usage,
            finish_reason=summary.finish_reason,
        )
    return (
        Answer(
            text=answer.text,
            model=answer.model,
            body=body,
            usage=answer.usage,
            finish_reason=answer.finish_reason,
            headers=answer.headers,
        ),
        tokens,
    )


def cost_usd(usage: Usage | None, price: Price | None) -> float | None:
    """What tokens cost, None where they or their price are unknown."""
    try:
        return None if usage is None or price is None else price.cost_usd(usage)
    except OverflowError:  # no number to reckon with
        return None


def prompt_of(request: ChatRequest) -> str | None:
    """A request as routes read it: the texts of its messages; None where one is not plain text."""
    texts = [message.text for message in request.messages]
    return None if None in texts or not texts else "\n\n".join(text for text in texts if text is not None)
