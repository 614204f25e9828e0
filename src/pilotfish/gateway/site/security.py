"""Who may see the pages and change something: sessions, tokens against forged requests, and the headers of every reply.

A session is a random id with an end, signed by a secret that is made anew at each start and kept in memory alone; the
admin key goes into the signature, so that another key ends every session. Nothing has to be remembered of it, and all
worker processes know it, since they are forked from the one that made the secret. Whether the pages ask for the key
at all is the door's decision.
"""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import urlsplit

from pilotfish.core.errors import LimitError, NotAllowedError
from pilotfish.gateway.asgi import ClientHeaders, Headers

COOKIE = "pilotfish_session"
SESSION_S = 8 * 3600
MOST_FAILURES = 10
FAILURES_S = 60.0
MOST_CLIENTS = 1024
"""Of so many addresses the failed attempts are remembered, the latest."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# `no-referrer` would make browsers send `Origin: null` with forms, which says nothing of who sends them.
HEADERS: Headers = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
]

_SECRET = secrets.token_bytes(32)
"""Made when the gateway is imported, so before workers are forked."""


def open_session(admin_sha256: bytes, now_s: float) -> str:
    """A new session, as the cookie holds it."""
    payload = f"{int(now_s + SESSION_S):x}.{secrets.token_hex(16)}"
    return f"{payload}.{_sign(admin_sha256, payload)}"


def is_session(value: str, admin_sha256: bytes, now_s: float) -> bool:
    """Whether the cookie's value is a session that has not ended."""
    payload, _, signature = value.rpartition(".")
    if not hmac.compare_digest(_sign(admin_sha256, payload).encode(), signature.encode("utf-8", "replace")):
        return False
    return int(payload.partition(".")[0], 16) > now_s


def csrf(session: str) -> str:
    """The token that the forms of a session carry."""
    return hmac.digest(_SECRET, b"form\0" + session.encode(), "sha256").hex()


def is_csrf(session: str, token: str) -> bool:
    """Whether a form came from a page of this session."""
    return hmac.compare_digest(csrf(session).encode(), token.encode("utf-8", "replace"))


def check_csrf(session: str, token: str) -> None:
    """Raise `NotAllowedError` where a form did not come from a page of this session."""
    if not is_csrf(session, token):
        raise NotAllowedError("This form is not from a page of your session.", param="csrf", hint="Reload the page.")


def cookie(raw: list[tuple[bytes, bytes]]) -> str:
    """The session in a request's headers, empty where there is none."""
    for name, value in raw:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, found = pair.strip().partition("=")
                if key == COOKIE:
                    return found
    return ""


def set_cookie(session: str) -> tuple[bytes, bytes]:
    """The header that sets a session, or forgets it where it is empty."""
    age = SESSION_S if session else 0
    return b"set-cookie", f"{COOKIE}={session}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict".encode()


def is_same_site(headers: ClientHeaders) -> bool:
    """Whether a form came from a page of this very gateway, as far as the browser tells; programs tell nothing.

    Another port of the same machine is another site here, though cookies make no difference between ports.
    """
    if not headers.origin:
        return True
    try:
        return urlsplit(headers.origin).netloc.lower() == headers.host.lower() != ""
    except ValueError:
        return False


def local_path(path: str) -> str:
    """`path` where it leads to a page of this site, else `/`."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()
    return path if is_local else "/"


class Attempts:
    """Failed attempts to sign in, by address: a few a minute, then none."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[float, int]] = {}

    def check(self, address: str, now_s: float) -> None:
        """Raise `LimitError` where too many have failed lately."""
        since_s, n = self._failures.get(address, (now_s, 0))
        if n >= MOST_FAILURES and now_s - since_s < FAILURES_S:
            raise LimitError(
                "Too many attempts to sign in failed.",
                param="key",
                status=429,
                retry_after_s=max(1, round(FAILURES_S - (now_s - since_s))),
                hint="Wait a minute.",
            )

    def failed(self, address: str, now_s: float) -> None:
        """Count one."""
        since_s, n = self._failures.pop(address, (now_s, 0))
        self._failures[address] = (since_s, n + 1) if now_s - since_s < FAILURES_S else (now_s, 1)
        if len(self._failures) > MOST_CLIENTS:
            del self._failures[next(iter(self._failures))]


def _sign(admin_sha256: bytes, payload: str) -> str:
    return hmac.digest(_SECRET, b"session\0" + admin_sha256 + payload.encode("utf-8", "replace"), "sha256").hex()
