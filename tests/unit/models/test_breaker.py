from __future__ import annotations

import pytest

from pilotfish.models.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, N_FAILURES, Breaker


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(N_FAILURES):
        assert breaker.admits()
        breaker.failed()
    return breaker


def test_only_failures_in_a_row_open_it(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(3):
        for _ in range(N_FAILURES - 1):
            breaker.failed()
        breaker.succeeded()
    assert breaker.admits()
    assert not breaker.is_open


def test_open_it_admits_nothing_until_its_pause_is_over_and_then_one_in_each(clock: Clock) -> None:
    breaker = opened(clock)
    assert breaker.wait_s == FIRST_PAUSE_S
    assert not breaker.admits()
    clock.now_s += FIRST_PAUSE_S
    assert breaker.admits()
    assert not breaker.admits()
    # A probe that hangs keeps nobody out.
    clock.now_s += FIRST_PAUSE_S
    assert breaker.admits()


def test_a_probe_that_succeeds_closes_it(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now_s += FIRST_PAUSE_S
    assert breaker.admits()
    breaker.succeeded()
    assert all(breaker.admits() for _ in range(3))


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest(clock: Clock) -> None:
    breaker = opened(clock)
    pauses_s = []
    for _ in range(8):
        pauses_s.append(breaker.wait_s)
        clock.now_s += breaker.wait_s
        assert breaker.admits()
        breaker.failed()
    assert pauses_s == [min(FIRST_PAUSE_S * 2**n, LONGEST_PAUSE_S) for n in range(8)]


def test_requests_under_way_when_it_opens_do_not_make_the_pause_longer(clock: Clock) -> None:
    breaker = opened(clock)
    for _ in range(100):
        breaker.failed()
    assert breaker.wait_s == FIRST_PAUSE_S
