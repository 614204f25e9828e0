"""A smaller model asked before the reference, or beside it: its answer, and what a route made of it.

The model is asked in the client's own words, with log-probabilities where its server gives them; what was added for our
sake is taken out of the answer again. Of a stream the first tokens alone may be heard, and the rest be left to come.
Nothing here decides.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from pilotfish.core.errors import ModelFormatError, ModelStatusError, RequestError
from pilotfish.core.messages import Answer, ChatRequest, Price, Usage
from pilotfish.core.outcome import Outcome, Tried
from pilotfish.core.receipt import Reason
from pilotfish.models.base import Model
from pilotfish.models.wire import logprobs
from pilotfish.models.wire.format import ClientRequest
from pilotfish.routing.budget import Seen
from pilotfish.routing.route import Choice, Route
from pilotfish.routing.signals import SIGNALS

T = TypeVar("T")

MOST_BYTES = 8 << 20
"""Of a stream that are kept beside relaying it; a longer one is relayed whole and logged without its text."""

_HIGHEST = 1e9
"""Written in place of infinity, which JSON does not have."""

LIVE = frozenset(signal.name for signal in SIGNALS if signal.cost in ("free", "text"))
"""Signals that one reply shows; others take further calls, or run code."""


class Opened:
    """A stream of which only the beginning was heard: kept until it is known whether the client gets it.

    `cleaner` takes out of its pieces what was added for our sake.
    """

    def __init__(self, model: Model, added: logprobs.Added) -> None:
        self._model = model.card.name
        self._pieces = model.stream(added.request)
        self._heard: list[bytes] = []
        self._n_bytes = 0
        self.added = added
        self.cleaner = logprobs.Cleaner(added)

    @property
    def heard(self) -> bytes:
        """All that has come, up to `MOST_BYTES`."""
        return b"".join(self._heard)

    async def first_tokens(self, n: int) -> logprobs.Tokens:
        """The first `n` tokens, fewer where the stream ends before. Raises a `ModelError`."""
        beginning = logprobs.Beginning(n)
        async for piece in self._pieces:
            self._hear(piece)
            found = beginning.feed(piece)
            if found is not None:
                return found
            if self._n_bytes > MOST_BYTES:
                raise ModelFormatError(
                    f"{self._model} has streamed {MOST_BYTES:,} bytes and no token.", model=self._model
                )
        return logprobs.read_stream(self.heard)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The whole stream: what was heard, and then the rest as it comes."""
        try:
            yield self.heard
            async for piece in self._pieces:
                self._hear(piece)
                yield piece
        finally:
            await self._pieces.aclose()

    def _hear(self, piece: bytes) -> None:
        self._n_bytes += len(piece)
        if self._n_bytes <= MOST_BYTES:
            self._heard.append(piece)

    async def aclose(self) -> None:
        """Cancel the model's work."""
        await self._pieces.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A further call about an answer (`looks.py`). What is not known is None."""

    model: str
    usage: Usage | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one model said: as signals see it (its score is not known, NaN), and the bytes for the client.

    `opened` is the stream that only its beginning was heard of; then there are no bytes yet, and no usage. `further`
    are the calls that were made about it; `tried` has the cost of the answer alone, its time with theirs.
    """

    model: str
    tried: Tried
    body: bytes
    headers: tuple[tuple[str, str], ...]
    usage: Usage | None
    server: str = ""
    tries: int = 0
    opened: Opened | None = None
    further: tuple[Call, ...] = ()

    @property
    def cost_usd(self) -> float | None:
        """What the answer and the further calls about it have cost, None where that of one is not known."""
        return total([self.tried.cost_usd, *(call.cost_usd for call in self.further)])

    def to_json(self, for_log: Callable[[str | None], str | None]) -> str:
        """What of it a later grade needs, as a JSON object: no score, and nothing that is not known.

        `for_log` gives a text as it may be written down; tokens are only where that is all of it, samples where all
        of them may be.
        """
        text, samples = for_log(self.tried.text), [for_log(sample) for sample in self.tried.samples]
        tried = replace(self.tried, cost_usd=self.cost_usd, samples=() if None in samples else tuple(map(str, samples)))
        row = {key: value for key, value in asdict(tried).items() if value not in (None, "", (), [])}
        del row["score"]
        if text != self.tried.text:
            row |= {"text": text, "tokens": ()}
        return json.dumps(row)


