"""Identifiers: request ids that sort by time, and content fingerprints."""

from __future__ import annotations

import hashlib
import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def request_id() -> str:
    """A new id of 20 characters: `pf-`, then 45 bits of milliseconds and 40 random ones, so that ids sort by time."""
    number = (int(time.time() * 1000) << 40) | int.from_bytes(os.urandom(5), "big")
    return "pf-" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(80, -5, -5))


def fingerprint(*parts: str) -> str:
    """16 hexadecimal digits of BLAKE2b over the parts, separated so that they cannot run into one another."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    """The SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
