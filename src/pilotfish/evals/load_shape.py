"""How calls follow one another: closed (N clients, each waiting for its answer) or open (Poisson, at a rate).

In an open loop calls are sent when they are due, whether or not earlier ones have come back, and latency counts from
that moment: a client that waits for a slow server before it sends the next call would hide the queue. The same seed
gives the same times. What is asked is not known here.

Source: MLPerf inference rules, scenario "server".
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

Job = TypeVar("Job")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShape:
    """`rate_per_s` None means closed with `clients`. `warm_up` calls go before, and are thrown away."""

    clients: int = 1
    rate_per_s: float | None = None
    warm_up: int = 0
    seed: int = 0

    def __str__(self) -> str:
        if self.rate_per_s is None:
            return f"closed, {self.clients} client{'' if self.clients == 1 else 's'}"
        return f"open, Poisson at {self.rate_per_s:g} calls/s, seed {self.seed}"


async def drive(jobs: Sequence[Job], ask: Callable[[Job, float], Awaitable[None]], shape: LoadShape) -> None:
    """Call `ask(job, sent_s)` for every job; `sent_s` is the intended time (`time.perf_counter`).

    The first exception ends the others and is raised; so does a cancellation.
    """
    if shape.rate_per_s is None:
        waiting = iter(jobs)
        await _together([_client(waiting, ask) for _ in range(min(shape.clients, len(jobs)))])
    else:
        await _poisson(jobs, ask, shape.rate_per_s, shape.seed)


async def _client(waiting: Iterator[Job], ask: Callable[[Job, float], Awaitable[None]]) -> None:
    for job in waiting:
        await ask(job, time.perf_counter())
        # A model that answers without ever waiting would keep Ctrl-C and the other clients out.
        await asyncio.sleep(0)


async def _poisson(
    jobs: Sequence[Job], ask: Callable[[Job, float], Awaitable[None]], rate_per_s: float, seed: int
) -> None:
    source = random.Random(seed)
    due_s = time.perf_counter()
    running: set[asyncio.Task[None]] = set()
    failed: list[BaseException] = []

    def ended(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failed.append(error)

    try:
        for job in jobs:
            due_s += source.expovariate(rate_per_s)
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            if failed:
                break
            task = asyncio.ensure_future(ask(job, due_s))
            running.add(task)
            task.add_done_callback(ended)
        while running and not failed:
            await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await _stopped(running)
    if failed:
        raise failed[0]


async def _together(work: Sequence[Awaitable[None]]) -> None:
    tasks = {asyncio.ensure_future(part) for part in work}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION) if tasks else (set(), set())
    finally:
        await _stopped(tasks)
    for task in done:
        task.result()


async def _stopped(tasks: set[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