@dataclass(slots=True, kw_only=True)
class Routing:
    """One request under a route: what was said on the way, and what came of it.

    `stays` names the model that goes on with a conversation; then nothing is decided. `kept` is the smaller model that
    answers, empty where the reference does. `first` is what its first look at the request said, `expected` what that
    foretells of its cost; `late` are the models that were given up before anything of an answer came, with the seconds
    that each was waited for, and `left_alone` one that was not asked since that had happened too often; `raised` is the
    threshold that the day's budget has put in the certified one's place. `decided_s` is when it was known who answers,
    on the clock of `Turn.started_s`.
    """

    route: Route
    certificate_id: str
    request: Outcome
    stays: str = ""
    kept: str = ""
    choice: Choice | None = None
    first: Choice | None = None
    expected: Seen | None = None
    raised: float | None = None
    late: list[tuple[str, float]] = field(default_factory=list)
    left_alone: str = ""
    place: int = 0
    said: list[Said] = field(default_factory=list)
    signals: dict[str, float | None] = field(default_factory=dict)
    is_left: bool = False
    decided_s: float = 0.0

    @property
    def given_up(self) -> list[Said]:
        """The answers that were not given."""
        return [said for said in self.said if said.model != self.kept]

    @property
    def tried_usd(self) -> float | None:
        """What the answers that were not given, and the further calls about the one that was, have cost; None where
        one cost is not known, as of a model that was given up."""
        if self.late:
            return None
        return total([*(said.cost_usd for said in self.given_up), *(call.cost_usd for call in self.kept_further)])

    @property
    def kept_further(self) -> list[Call]:
        """The further calls about the answer that was given."""
        return [call for said in self.said if said.model == self.kept for call in said.further]

    @property
    def reason(self) -> Reason:
        """Why a smaller model answers: the certified route keeps it, or only the day's budget does."""
        choice = self.choice
        assert choice is not None
        is_certified = choice.why == "kept" and (choice.need is None or self.route.keeps(choice.need))
        return "kept" if is_certified else "budget"

    def read(self, said: Said) -> None:
        """Note an answer, and the signals that the step decides by as it reads them."""
        self.said.append(said)
        step = self.route.steps[self.place]
        seen = step.seen(said.tried)
        self.signals = {name: step.gain.read(name, self.request, seen) for name in step.gain.signals}

    def end(self, said: Said, whole: Said) -> None:
        """A stream that was begun has come to its end."""
        self.said = [whole if one is said else one for one in self.said]

    @property
    def prefix(self) -> int:
        """How many tokens of the answer decided, 0 where all of them did, or none was read."""
        return self.route.steps[self.place].prefix if self.said else 0

    def to_json(self) -> str:
        """What the log keeps of it: numbers and names, no texts."""
        choice, used = self.choice, self.signals
        row: dict[str, Any] = {
            "route": self.route.id,
            "why": choice.why if choice is not None else "",
            "need": choice.need if choice is not None else None,
            "threshold": self.route.threshold,
            "raised": None if self.raised is None else min(self.raised, _HIGHEST),
            "expected": None if self.expected is None else _finite(self.expected),
            "prefix": self.prefix,
            "late": [{"model": model, "waited_s": waited_s} for model, waited_s in self.late],
            "left_alone": self.left_alone,
            "signals": used,
            "not_used": sorted(LIVE - used.keys()) if self.said else [],
            "asked": [
                {
                    "model": said.model,
                    "is_whole": said.opened is None,
                    "cost_usd": said.cost_usd,
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
        late = [f"{model} was given up after {waited_s:.3g} s" for model, waited_s in self.late]
        if self.choice is None:
            return "; ".join(late)
        parts = [f"why={self.choice.why}", *late]
        if self.left_alone:
            parts.append(f"{self.left_alone} is left alone for a moment: it was given up several times in a row")
        if self.choice.need is not None and self.route.threshold is not None:
            sign = "<=" if self.choice.need <= self.route.threshold else ">"
            parts.append(f"need {self.choice.need:.4g} {sign} {self.route.threshold:.4g}")
        if self.raised is not None:
            parts.append(f"kept up to {min(self.raised, _HIGHEST):.4g} by the day's budget")
        parts += [f"{name}={'unknown' if value is None else f'{value:.4g}'}" for name, value in self.signals.items()]
        if self.said:
            parts.append(f"{len(LIVE - self.signals.keys())} signals not used")
        if self.prefix:
            parts.append(f"decided on the first {self.prefix} tokens")
        for said in self.said:
            if said.opened is not None and said.model == self.kept:
                continue  # nobody knows yet what it will cost
            cost = said.cost_usd
            parts.append(f"{said.model} cost {'unknown' if cost is None else f'{cost:.6f} USD'}")
        return "; ".join(parts)


def _finite(seen: Seen) -> dict[str, float | None]:
    return {**asdict(seen), "need": seen.need if math.isfinite(seen.need) else None}


class Asker:
    """Asks models for answers with what signals need.

    A server that refuses a request with log-probabilities, or whose family has none, is asked once more without, and
    from then on.
    """

    def __init__(self) -> None:
        self._without_logprobs: set[str] = set()

    async def ask(self, model: Model, request: ClientRequest) -> Said:
        """One whole answer. Raises a `ModelError`."""
        started_s = time.perf_counter()
        added, (answer, tokens) = await self._either(model, request, _whole)
        return _said(model, added, answer, tokens, time.perf_counter() - started_s)

    async def begin(self, model: Model, request: ClientRequest, n_tokens: int) -> Said:
        """The first tokens of a stream, which is left open. Raises a `ModelError`."""
        started_s = time.perf_counter()
        added, (opened, tokens) = await self._either(model, request, partial(_opened, n_tokens=n_tokens))
        nothing = Answer(text=None, model=model.card.name, body=b"")
        return replace(_said(model, added, nothing, tokens, time.perf_counter() - started_s), opened=opened)

    async def end(self, model: Model, said: Said, latency_s: float) -> Said:
        """The whole of an answer that was begun, once all of it has come. Raises a `ModelError` where it was cut."""
        assert said.opened is not None
        answer, tokens = await _of_stream(model, said.opened.added, said.opened.heard)
        return _said(model, said.opened.added, answer, tokens, latency_s)

    async def _either(
        self, model: Model, request: ClientRequest, call: Callable[[Model, logprobs.Added], Awaitable[T]]
    ) -> tuple[logprobs.Added, T]:
        name = model.card.name
        added = logprobs.asking(request, logprobs=name not in self._without_logprobs)
        try:
            return added, await call(model, added)
        except (ModelStatusError, RequestError) as error:
            if error.status not in (400, 422) or "logprobs" not in added.names:
                raise
        added = logprobs.asking(request, logprobs=False)
        found = await call(model, added)
        self._without_logprobs.add(name)
        return added, found


def _said(model: Model, added: logprobs.Added, answer: Answer, tokens: logprobs.Tokens, latency_s: float) -> Said:
    usage, sent = answer.usage, added.request
    tried = Tried(
        score=math.nan,
        text=answer.text,
        finish_reason=answer.finish_reason,
        cost_usd=cost_usd(usage, model.card.price),
        input_tokens=usage.prompt if usage is not None else None,
        output_tokens=usage.completion if usage is not None else None,
        latency_s=latency_s,
        tokens=tokens.tokens,
        logprobs=tokens.logprobs,
        margins=tokens.margins,
    )
    return Said(
        model=model.card.name,
        tried=tried,
        body=answer.body,
        headers=answer.headers,
        usage=usage,
        server=sent.server,
        tries=sent.tries,
    )


async def _opened(model: Model, added: logprobs.Added, n_tokens: int) -> tuple[Opened, logprobs.Tokens]:
    opened = Opened(model, added)
    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(opened.aclose)
        tokens = await opened.first_tokens(n_tokens)
        undo.pop_all()
    return opened, tokens


async def _whole(model: Model, added: logprobs.Added) -> tuple[Answer, logprobs.Tokens]:
    """The whole answer, of a stream too, without what was added; and its tokens."""
    request = added.request
    if request.stream:
        return await _of_stream(model, added, b"".join([piece async for piece in model.stream(request)]))
    answer = await model.answer(request)
    return replace(answer, body=added.without(answer.body)), logprobs.read(answer.body)


async def _of_stream(model: Model, added: logprobs.Added, data: bytes) -> tuple[Answer, logprobs.Tokens]:
    summary = await added.request.format.read_stream(data)
    if not summary.is_whole:
        raise ModelFormatError(f"{model.card.name} cut its stream: {summary.error}", model=model.card.name)
    answer = Answer(
        text=summary.text,
        model=model.card.name,
        body=added.stream_without(data),
        usage=summary.usage,
        finish_reason=summary.finish_reason,
    )
    return answer, logprobs.read_stream(data)


def cost_usd(usage: Usage | None, price: Price | None) -> float | None:
    """What tokens cost, None where they or their price are unknown."""
    try:
        return None if usage is None or price is None else price.cost_usd(usage)
    except OverflowError:  # no number to reckon with
        return None


def total(costs: Sequence[float | None]) -> float | None:
    """The sum of costs, None where one is not known."""
    known = [cost for cost in costs if cost is not None]
    return math.fsum(known) if len(known) == len(costs) else None


def prompt_of(request: ChatRequest) -> str | None:
    """A request as routes read it: the texts of its messages; None where one is not plain text."""
    texts = [message.text for message in request.messages]
    return None if None in texts or not texts else "\n\n".join(text for text in texts if text is not None)
