"""A model on several servers: who is asked, how often, and until when. The faults one by one: tests/gateway."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from pilotfish.config.settings import LargeSettings
from pilotfish.core.errors import ModelDownError, ModelError, ModelStatusError, ModelTimeoutError
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.models import breaker
from pilotfish.models.base import ModelCard
from pilotfish.models.breaker import N_FAILURES
from pilotfish.models.failover import PAUSES_S, FailoverModel
from pilotfish.models.http import HttpModel
from tools.upstream import Reply, Script, Upstream, upstream

DOWN = Reply(status=500, body=b"{}")


@contextlib.contextmanager
def servers(*scripts: Script) -> Iterator[list[Upstream]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(upstream(script)) for script in scripts]


def asking(
    behind: list[Upstream],
    work: Callable[[FailoverModel], Awaitable[None]],
    *,
    timeout_s: float = 3.0,
    retry_wait_s: float = 0.5,
) -> None:
    async def run() -> None:
        # The timeout of a single server must not be what ends a call.
        parts = [HttpModel(url=server.url, name="big", timeout_s=60.0) for server in behind]
        card = ModelCard(name="big")
        model = FailoverModel(parts, card=card, timeout_s=timeout_s, retry_wait_s=retry_wait_s)
        try:
            await work(model)
        finally:
            await model.aclose()
            await asyncio.sleep(0.01)

    asyncio.run(run())


def request(**fields: object) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content="hi")], **fields)  # type: ignore[arg-type]


def test_servers_are_asked_in_their_order_and_the_first_again_once_it_is_well() -> None:
    async def work(model: FailoverModel) -> None:
        assert (await model.answer(request())).text == "third"
        assert (await model.answer(request())).text == "first"

    with servers([DOWN, Reply(text="first")], [DOWN], [Reply(text="third")]) as behind:
        asking(behind, work)
        assert [len(server.asked) for server in behind] == [2, 1, 1]


def test_a_server_that_failed_often_is_skipped_and_probed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 0.4)

    async def work(model: FailoverModel) -> None:
        for _ in range(N_FAILURES + 3):
            await model.answer(request())
        assert model.state[0]["is_open"] is True
        await asyncio.sleep(0.4)
        assert (await model.answer(request())).text == "well again"
        assert model.state[0] == {"host": model.state[0]["host"], "is_open": False, "failures_in_a_row": 0}

    with servers([DOWN] * N_FAILURES + [Reply(text="well again")], [Reply()]) as behind:
        asking(behind, work)
        assert len(behind[0].asked) == N_FAILURES + 1


def test_where_all_are_left_alone_the_client_hears_at_once_when_to_come_back() -> None:
    async def work(model: FailoverModel) -> None:
        for _ in range(N_FAILURES):
            with pytest.raises(ModelStatusError):
                await model.answer(request())
        with pytest.raises(ModelDownError) as caught:
            await model.answer(request())
        assert 0 < caught.value.retry_after_s <= 1.0

    with servers([DOWN], [DOWN]) as behind:
        asking(behind, work)
        assert [len(server.asked) for server in behind] == [N_FAILURES, N_FAILURES]


def test_the_clients_own_mistakes_and_rate_limits_open_nothing() -> None:
    async def work(model: FailoverModel) -> None:
        for _ in range(2 * N_FAILURES):
            with pytest.raises(ModelStatusError):
                await model.answer(request())
        assert model.state[0]["is_open"] is False

    for status in (400, 401, 404, 429):
        with servers([Reply(status=status, body=b"{}")]) as behind:
            asking(behind, work, retry_wait_s=0.0)


def test_one_deadline_covers_all_tries() -> None:
    async def work(model: FailoverModel) -> None:
        started_s = time.perf_counter()
        with pytest.raises(ModelTimeoutError):
            await model.answer(request())
        assert time.perf_counter() - started_s >= 0.5
        with pytest.raises(ModelTimeoutError):
            async for _ in model.stream(request(stream=True)):
                pass

    slow = Reply(status=500, body=b"{}", delay_s=0.4)
    with servers([slow], [Reply(hangs=True), Reply(text="a" * 100, pace_s=0.05)]) as behind:
        asking(behind, work, timeout_s=0.6)


def test_the_default_wait_has_room_for_every_pause() -> None:
    assert 0 < sum(PAUSES_S) <= LargeSettings().retry_wait_s


def test_a_short_wait_hides_a_short_outage_where_no_server_is_left() -> None:
    async def work(model: FailoverModel) -> None:
        assert (await model.answer(request())).text == "well again"

    with servers([Reply(status=503, body=b"{}"), Reply(text="well again")]) as behind:
        asking(behind, work)


@pytest.mark.parametrize(("retry_after", "n_asked"), [("0", 3), ("1", 1), ("Wed, 21 Oct 2026 07:28:00 GMT", 3)])
def test_a_wait_is_no_shorter_than_the_server_says_and_no_longer_than_allowed(retry_after: str, n_asked: int) -> None:
    async def work(model: FailoverModel) -> None:
        with pytest.raises(ModelStatusError) as caught:
            await model.answer(request())
        assert ("retry-after", retry_after) in caught.value.headers

    with servers([Reply(status=429, body=b"{}", headers=(("Retry-After", retry_after),))]) as behind:
        asking(behind, work)
        assert len(behind[0].asked) == n_asked


def test_there_is_no_wait_beyond_the_deadline() -> None:
    async def work(model: FailoverModel) -> None:
        with pytest.raises(ModelStatusError):
            await model.answer(request())

    with servers([Reply(status=503, body=b"{}")]) as behind:
        asking(behind, work, timeout_s=0.05)
        assert len(behind[0].asked) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_several_failures_the_client_gets_the_one_that_says_when_to_come_back(order: tuple[int, int]) -> None:
    async def work(model: FailoverModel) -> None:
        with pytest.raises(ModelStatusError) as caught:
            await model.answer(request())
        assert (caught.value.status, caught.value.retry_after_s) == (429, 9.0)

    scripts = [[DOWN], [Reply(status=429, body=b"{}", headers=(("Retry-After", "9"),))]]
    with servers(*(scripts[position] for position in order)) as behind:
        asking(behind, work)


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_unseen() -> None:
    async def work(model: FailoverModel) -> None:
        await model.answer(request())
        await asyncio.sleep(0.05)
        assert (await model.answer(request())).text == "hello"

    with servers([Reply(keeps=False)]) as behind:
        asking(behind, work)
        assert behind[0].n_connections == 2


def test_leaving_a_stream_early_is_no_failure() -> None:
    async def work(model: FailoverModel) -> None:
        for _ in range(N_FAILURES):
            pieces = model.stream(request(stream=True))
            await anext(pieces)
            await pieces.aclose()
        assert model.state[0]["failures_in_a_row"] == 0

    with servers([Reply(text="abcdef", pace_s=0.02)]) as behind:
        asking(behind, work)
        behind[0].wait_for_hang_up(N_FAILURES)


def test_streams_that_break_off_count_against_a_server() -> None:
    async def work(model: FailoverModel) -> None:
        for _ in range(N_FAILURES):
            with pytest.raises(ModelError):
                async for _ in model.stream(request(stream=True)):
                    pass
        assert model.state[0]["failures_in_a_row"] == 1

    with servers([Reply(text="abcdef", cut_after=3)]) as behind:
        asking(behind, work)


def test_a_breaker_says_when_it_opens_and_when_it_closes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="pilotfish")
    clock = [0.0]

    async def work(model: FailoverModel) -> None:
        place = model._places[0]
        place.breaker._clock_s = lambda: clock[0]
        for _ in range(N_FAILURES):
            with pytest.raises(ModelStatusError):
                await model.answer(request())
        clock[0] += 1000.0
        asked = request()
        await model.answer(asked)
        assert (asked.server, asked.tries) == (place.server.host, 1)

    with servers([*[DOWN] * N_FAILURES, Reply()]) as behind:
        asking(behind, work, retry_wait_s=0.0)
    told = [record.fields["event"] for record in caplog.records]  # type: ignore[attr-defined]
    assert told == ["breaker-opened", "breaker-closed"]
