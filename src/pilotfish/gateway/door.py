"""The door: who may come in, and how much each key may still use.

Paths below `/v1/` are opened by virtual keys, all others but the health check by the admin key. On loopback a door that
nobody gave a key to stands open. Keys are looked up by their hash in memory; changes that another process made
are taken over within a second. A `Visit` is one request: it holds what the request may cost at most before a model
is asked, and settles what it really used. Answers that cost nothing are counted as requests only, so a key whose
money is spent still gets what can be answered locally.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import re
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec

from pilotfish.core.errors import ConfigError, KeyRefusedError, LimitError, NotAllowedError, StoreError
from pilotfish.core.key import KeyRecord, unit_of, window_end_s, window_of
from pilotfish.core.messages import Price, Usage
from pilotfish.store.base import Exceeded, Keys, Tallies

ADMIN_VARIABLE = "PILOTFISH_ADMIN_KEY"
MIN_ADMIN_LENGTH = 24
LOOK_EVERY_S = 1.0
LOOK_AGAIN_S = 0.1
"""A key that is not known may have been made just now; this often at most the registry is asked at once."""

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
_NOBODY = b"\0" * 32
_log = logging.getLogger(__name__)


class Visit:
    """One request that was let in. Without a key (`OPEN`) everything is allowed and nothing counted."""

    __slots__ = ("_held", "_key", "_price_of", "_prompt_tokens", "_tallies", "key_id")

    def __init__(
        self, key: KeyRecord | None = None, tallies: Tallies | None = None, price_of: PriceOf | None = None
    ) -> None:
        self.key_id = key.key_id if key is not None else None
        self._key = key
        self._tallies = tallies
        self._price_of = price_of
        self._held: tuple[int, float, Price | None] | None = None
        self._prompt_tokens = 0

    def may_use(self, *names: str) -> bool:
        """Whether the key may use a model that goes by these names."""
        return self._key is None or not self._key.models or not set(names).isdisjoint(self._key.models)

    def check_model(self, named: str, model: str) -> None:
        """Raise `NotAllowedError` where the key may not use `model`, which the client called `named`."""
        if not self.may_use(named, model):
            assert self._key is not None
            allowed = ", ".join(self._key.models)
            raise NotAllowedError(
                f"This key may not use the model {named!r}.", param="model", hint=f"It may: {allowed}."
            )

    def reserve(self, model: str, body: bytes) -> None:
        """Hold what `model` may cost for this request. Raises `LimitError`, or `NotAllowedError` without a price."""
        if self._key is None or self._tallies is None or self._price_of is None:
            return
        limits = self._key.limits
        if limits.tokens_per_minute is limits.tokens_per_day is limits.usd_per_day is None and (
            limits.usd_per_month is limits.usd_total is None
        ):
            self._held = (0, 0.0, self._price_of(model))
            self._prompt_tokens = _prompt_tokens(body)
            return
        price = self._price_of(model)
        if price is None and not (limits.usd_per_day is limits.usd_per_month is limits.usd_total is None):
            raise NotAllowedError(
                f"This key has a budget in US dollars, and no price is known for the model {model!r}.",
                param="model",
                hint="State its price in the gateway's configuration, or limit the key's tokens instead.",
            )
        prompt, stated = _prompt_tokens(body), _stated_tokens(body)
        likely = COMPLETION_TOKENS if stated is None else stated
        held = (prompt + likely, _cost_usd(price, prompt, likely))
        least = (prompt + (stated or 0), _cost_usd(price, prompt, stated or 0))
        now_s = time.time()
        exceeded = self._tallies.reserve(self._key, now_s, tokens=held[0], usd=held[1], least=least)
        if exceeded is not None:
            raise _limit_error(exceeded, now_s, least)
        self._held = (*held, price)
        self._prompt_tokens = prompt

    def settle(self, usage: Usage | None, *, answer: str | None, is_answered: bool) -> None:
        """Count what was used in place of what was held.

        Where the model told no usage (most streams), tokens are estimated from the request and what came of the
        answer; where nothing is known of an answer, what was held is taken for used.
        """
        if self._held is None:
            return
        tokens, usd, price = self._held
        if usage is not None:
            used = (max(0, usage.prompt) + max(0, usage.completion), _known_usd(price, usage))
        elif answer is not None or not is_answered:
            completion = math.ceil(len(answer or "") / BYTES_PER_TOKEN)
            used = (self._prompt_tokens + completion, _cost_usd(price, self._prompt_tokens, completion))
        else:
            used = (tokens, usd)
        self._end(used)

    def end(self) -> None:
        """Give back what is held still: the request has failed, and nothing was used."""
        if self._held is not None:
            self._end((0, 0.0))

    def _end(self, used: tuple[int, float]) -> None:
        assert self._held is not None
        assert self._key is not None
        assert self._tallies is not None
        tokens, usd, _ = self._held
        self._held = None
        self._tallies.settle(self._key, time.time(), held=(tokens, usd), used=used)


OPEN = Visit()
"""Of a request that needed no key."""


class Door:
    """Lets requests in, or raises the error that they are refused with."""

    def __init__(
        self,
        keys: Keys,
        tallies: Tallies,
        *,
        is_loopback: bool,
        require_keys: bool,
        admin_key: str = "",
        price_of: PriceOf,
    ) -> None:
        """`admin_key` is the one of the environment, which wins over that of the registry.

        Raises `ConfigError` where it is too short, or where others than this machine could reach a gateway that
        has no key at all.
        """
        self._keys = keys
        self._tallies = tallies
        self._price_of = price_of
        self._is_loopback = is_loopback
        self._require_keys = require_keys
        self._own_admin = _checked_admin(admin_key)
        self._version = -1
        self._looked_s = 0.0
        self._by_digest: dict[bytes, KeyRecord] = {}
        self._admin = b""
        self._needs_key = True
        self.look()
        if not is_loopback and not self._by_digest and not self._admin:
            raise ConfigError(
                "Others than this machine could reach the gateway, and it has no key.",
                hint="Make one with `pilotfish keys create NAME` (or an admin key, with `pilotfish keys admin`), or "
                "listen on 127.0.0.1.",
            )

    def admit(self, path: str, credential: bytes) -> Visit:
        """Let a request for `path` in. Raises `KeyRefusedError` or, where too many came, `LimitError`."""
        if path.startswith("/v1/"):
            return self._admit_key(credential) if self._needs_key else OPEN
        if not path.startswith("/health"):
            self._admit_admin(credential)
        return OPEN

    def look(self) -> None:
        """Take over what has changed in the registry. Raises `StoreError` where it cannot be read."""
        self._looked_s = time.monotonic()
        version = self._keys.version()
        if version == self._version:
            return
        records = self._keys.all()
        self._by_digest = {bytes.fromhex(record.sha256): record for record in records}
        self._admin = self._own_admin or bytes.fromhex(self._keys.admin_sha256())
        self._needs_key = self._require_keys or not self._is_loopback or bool(records)
        self._version = version

    async def run(self) -> None:
        """Look for changes and other processes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                self.look()
                self._tallies.refresh()
                if self._by_digest:
                    await asyncio.to_thread(self._tallies.flush)
            except StoreError as error:
                # What is known of keys holds on meanwhile: nobody is let in who was not before.
                _log.warning("Changes of keys wait: %s", error)

    def _admit_key(self, credential: bytes) -> Visit:
        digest, now_s = sha256(credential).digest(), time.time()
        record = self._by_digest.get(digest)
        if record is None and time.monotonic() - self._looked_s > LOOK_AGAIN_S:
            self.look()
            record = self._by_digest.get(digest)
        expected = bytes.fromhex(record.sha256) if record is not None else _NOBODY
        if not hmac.compare_digest(expected, digest) or record is None or not record.is_valid(now_s):
            raise KeyRefusedError
        exceeded = self._tallies.count_request(record, now_s)
        if exceeded is not None:
            raise _limit_error(exceeded, now_s, (0, 0.0))
        return Visit(record, self._tallies, self._price_of)

    def _admit_admin(self, credential: bytes) -> None:
        if not self._admin and self._is_loopback:
            return
        if not hmac.compare_digest(self._admin or _NOBODY, sha256(credential).digest()):
            raise KeyRefusedError


