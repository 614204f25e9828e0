"""`POST /v1/feedback`: what a user thinks of an answer, joined to its request in the log.

Only the key that made a request may mark it. A later mark replaces an earlier one. The comment is text of a user: it is
kept only where texts are, and where nothing has to be masked in them.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Literal

import msgspec

from pilotfish.config.settings import Settings
from pilotfish.core.errors import RequestError
from pilotfish.core.log_row import GradeRow, RequestRow
from pilotfish.gateway import asgi
from pilotfish.models.wire.format import detail
from pilotfish.store.base import Log, LogWriter

MAX_BYTES = 64 << 10
LOOK_AGAIN_S = 0.7
"""The log takes up to half a second to know a request."""


class _Feedback(msgspec.Struct, forbid_unknown_fields=True):
    request_id: str
    score: float | None = None
    thumbs: Literal["up", "down"] | None = None
    comment: str | None = None


_decode = msgspec.json.Decoder(_Feedback).decode


class Feedback:
    """Takes the marks of one gateway."""

    path = "/v1/feedback"

    def __init__(self, settings: Settings, *, log: Log, writer: LogWriter) -> None:
        self._keeps_comments = settings.log.keep_text and settings.privacy.mode == "allow"
        self._log = log
        self._writer = writer

    async def answer(self, headers: asgi.ClientHeaders, receive: asgi.Receive, send: asgi.Send) -> None:
        """Write one mark down. Raises `RequestError` where it cannot be read, or the request is not this key's."""
        body = await asgi.read_body(receive, headers.content_length, MAX_BYTES)
        if body is None:
            return
        given, score = _read(body)
        row = await self._request(given.request_id)
        # Whose request it was is not told to others.
        if row is None or row.key_id != headers.visit.key_id:
            raise RequestError(
                f"No request {given.request_id[:64]!r} of this key is known.",
                param="request_id",
                status=404,
                hint="Send the x-pilotfish-request-id of the reply.",
            )
        keeps = self._keeps_comments and headers.visit.privacy == "allow"
        grade = GradeRow(
            request_id=row.request_id,
            source="feedback",
            time_s=time.time(),
            scores=json.dumps({row.model: score}),
            comment=given.comment if keeps else None,
            key_id=row.key_id,
        )
        self._writer.append(grade)
        await asgi.respond(send, 200, [asgi.JSON], msgspec.json.encode({"request_id": row.request_id, "score": score}))

    async def _request(self, request_id: str) -> RequestRow | None:
        row = await asyncio.to_thread(self._log.row, request_id)
        if row is None and request_id.startswith("pf-"):
            await asyncio.sleep(LOOK_AGAIN_S)
            row = await asyncio.to_thread(self._log.row, request_id)
        return row


def _read(body: bytes) -> tuple[_Feedback, float]:
    try:
        given = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"The feedback could not be read: {detail(error)}.", hint=_EXPECTED) from error
    if (given.score is None) == (given.thumbs is None):
        raise RequestError("The feedback needs either a score or thumbs.", param="score", hint=_EXPECTED)
    score = given.score if given.score is not None else float(given.thumbs == "up")
    if not 0.0 <= score <= 1.0:
        raise RequestError(f"The score must lie in 0..1, but is {score:g}.", param="score", hint=_EXPECTED)
    return given, score


_EXPECTED = 'Expected {"request_id": "pf-...", "score": 0..1} or "thumbs": "up" or "down", and perhaps a "comment".'
