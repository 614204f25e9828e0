"""Identifiers: request ids that sort by time, and content fingerprints.

Fingerprints are short names for what is equal, told apart by the store; SHA-256 stands where somebody could profit from
two contents of one name: artefacts, data, settings.
"""

from __future__ import annotations

import hashlib
import random
import time


def request_id() -> str:
    """A new id of 24 characters: `pf-`, 11 hexadecimal digits of milliseconds and 10 random ones; ids sort by time."""
    return f"pf-{int(time.time() * 1000):011x}{random.getrandbits(40):010x}"


_EMPTY = bytes(8)


def fingerprint(*parts: str) -> str:
    """16 hexadecimal digits of BLAKE2b over the parts, separated so that they cannot run into one another."""
    pieces: list[bytes] = []
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        pieces += (len(data).to_bytes(8, "big"), data) if data else (_EMPTY,)
    return hashlib.blake2b(b"".join(pieces), digest_size=8).hexdigest()


def sha256(data: bytes) -> str:
    """The SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
