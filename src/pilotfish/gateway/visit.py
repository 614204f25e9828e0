"""What one request may use: held before a model is asked, settled once it is known what it really used.

Whose request it is, the door knows (`door.py`). Answers that cost nothing are counted as requests only, so a key whose
money is spent still gets what can be answered locally.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from pilotfish.core.errors import LimitError, NotAllowedError
from pilotfish.core.key import KeyRecord, unit_of, window_end_s, window_of
from pilotfish.core.messages import Price, Usage
from pilotfish.core.privacy import PrivacyMode
from pilotfish.store.base import Exceeded, Tallies

BYTES_PER_TOKEN = 3
"""Of a request body. English has 4 to 5, so that a reservation is seldom too small."""

COMPLETION_TOKENS = 4096
"""Held for a request that states no maximum."""

MOST_TOKENS = 10**9
"""More than any model gives, less than what arithmetic cannot hold."""

PART_TOKENS = 1500
"""Held for an image or a file that stands in the request itself."""

PriceOf = Callable[[str], Price | None]

_EMBEDDED = re.compile(rb";base64,[A-Za-z0-9+/=_-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A key as it is looked up: its hash, and which of its limits need an estimate."""

    record: KeyRecord
    digest: bytes
    is_limited: bool
    has_budget: bool

    @classmethod
    def of(cls, record: KeyRecord) -> Known:
        """The key of a record."""
        units = {unit_of(name) for name in record.limits.stated()}
        return cls(
            record=record,
            digest=bytes.fromhex(record.sha256),
            is_limited=bool(units - {"requests"}),
            has_budget="usd" in units,
        )


class Visit:
    """One request that was let in. This one needed no key: everything is allowed, and nothing counted."""

    __slots__ = ()

    @property
    def key_id(self) -> str | None:
        """What the log calls its key."""
        return None

    @property
    def privacy(self) -> PrivacyMode:
        """What may at most be done with it where it holds personal data."""
        return "allow"

    def may_use(self, *_names: str) -> bool:
        """Whether it may use a model that goes by these names."""
        return True

    def check_model(self, named: str, model: str) -> None:
        """Raise `NotAllowedError` where it may not use `model`, which the client called `named`."""

    def reserve(self, model: str, body: bytes) -> None:
        """Hold what `model` may cost for this request. Raises `LimitError`, or `NotAllowedError` without a price."""

    def settle(self, usage: Usage | None, *, answer: str | None, is_answered: bool) -> None:
        """Count what was used in place of what was held.

        Where the model told no usage (most streams), tokens are estimated from the request and what came of the
        answer; where nothing is known of an answer, what was held is taken for used.
        """

    def end(self) -> None:
        """Give back what is held still: the request has failed, and nothing was used."""

    def further(self) -> Visit:
        """A further call for the same request, held and settled beside this one."""
        return self


class _KeyVisit(Visit):
    """One request with a key."""

    __slots__ = ("_body", "_held", "_known", "_price", "_price_of", "_tallies")

    def __init__(self, known: Known, tallies: Tallies, price_of: PriceOf) -> None:
        self._known = known
        self._tallies = tallies
        self._price_of = price_of
        self._price: Price | None = None
        self._body = b""
        self._held: tuple[int, float] | None = None

    @property
    def key_id(self) -> str | None:
        return self._known.record.key_id

    @property
    def privacy(self) -> PrivacyMode:
        return self._known.record.privacy

    def may_use(self, *names: str) -> bool:
        models = self._known.record.models
        return not models or any(name in models for name in names)

    def check_model(self, named: str, model: str) -> None:
        if not self.may_use(named, model):
            hint = f"It may: {', '.join(self._known.record.models)}."
            raise NotAllowedError(f"This key may not use the model {named!r}.", param="model", hint=hint)

    def reserve(self, model: str, body: bytes) -> None:
        known = self._known
        price = self._price = self._price_of(model)
        self._body = body
        if not known.is_limited:
            self._held = (0, 0.0)
            return
        if price is None and known.has_budget:
            raise NotAllowedError(
                f"This key has a budget in US dollars, and no price is known for the model {model!r}.",
                param="model",
                hint="State its price in the gateway's configuration, or limit the key's tokens instead.",
            )
        prompt = _prompt_tokens(body)
        completion, is_stated = _completion_tokens(body)
        held = (prompt + completion, _cost_usd(price, prompt, completion))
        least = held if is_stated else (prompt, _cost_usd(price, prompt, 0))
        now_s = time.time()
        exceeded = self._tallies.reserve(known.record, now_s, tokens=held[0], usd=held[1], least=least)
        if exceeded is not None:
            raise limit_error(exceeded, now_s, least)
        self._held = held

    def settle(self, usage: Usage | None, *, answer: str | None, is_answered: bool) -> None:
        if self._held is None:
            return
        if usage is not None:
            # A broken server may tell anything.
            prompt, completion = (max(0, min(n, MOST_TOKENS)) for n in (usage.prompt, usage.completion))
            told = Usage(prompt=prompt, completion=completion, cached=max(0, min(usage.cached, prompt)))
            self._end((prompt + completion, self._price.cost_usd(told) if self._price is not None else 0.0))
        elif answer is not None or not is_answered:
            prompt, completion = _prompt_tokens(self._body), math.ceil(len(answer or "") / BYTES_PER_TOKEN)
            self._end((prompt + completion, _cost_usd(self._price, prompt, completion)))
        else:
            prompt = _prompt_tokens(self._body)
            self._end(self._held if self._held[0] else (prompt, _cost_usd(self._price, prompt, 0)))

    def end(self) -> None:
        if self._held is not None:
            self._end((0, 0.0))

    def further(self) -> Visit:
        return _KeyVisit(self._known, self._tallies, self._price_of)

    def _end(self, used: tuple[int, float]) -> None:
        held, self._held = self._held or (0, 0.0), None
        self._tallies.settle(self._known.record, time.time(), held=held, used=used)


