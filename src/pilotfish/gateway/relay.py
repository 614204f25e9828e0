"""What a model answers, relayed to the client as the bytes that come, and read afterwards.

A client that leaves cancels the work upstream at once. Nothing here decides who is asked, or writes to the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from pilotfish.core.errors import ModelFormatError, ModelTimeoutError, PilotfishError
from pilotfish.core.messages import Answer
from pilotfish.gateway import asgi, error_bodies, receipts
from pilotfish.gateway.rows import Outcome, Turn
from pilotfish.gateway.tried import MOST_BYTES, Said
from pilotfish.models.wire.format import Format
from pilotfish.models.wire.logprobs import Cleaner

LEFT = Outcome(status=error_bodies.CLIENT_LEFT, error="the client left")


async def relay(turn: Turn, receive: asgi.Receive, send: asgi.Send) -> Outcome:
    """Let `turn.target` answer. Raises a `PilotfishError` where it gives no answer, before anything was sent."""
    return await (_stream if turn.request.stream else _whole)(turn, receive, send)


async def give(turn: Turn, said: Said, receive: asgi.Receive, send: asgi.Send) -> Outcome:
    """Send an answer that is there already, whole or as the stream it came in; of one that was begun the rest too."""
    if said.opened is not None:
        return await _relayed(turn, said.opened.pieces(), said.opened.cleaner, receive, send)
    if turn.request.stream:
        await start_stream(turn, send)
        await send({"type": "http.response.body", "body": turn.privacy.restored_stream(said.body)})
    else:
        headers = _encoded(said.headers) + receipts.headers(turn.receipt)
        await asgi.respond(send, 200, headers, turn.privacy.restored(said.body))
    return Outcome(answer=said.tried.text, usage=said.usage)


async def _whole(turn: Turn, receive: asgi.Receive, send: asgi.Send) -> Outcome:
    failure: PilotfishError | None = None
    with asgi.Departure(receive) as departure:
        try:
            answer = await (
                turn.target.answer(turn.request) if turn.wait_s is None else _answer_in_time(turn, turn.wait_s)
            )
        except PilotfishError as error:
            failure = error
    if departure.is_gone:
        return LEFT
    if failure is not None:
        raise failure
    headers = _encoded(answer.headers)
    await asgi.respond(send, 200, headers + receipts.headers(turn.receipt), turn.privacy.restored(answer.body))
    return Outcome(answer=answer.text, reference_answer=answer.text, usage=answer.usage)


async def _stream(turn: Turn, receive: asgi.Receive, send: asgi.Send) -> Outcome:
    pieces = turn.target.stream(turn.request)
    pieces = pieces if turn.wait_s is None else _begun_in_time(turn, pieces, turn.wait_s)
    return await _relayed(turn, pieces, None, receive, send)


async def _answer_in_time(turn: Turn, wait_s: float) -> Answer:
    try:
        async with asyncio.timeout(wait_s):
            return await turn.target.answer(turn.request)
    except TimeoutError as error:
        raise _given_up(turn, wait_s) from error


async def _begun_in_time(turn: Turn, pieces: AsyncGenerator[bytes, None], wait_s: float) -> AsyncGenerator[bytes, None]:
    """The same pieces, where the first comes in time; the others may take as long as the model may."""
    try:
        try:
            async with asyncio.timeout(wait_s):
                first = await anext(pieces, b"")
        except TimeoutError as error:
            raise _given_up(turn, wait_s) from error
        if first:
            yield first
        async for piece in pieces:
            yield piece
    finally:
        await pieces.aclose()


def _given_up(turn: Turn, wait_s: float) -> ModelTimeoutError:
    if turn.routing is not None:
        turn.routing.late.append((turn.model, wait_s))
    return ModelTimeoutError(f"{turn.model} was given up after {wait_s:.3g} s.", model=turn.model)


async def _relayed(
    turn: Turn,
    pieces: AsyncGenerator[bytes, None],
    cleaner: Cleaner | None,
    receive: asgi.Receive,
    send: asgi.Send,
) -> Outcome:
    kept: list[bytes] = []
    n_bytes = 0
    failure: PilotfishError | None = None
    restorer = turn.privacy.stream()
    with asgi.Departure(receive) as departure:
        try:
            async for piece in pieces:
                if not n_bytes:
                    await start_stream(turn, send)
                n_bytes += len(piece)
                if n_bytes <= MOST_BYTES:
                    kept.append(piece)
                shown = piece if cleaner is None else cleaner.feed(piece)
                shown = shown if restorer is None else restorer.feed(shown)
                await send({"type": "http.response.body", "body": shown, "more_body": True})
        except PilotfishError as error:
            failure = error
        finally:
            await pieces.aclose()
    if not departure.is_gone:
        if not n_bytes:
            raise failure or ModelFormatError(f"{turn.model} answered an empty stream.", model=turn.model)
        # After the first byte an error can only be an event of the stream.
        last = b""
        if failure is not None:
            last = turn.request.format.encode_error_event(error_bodies.fault_of(failure), b"".join(kept))
        end = b"" if cleaner is None else cleaner.end()
        end = end if restorer is None else restorer.feed(end) + restorer.end()
        await send({"type": "http.response.body", "body": end + last})
    return await _stream_outcome(turn.request.format, kept, n_bytes, failure, is_gone=departure.is_gone)


async def start_stream(turn: Turn, send: asgi.Send) -> None:
    """Begin the reply of a stream."""
    turn.begun_s = time.perf_counter()
    headers = asgi.EVENTS + receipts.headers(turn.receipt)
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _stream_outcome(
    form: Format, kept: list[bytes], n_bytes: int, failure: PilotfishError | None, *, is_gone: bool
) -> Outcome:
    if n_bytes > MOST_BYTES:
        return Outcome(error="the stream was too long to be logged")
    summary = await form.read_stream(b"".join(kept))
    error = what(failure) if failure is not None else summary.error
    return Outcome(
        answer=summary.text,
        reference_answer=summary.text if summary.is_whole and failure is None else None,
        usage=summary.usage,
        status=error_bodies.CLIENT_LEFT if is_gone else error_bodies.status_of(failure) if failure is not None else 200,
        error=LEFT.error if is_gone else error,
    )


def _encoded(headers: tuple[tuple[str, str], ...]) -> asgi.Headers:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers] or [asgi.JSON]


def what(error: PilotfishError) -> str:
    """An error as the log has it."""
    return f"{error.code}: {error}"
