"""Receipts as response headers: which model answered, and why.

Names come from clients and users, so they are made safe for a header here. What the reasons mean is known to
`core/receipt.py`.
"""

from __future__ import annotations

import re

from pilotfish.core.receipt import Receipt
from pilotfish.gateway.asgi import Headers

MAX_NAME = 256
"""Characters of a name that a header carries."""

_UNSAFE = re.compile(r"[^\x20-\x7e]")


def headers(receipt: Receipt) -> Headers:
    """The receipt's headers; model, task, certificate, tier and privacy only where there is one."""
    rows = [(b"x-pilotfish-request-id", receipt.request_id.encode())]
    if receipt.model:
        rows.append((b"x-pilotfish-model", _safe(receipt.model)))
    rows.append((b"x-pilotfish-reason", receipt.reason.encode()))
    if receipt.task_id:
        rows.append((b"x-pilotfish-task", _safe(receipt.task_name or receipt.task_id)))
    if receipt.certificate_id:
        rows.append((b"x-pilotfish-certificate", receipt.certificate_id.encode()))
    if receipt.tier is not None:
        rows.append((b"x-pilotfish-tier", b"%d" % receipt.tier))
    if receipt.privacy:
        rows.append((b"x-pilotfish-privacy", receipt.privacy.encode()))
    return rows


def request_id_only(request_id: str) -> Headers:
    """For a reply to what never became a chat request."""
    return [(b"x-pilotfish-request-id", request_id.encode())]


def _safe(text: str) -> bytes:
    """Model names come from clients: a line break in one must not become a header of its own, nor a page one header."""
    text = text[:MAX_NAME]
    return (text if text.isascii() and text.isprintable() else _UNSAFE.sub("?", text)).encode("ascii")
