from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pilotfish.core.errors import RequestError
from pilotfish.gateway import asgi


def receiving(*messages: dict[str, Any]) -> asgi.Receive:
    rows: Iterator[dict[str, Any]] = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(rows)

    return receive


def piece(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_body_in_pieces_is_joined() -> None:
    receive = receiving(piece(b"ab", more=True), piece(b"", more=True), piece(b"c"))
    assert asyncio.run(asgi.read_body(receive, -1, 3)) == b"abc"


def test_a_body_over_the_limit_is_refused_once_it_has_been_read() -> None:
    receive = receiving(piece(b"ab", more=True), piece(b"cd", more=True), piece(b"e"))
    with pytest.raises(RequestError) as caught:
        asyncio.run(asgi.read_body(receive, -1, 3))
    assert caught.value.status == 413


def test_a_body_announced_far_over_the_limit_is_not_read_at_all() -> None:
    with pytest.raises(RequestError):
        asyncio.run(asgi.read_body(receiving(), 3 + asgi.DISCARD_BYTES + 1, 3))


def test_an_endless_body_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "DISCARD_BYTES", 10)
    n_read = 0

    async def receive() -> dict[str, Any]:
        nonlocal n_read
        n_read += 1
        return piece(b"abcd", more=True)

    with pytest.raises(RequestError):
        asyncio.run(asgi.read_body(receive, -1, 3))
    assert n_read == 4


def test_a_client_that_goes_while_sending_has_no_body() -> None:
    receive = receiving(piece(b"ab", more=True), {"type": "http.disconnect"})
    assert asyncio.run(asgi.read_body(receive, -1, 10)) is None


def test_only_what_a_model_server_needs_travels_on() -> None:
    headers = asgi.read_headers(
        [
            (b"host", b"localhost:8710"),
            (b"cookie", b"secret"),
            (b"content-length", b"12"),
            (b"authorization", b"Bearer k"),
            (b"traceparent", b"00-1"),
        ]
    )
    assert headers.forwarded == (("authorization", "Bearer k"), ("traceparent", "00-1"))
    assert (headers.host, headers.content_length, headers.origin) == ("localhost:8710", 12, "")


def test_work_is_cancelled_when_the_client_goes() -> None:
    async def run() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.02)
            return {"type": "http.disconnect"}

        with asgi.Departure(receive) as departure:
            await asyncio.sleep(60)
        assert departure.is_gone
        # The task itself goes on uncancelled.
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_cancellation_of_another_kind_passes_through() -> None:
    async def work() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(60)
            return {}

        with asgi.Departure(receive):
            await asyncio.sleep(60)

    async def run() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
