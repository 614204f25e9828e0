"""Receipts as response headers: which model answered, and why.

Names come from clients and users, so they are made safe for a header here. What the reasons mean is known to
`core/receipt.py`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pilotfish.core.receipt import Receipt
from pilotfish.gateway.asgi import Headers

MAX_NAME = 256
"""Characters of a name that a header carries."""

_UNSAFE = re.compile(r"[^\x20-\x7e]")


def headers(receipt: Receipt) -> Headers:
    """The receipt's headers; model, task, certificate, tier, privacy and route only where there is one."""
    task = receipt.task_name or receipt.task_id if receipt.task_id else ""
    same = _same(receipt.model[:MAX_NAME], receipt.reason, task[:MAX_NAME], receipt.certificate_id, receipt.tier)
    rows = [(b"x-pilotfish-request-id", receipt.request_id.encode()), *same]
    if receipt.privacy:
        rows.append((b"x-pilotfish-privacy", receipt.privacy.encode()))
    if receipt.route:
        rows.append((b"x-pilotfish-route", _safe(receipt.route)))
    return rows


def request_id_only(request_id: str) -> Headers:
    """For a reply to what never became a chat request."""
    return [(b"x-pilotfish-request-id", request_id.encode())]


@lru_cache(maxsize=1024)
def _same(model: str, reason: str, task: str, certificate_id: str, tier: int | None) -> tuple[tuple[bytes, bytes], ...]:
    """What many requests have in common."""
    rows = [(b"x-pilotfish-model", _safe(model))] if model else []
    rows.append((b"x-pilotfish-reason", reason.encode()))
    if task:
        rows.append((b"x-pilotfish-task", _safe(task)))
    if certificate_id:
        rows.append((b"x-pilotfish-certificate", certificate_id.encode()))
    if tier is not None:
        rows.append((b"x-pilotfish-tier", b"%d" % tier))
    return tuple(rows)


def _safe(text: str) -> bytes:
    """Model names come from clients: a line break in one must not become a header of its own, nor a page one header."""
    return (text if text.isascii() and text.isprintable() else _UNSAFE.sub("?", text)).encode("ascii")
