"""The door: who may come in.

Paths below `/v1/` are opened by virtual keys, all others but the health check by the admin key. On loopback a door that
nobody gave a key to stands open. Keys are looked up by their hash in memory; changes that another process made
are taken over within a second. What one request may use is its visit's business (`visit.py`).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from hashlib import sha256

from pilotfish.core.errors import ConfigError, KeyRefusedError, StoreError
from pilotfish.gateway.visit import OPEN, Known, PriceOf, Visit, limit_error, limited
from pilotfish.store.base import Keys, Tallies

ADMIN_VARIABLE = "PILOTFISH_ADMIN_KEY"
MIN_ADMIN_LENGTH = 24
LOOK_EVERY_S = 1.0
LOOK_AGAIN_S = 0.1
"""A key that is not known may have been made just now; this often at most the registry is asked at once."""

_NOBODY = b"\0" * 32
_log = logging.getLogger(__name__)


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
        self._by_digest: dict[bytes, Known] = {}
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

    @property
    def pages_need_admin(self) -> bool:
        """Whether the web pages ask for the admin key: wherever any key is asked for, since they show texts."""
        return bool(self._admin) or self._needs_key

    @property
    def admin_sha256(self) -> bytes:
        """The hash of the admin key, empty where there is none."""
        return self._admin

    def is_admin(self, credential: bytes) -> bool:
        """Whether this is the admin key; never where there is none."""
        return hmac.compare_digest(self._admin or _NOBODY, sha256(credential).digest())

    def look(self) -> None:
        """Take over what has changed in the registry. Raises `StoreError` where it cannot be read."""
        self._looked_s = time.monotonic()
        version = self._keys.version()
        if version == self._version:
            return
        records = self._keys.all()
        self._by_digest = {known.digest: known for known in map(Known.of, records)}
        self._admin = self._own_admin or bytes.fromhex(self._keys.admin_sha256())
        self._needs_key = self._require_keys or not self._is_loopback or bool(records)
        self._version = version

    async def run(self) -> None:
        """Look for changes and other processes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._look_quietly()
            try:
                self._tallies.refresh()
                if self._by_digest:
                    await asyncio.to_thread(self._tallies.flush)
            except (StoreError, OSError) as error:
                _log.warning("The use of keys is not on the disk yet: %s", error)

    def _look_quietly(self) -> None:
        try:
            self.look()
        except StoreError as error:
            # What is known of keys holds on meanwhile: nobody is let in who was not before.
            _log.warning("Changes of keys wait: %s", error)

    def _admit_key(self, credential: bytes) -> Visit:
        digest, now_s = sha256(credential).digest(), time.time()
        known = self._by_digest.get(digest)
        if known is None and time.monotonic() - self._looked_s > LOOK_AGAIN_S:
            self._look_quietly()
            known = self._by_digest.get(digest)
        expected = known.digest if known is not None else _NOBODY
        if not hmac.compare_digest(expected, digest) or known is None or not known.record.is_valid(now_s):
            raise KeyRefusedError
        exceeded = self._tallies.count_request(known.record, now_s)
        if exceeded is not None:
            raise limit_error(exceeded, now_s, (0, 0.0))
        return limited(known, self._tallies, self._price_of)

    def _admit_admin(self, credential: bytes) -> None:
        if not self._admin and self._is_loopback:
            return
        if not self.is_admin(credential):
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
