"""What is known by its shape alone: e-mail addresses, IP addresses, URLs with a password, keys and tokens, wallets.

Every pattern is linear in the text and is tried only where a cheap search has seen a character or prefix that it
cannot do without. Positions are those of the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from pilotfish.core.privacy import Finding
from pilotfish.privacy import checksums

SHAPE, CHECKED = 0.8, 1.0

# What may stand before the @ is read backwards from it, so that a text of letters without one costs nothing.
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}\Z")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_](?:[\w-]{0,61}[^\W_])|\[[\d.:a-fA-F]{3,45}\]")
_LEADING = ".'`*_{|/=&?#"
# Both are found by their middle, which begins with a character that is rare in text.
_IPV4 = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![\w-]|\.[0-9])")
_IPV4_HEAD = re.compile(r"(?<![0-9])[0-9]{1,3}\Z")
_IPV6 = re.compile(r":[0-9a-fA-F]{0,4}:[0-9a-fA-F:]{0,34}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3})?")
_IPV6_HEAD = re.compile(r"(?<![\w:])[0-9a-fA-F]{0,4}\Z")
_VERSION = re.compile(
    r"(?:\b(?:v|version|release|build|firmware|driver|revision|rev)[ .:=]{0,3}|[\w.-])\Z", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"://[^\s/:@\"'<>\\]{0,100}:[^\s/@\"'<>\\]{1,200}@[^\s\"'<>\\]{1,500}")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}\Z")
_BASE58 = re.compile(r"[13][1-9A-HJ-NP-Za-km-z]{25,34}(?![A-Za-z0-9])")
_BECH32 = re.compile(r"bc1[ac-hj-np-z02-9]{11,71}(?![A-Za-z0-9])", re.IGNORECASE)
_TAIL = r"(?![A-Za-z0-9])"
# What each begins with, and what follows; prefixes are as the issuers publish them.
_SECRETS = tuple(
    (prefix, re.compile(r"(?<![A-Za-z0-9])" + pattern))
    for prefix, pattern in (
        ("sk-", r"sk-[A-Za-z0-9_-]{20,250}"),
        ("AKIA", r"AKIA[A-Z0-9]{16}" + _TAIL),
        ("ASIA", r"ASIA[A-Z0-9]{16}" + _TAIL),
        ("_live_", r"[spr]k_live_[A-Za-z0-9]{16,250}"),
        ("_test_", r"[spr]k_test_[A-Za-z0-9]{16,250}"),
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{22,250}"),
        *((f"gh{kind}_", rf"gh{kind}_[A-Za-z0-9]{{36,250}}") for kind in "pousr"),
        ("glpat-", r"glpat-[A-Za-z0-9_-]{20,60}"),
        ("xox", r"xox[abeprs]-[A-Za-z0-9-]{10,250}"),
        ("AIza", r"AIza[A-Za-z0-9_-]{35}" + _TAIL),
        ("hf_", r"hf_[A-Za-z0-9]{30,60}"),
        ("npm_", r"npm_[A-Za-z0-9]{36}" + _TAIL),
        ("SG.", r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
        ("pf-", r"pf-[a-z]{3,8}-[A-Za-z0-9_-]{20,100}"),
        ("eyJ", r"(?<![_-])eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,8000}\.[A-Za-z0-9_-]{8,1000}"),
        (
            "PRIVATE KEY-",
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{1,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?",
        ),
    )
)


def emails(text: str) -> Iterator[Finding]:
    """E-mail addresses, with letters of any script."""
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        local = _LOCAL.search(text[max(0, at - 64) : at]) if domain is not None else None
        if domain is not None and local is not None and (name := local[0].lstrip(_LEADING)):
            yield Finding(type="EMAIL", start=at - len(name), end=domain.end(), score=SHAPE)
        at = text.find("@", at + 1)


def addresses(text: str) -> Iterator[Finding]:
    """IP addresses that may lead to somebody."""
    for pattern, heads in ((_IPV4, _IPV4_HEAD), (_IPV6, _IPV6_HEAD)):
        for match in pattern.finditer(text):
            middle = match.start()
            head = heads.search(text[max(0, middle - 5) : middle])
            if head is None:
                continue
            start = middle - len(head[0])
            is_version = pattern is _IPV4 and _VERSION.search(text[max(0, start - 12) : start])
            if not is_version and _is_somewhere(text[start : match.end()]):
                yield Finding(type="IP_ADDRESS", start=start, end=match.end(), score=SHAPE)


def _is_somewhere(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or int(address) < 1 << 16)


def credentials(text: str) -> Iterator[Finding]:
    """URLs with a user and a password, whole."""
    if "://" not in text or "@" not in text:
        return
    for match in _CREDENTIALS.finditer(text):
        scheme = _SCHEME.search(text[max(0, match.start() - 21) : match.start()])
        start = match.start() - len(scheme[0]) if scheme else match.start()
        yield Finding(type="URL_CREDENTIALS", start=start, end=match.end(), score=SHAPE + 0.1)


def secrets(text: str) -> Iterator[Finding]:
    """Keys and tokens whose prefix says what they are."""
    for prefix, pattern in _SECRETS:
        if prefix in text:
            for match in pattern.finditer(text):
                yield Finding(type="SECRET", start=match.start(), end=match.end(), score=SHAPE + 0.1)


def wallets(text: str) -> Iterator[Finding]:
    """Bitcoin addresses whose check sum holds."""
    for pattern in (_BASE58, _BECH32) if "bc1" in text or "BC1" in text else (_BASE58,):
        for match in pattern.finditer(text):
            if not text[match.start() - 1 : match.start()].isalnum() and checksums.bitcoin(match[0]):
                yield Finding(type="CRYPTO_WALLET", start=match.start(), end=match.end(), score=CHECKED)
