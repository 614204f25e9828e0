from __future__ import annotations

import asyncio
import time

import pytest

from pilotfish.evals.load_shape import LoadShape, drive


def driven(n: int, shape: LoadShape, work_s: float) -> tuple[list[float], list[float], int]:
    """When each call was meant to be sent, how long it seemed to take, and how many ran at once at most."""
    sent, took = [], []
    running = most = 0

    async def ask(_job: int, sent_s: float) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(work_s)
        running -= 1
        sent.append(sent_s)
        took.append(time.perf_counter() - sent_s)

    asyncio.run(drive(range(n), ask, shape))
    return sent, took, most


def test_a_closed_loop_has_so_many_calls_at_a_time():
    sent, _, most = driven(12, LoadShape(clients=3), 0.005)
    assert (len(sent), most) == (12, 3)
    assert driven(2, LoadShape(clients=5), 0.001)[2] == 2
    assert driven(0, LoadShape(), 0.0)[0] == []


def test_an_open_loop_sends_when_due_whether_or_not_answers_have_come():
    sent, _, most = driven(40, LoadShape(rate_per_s=400, seed=1), 0.1)
    assert most > 5
    gaps = [later - earlier for earlier, later in zip(sorted(sent), sorted(sent)[1:], strict=False)]
    assert sum(gaps) / len(gaps) == pytest.approx(1 / 400, rel=0.6)


def test_latency_counts_from_the_intended_time():
    async def ask(_job: int, sent_s: float) -> None:
        time.sleep(0.02)  # blocks the loop, as a slow client would
        took.append(time.perf_counter() - sent_s)

    took: list[float] = []
    asyncio.run(drive(range(10), ask, LoadShape(rate_per_s=1000, seed=0)))
    assert max(took) > 0.1


@pytest.mark.parametrize("shape", [LoadShape(clients=2), LoadShape(rate_per_s=2000)])
def test_the_first_failure_ends_the_others(shape):
    asked = []

    async def ask(job: int, _sent_s: float) -> None:
        asked.append(job)
        if job == 3:
            raise RuntimeError("gone")
        await asyncio.sleep(0.01)

    with pytest.raises(RuntimeError, match="gone"):
        asyncio.run(drive(range(1000), ask, shape))
    assert len(asked) < 1000


def test_a_shape_says_what_it_is():
    assert str(LoadShape(clients=4)) == "closed, 4 clients"
    assert str(LoadShape(rate_per_s=2.5, seed=3)) == "open, Poisson at 2.5 calls/s, seed 3"