def limited(known: Known, tallies: Tallies, price_of: PriceOf) -> Visit:
    """A visit that counts against the limits of a record, whether or not it is a key's."""
    return _KeyVisit(known, tallies, price_of)


OPEN = Visit()
"""Of a request that needed no key."""


class _Asked(msgspec.Struct):
    """What a request says about the length of its answer, in the words of any of the interfaces."""

    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None


_asked = msgspec.json.Decoder(_Asked)


def most_usd(price: Price, body: bytes) -> float:
    """What a request is likely to cost at most."""
    return _cost_usd(price, _prompt_tokens(body), _completion_tokens(body)[0])


def most_tokens(body: bytes) -> int:
    """How long its answers are likely to be at most, together."""
    return _completion_tokens(body)[0]


def _completion_tokens(body: bytes) -> tuple[int, bool]:
    """How many tokens the answers may have, and whether the request says so."""
    try:
        asked = _asked.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        asked = _Asked()  # the model will refuse what only it looks at
    n = asked.n if isinstance(asked.n, int) and asked.n > 0 else 1
    for value in (asked.max_completion_tokens, asked.max_output_tokens, asked.max_tokens):
        if isinstance(value, int) and value >= 0:
            return min(value * n, MOST_TOKENS), True
    return min(COMPLETION_TOKENS * n, MOST_TOKENS), False


def _prompt_tokens(body: bytes) -> int:
    n_bytes, n_parts = len(body), 0
    if b";base64," in body:
        for found in _EMBEDDED.finditer(body):
            n_bytes -= found.end() - found.start()
            n_parts += 1
    return math.ceil(n_bytes / BYTES_PER_TOKEN) + n_parts * PART_TOKENS


def _cost_usd(price: Price | None, prompt: int, completion: int) -> float:
    if price is None:
        return 0.0
    return (prompt * price.input_usd_per_mtok + completion * price.output_usd_per_mtok) / 1e6


def limit_error(exceeded: Exceeded, now_s: float, least: tuple[int, float]) -> LimitError:
    """What a request is refused with that needs at least so many tokens and US dollars."""
    name, used, value = exceeded.limit, exceeded.used, exceeded.value
    unit, window = unit_of(name), window_of(name)
    needed = {"requests": 1.0, "tokens": least[0], "usd": least[1]}[unit]
    said = f"The limit {name} of this key is reached: {_amount(used)} of {_amount(value)} are used or held"
    said += f", and this request may need {_amount(needed)}." if unit != "requests" else "."
    if needed > value:
        return LimitError(said, param=name, status=402, retry_after_s=None, hint="Ask for a shorter answer.")
    end_s = window_end_s(window, now_s)
    wait_s = None if end_s is None else max(1, math.ceil(end_s - now_s))
    hint = "" if wait_s is None else f"It begins anew in {wait_s} s."
    return LimitError(said, param=name, status=429 if window == "minute" else 402, retry_after_s=wait_s, hint=hint)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6f}"