def _checked_admin(key: str) -> bytes:
    if not key:
        return b""
    if len(key) < MIN_ADMIN_LENGTH:
        raise ConfigError(
            f"{ADMIN_VARIABLE} must hold at least {MIN_ADMIN_LENGTH} characters, but holds {len(key)}.",
            hint="Use a random one, such as `pilotfish keys admin` makes.",
        )
    return sha256(key.encode()).digest()


class _Asked(msgspec.Struct):
    """What a request says about the length of its answer, in the words of any of the interfaces."""

    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None


_asked = msgspec.json.Decoder(_Asked)


def _stated_tokens(body: bytes) -> int | None:
    """How many tokens the answers may have at most, None where the request does not say."""
    asked = _asked.decode(body)
    for value in (asked.max_completion_tokens, asked.max_output_tokens, asked.max_tokens):
        if isinstance(value, int) and value >= 0:
            n = asked.n if isinstance(asked.n, int) and asked.n > 0 else 1
            return min(value * n, MOST_TOKENS)
    return None


def _prompt_tokens(body: bytes) -> int:
    n_bytes, n_parts = len(body), 0
    if b";base64," in body:
        for found in _EMBEDDED.finditer(body):
            n_bytes -= found.end() - found.start()
            n_parts += 1
    return math.ceil(n_bytes / BYTES_PER_TOKEN) + n_parts * PART_TOKENS


def _cost_usd(price: Price | None, prompt: int, completion: int) -> float:
    return price.cost_usd(Usage(prompt=prompt, completion=completion)) if price is not None else 0.0


def _known_usd(price: Price | None, usage: Usage) -> float:
    return max(0.0, price.cost_usd(usage)) if price is not None else 0.0


def _limit_error(exceeded: Exceeded, now_s: float, least: tuple[int, float]) -> LimitError:
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
