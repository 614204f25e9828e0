"""Further looks at a smaller model's answer: more samples of the same model, and what a verifier says of it.

Signals read them (`Tried.samples`, `Tried.verifier`), and they cost calls: each is held before and settled after at
whoever pays for the answer. One that fails leaves its signal unknown, so that a route asks the reference; it never
costs the client a reply.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from pilotfish.config.settings import RoutingSettings
from pilotfish.core.errors import ModelStatusError, PilotfishError, RequestError
from pilotfish.core.messages import Answer
from pilotfish.gateway.rows import Turn
from pilotfish.gateway.tried import LIVE, Call, Said, cost_usd, prompt_of
from pilotfish.gateway.visit import OPEN, Visit, most_tokens, most_usd
from pilotfish.models.base import Model
from pilotfish.models.wire import logprobs
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.format import NOTHING_BOUGHT, ClientRequest, encode
from pilotfish.routing.gain import UNUSUAL_ENDING
from pilotfish.routing.route import Route, Step
from pilotfish.routing.signals import SAMPLED, VERIFIER

PROMPT = """\
[Request]
{request}

[Answer]
{answer}

Is this answer right? Reply with Yes or No."""

FURTHER = SAMPLED | {VERIFIER}
"""The signals that take further calls."""

N_TOP = 5
"""Ways in which a verifier could have begun, "Yes" and "yes" among them: the most that many servers tell."""

_ONE_REPLY = ("stream", "stream_options", "logprobs", "top_logprobs", "seed")
"""What a sample leaves out of a request: with a stated seed all samples would be the same."""

_WORD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_raw_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Looks:
    """Takes them for one gateway."""

    def __init__(self, settings: RoutingSettings, verifier: Model | None) -> None:
        self._n_samples = settings.samples
        self._verifier = verifier
        self._refuses_logprobs = False

    def asked(self, route: Route) -> list[str]:
        """Every model that may be asked before the reference where this route decides."""
        names = [step.model for step in route.steps]
        is_verified = any(VERIFIER in read_by(step) for step in route.steps)
        return [*names, self._verifier.card.name] if is_verified and self._verifier is not None else names

    async def fill(
        self, turn: Turn, model: Model, said: Said, *, reads: Collection[str] = FURTHER, visit: Visit = OPEN
    ) -> Said:
        """A whole answer of `model` with what the signals `reads` need of further calls and it does not hold yet.

        Calls are made at once, and paid for at `visit`. What fails stays unknown.
        """
        tried = said.tried
        if tried.text is None:
            return said
        n = self._n_samples if SAMPLED.intersection(reads) and not tried.samples else 0
        calls = [_heard(model, partial(_paid, model, _sample(turn.request), visit)) for _ in range(n)]
        question = _question(turn, tried.text) if VERIFIER in reads and tried.verifier is None else ""
        if question and self._verifier is not None:
            calls.append(_heard(self._verifier, partial(self._verdict, self._verifier, question, visit)))
        if not calls:
            return said
        started_s = time.perf_counter()
        heard = await asyncio.gather(*calls)
        texts = [None if answer is None else answer.text for answer, _ in heard[:n]]
        verdict = next((answer for answer, _ in heard[n:]), None)
        if verdict is not None and (sure := probability(verdict)) is not None and self._verifier is not None:
            tried = replace(tried, verifier=sure, verified_by=self._verifier.card.name)
        tried = replace(
            tried,
            samples=tried.samples or (() if None in texts else tuple(text for text in texts if text is not None)),
            latency_s=(tried.latency_s or 0.0) + time.perf_counter() - started_s,
        )
        return replace(said, tried=tried, further=(*said.further, *(call for _, call in heard)))

    def most_usd(self, model: Model, request: ClientRequest, reads: Collection[str] = FURTHER) -> float:
        """What `fill` is likely to cost at most, as far as prices are known, told before there is an answer."""
        usd, price = 0.0, model.card.price
        if price is not None and SAMPLED.intersection(reads):
            usd += self._n_samples * most_usd(price, request.raw)
        price = None if self._verifier is None else self._verifier.card.price
        if price is not None and VERIFIER in reads:
            question = PROMPT.format(request=prompt_of(request) or "", answer="")
            usd += most_usd(price, _asking(question, with_logprobs=True).raw)
            usd += most_tokens(request.raw) * price.input_usd_per_mtok / 1e6  # the answer, which it reads
        return usd

    async def _verdict(self, verifier: Model, question: str, visit: Visit) -> Answer:
        """What a verifier says. One that refuses log-probabilities is asked once more without, and from then on."""
        with_logprobs = not self._refuses_logprobs
        try:
            return await _paid(verifier, _asking(question, with_logprobs=with_logprobs), visit)
        except (ModelStatusError, RequestError) as error:
            if error.status not in (400, 422) or not with_logprobs:
                raise
        answer = await _paid(verifier, _asking(question, with_logprobs=False), visit)
        self._refuses_logprobs = True
        return answer


def read_by(step: Step) -> frozenset[str]:
    """The signals of a step that take further calls."""
    return FURTHER.intersection(step.gain.signals)


def not_provided(route: Route, settings: RoutingSettings) -> str:
    """Which signal of a route no request would bring under these settings, and why; empty where all are there."""
    for step in route.steps:
        for name in sorted(set(step.gain.signals) - LIVE - {UNUSUAL_ENDING}):
            if name not in FURTHER:
                return f"the route reads {name!r}, which no live request shows"
            if step.prefix:
                return f"the route reads {name!r}, which the first tokens of an answer do not show"
            if why := _other_look(step, name, settings):
                return f"the route reads {name!r}{why}"
    return ""


def _other_look(step: Step, name: str, settings: RoutingSettings) -> str:
    """What a signal that takes further calls would be without, or be another signal than the one that was learnt."""
    if name == VERIFIER and not settings.verifier:
        return ", and [routing] verifier names no model"
    if name == VERIFIER and step.verifier not in ("", settings.verifier):
        return f" of {step.verifier!r}, and [routing] verifier is {settings.verifier!r}"
    if name in SAMPLED and not settings.samples:
        return ", and [routing] samples is 0"
    if name in SAMPLED and step.samples not in (0, settings.samples):
        return f" of {step.samples}, and [routing] samples is {settings.samples}"
    return ""


def probability(verdict: Answer) -> float | None:
    """That an answer is right, as a verifier's reply has it: P(yes) of P(yes) + P(no) where its server tells them, else
    1 or 0 by the word; None where neither can be read."""
    shares = {"yes": 0.0, "no": 0.0}
    for token, logprob in logprobs.alternatives(verdict.body):
        found = _WORD.match(token)
        if found:
            # A broken server may tell anything.
            shares[found[1].lower()] += math.exp(min(logprob, 0.0))
    if any(shares.values()):
        return shares["yes"] / (shares["yes"] + shares["no"])
    said = _WORD.match(verdict.text or "")
    return float(said[1].lower() == "yes") if said else None


def _question(turn: Turn, text: str) -> str:
    """What the verifier is asked, as much of it as the log may hold; empty where that is nothing."""
    request, answer = turn.privacy.for_log(prompt_of(turn.request)), turn.privacy.for_log(text)
    return PROMPT.format(request=request, answer=answer) if request and answer else ""


def _asking(question: str, *, with_logprobs: bool) -> ClientRequest:
    """One word is asked for: a verifier that thinks aloud is not read, and not paid for."""
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": question}], "max_completion_tokens": 1}
    if with_logprobs:
        fields |= {"logprobs": True, "top_logprobs": N_TOP}
    return CHAT.decode_request(encode(fields))


def _sample(request: ClientRequest) -> ClientRequest:
    """The client's own request for one more whole answer; where it asks for the likeliest one, or says nothing, at a
    temperature of 1, since the samples of a greedy model are all the same."""
    values: dict[str, Any] = _raw_objects.decode(request.raw)
    values = {name: value for name, value in values.items() if name not in _ONE_REPLY}
    if not msgspec.json.decode(values.get("temperature", b"0")):
        values["temperature"] = 1
    headers = tuple(header for header in request.headers if header[0] != "idempotency-key")
    sample = CHAT.decode_request(encode(values), headers)
    # The model's own name is left to whoever sends it.
    sample.model = ""
    return sample


async def _paid(model: Model, request: ClientRequest, visit: Visit) -> Answer:
    """One call, held before and settled after, beside others of the same visit. Raises a `PilotfishError`."""
    own = visit.further()
    try:
        own.reserve(model.card.name, request.raw)
        answer = await model.answer(request)
        own.settle(answer.usage, answer=answer.text, is_answered=True)
    except asyncio.CancelledError:
        own.settle(None, answer=None, is_answered=False)
        raise
    finally:
        own.end()
    return answer


async def _heard(model: Model, asking: Callable[[], Awaitable[Answer]]) -> tuple[Answer | None, Call]:
    """What came of a call, None where it failed, and what it cost."""
    name, price = model.card.name, model.card.price
    try:
        answer = await asking()
    except PilotfishError as error:
        if getattr(error, "may_be_billed", False):
            return None, Call(model=name)
        return None, Call(model=name, usage=NOTHING_BOUGHT, cost_usd=0.0)
    return answer, Call(model=name, usage=answer.usage, cost_usd=cost_usd(answer.usage, price))
