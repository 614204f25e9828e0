"""Virtual keys: who may ask what of the gateway, and up to which limits.

A key is shown once and kept as its SHA-256; `key_id` names it in the log. A limit belongs to a unit (requests, tokens,
US dollars) and a window. Minutes, days and months are those of UTC, so that every process agrees when one ends.
How much of a limit is used is counted in `store/tallies.py`, and decided on in `gateway/visit.py`.
"""

from __future__ import annotations

import calendar
import dataclasses
import secrets
import time
from dataclasses import dataclass, field
from typing import Literal

from pilotfish.core.privacy import PrivacyMode

PREFIX = "pf-"
ADMIN_PREFIX = "pf-admin-"

Unit = Literal["requests", "tokens", "usd"]
Window = Literal["minute", "day", "month", "total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a key may use; None is no limit."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    usd_per_day: float | None = None
    usd_per_month: float | None = None
    usd_total: float | None = None

    def stated(self) -> dict[str, float]:
        """The limits there are, by name."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def unit_of(limit: str) -> Unit:
    """What a limit counts, from its name."""
    for unit in ("requests", "tokens"):
        if limit.startswith(unit):
            return unit
    return "usd"


def window_of(limit: str) -> Window:
    """The window of a limit, from its name."""
    for window in ("minute", "day", "month"):
        if limit.endswith(window):
            return window
    return "total"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key. `number` is its place in the tallies, never used again.

    `models` is empty where all are allowed. `privacy` holds for its requests where nothing stricter does.
    """

    number: int
    key_id: str
    name: str
    sha256: str
    created_s: float
    models: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    privacy: PrivacyMode = "allow"
    expires_s: float | None = None
    revoked_s: float | None = None

    def is_valid(self, now_s: float) -> bool:
        """Whether it opens anything."""
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)

    def state(self, now_s: float) -> str:
        """`active`, `expired` or `revoked`."""
        if self.is_valid(now_s):
            return "active"
        return "expired" if self.revoked_s is None else "revoked"


def new_secret(prefix: str = PREFIX) -> str:
    """A new key: 256 random bits after `prefix`."""
    return prefix + secrets.token_urlsafe(32)


def month_of(now_s: float) -> int:
    """The number of a month in UTC; grows by one a month."""
    moment = time.gmtime(now_s)
    return moment.tm_year * 12 + moment.tm_mon - 1


def window_end_s(window: Window, now_s: float) -> float | None:
    """When the window that `now_s` lies in ends (seconds since the epoch), None for `total`."""
    if window == "minute":
        return (now_s // 60 + 1) * 60
    if window == "day":
        return (now_s // 86400 + 1) * 86400
    if window == "month":
        year, month = divmod(month_of(now_s) + 1, 12)
        return float(calendar.timegm((year, month + 1, 1, 0, 0, 0)))
    return None
