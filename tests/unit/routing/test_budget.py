"""The best use of a budget: the large model where it brings most for its price, and no more than there is."""

from __future__ import annotations

import math
import random

from pilotfish.routing.budget import FEWEST_SEEN, Seen, threshold_for


def seen(*needs: float, further_usd: float = 1.0) -> list[Seen]:
    return [Seen(need=need, usd=0.1, further_usd=further_usd) for need in needs]


EVEN = seen(*(i / 20 for i in range(20)))


def test_with_enough_money_the_certified_threshold_stays() -> None:
    assert threshold_for(EVEN, 1.1, 0.3) == 0.3


def test_short_money_goes_to_the_greatest_needs() -> None:
    # 20 requests cost 2 dollars in all; 5 more pay for five calls further.
    threshold = threshold_for(EVEN, 7.01 / 20, 0.3)
    assert [one.need for one in EVEN if one.need > threshold] == [0.75, 0.8, 0.85, 0.9, 0.95]


def test_equal_needs_get_equal_decisions_within_the_budget() -> None:
    found = seen(*[0.5] * 10, *[0.9] * 10)
    assert threshold_for(found, 0.1 + 5.0 / 20, 0.3) == 0.9
    assert threshold_for(found, 0.1 + 12.0 / 20, 0.3) == 0.5


def test_without_money_nobody_is_asked_further_and_without_experience_nothing_is_foretold() -> None:
    assert threshold_for(EVEN, 0.1, 0.3) == math.inf
    assert threshold_for(EVEN[: FEWEST_SEEN - 1], 0.0, 0.3) == 0.3


def test_what_cannot_be_told_needs_most() -> None:
    found = [*EVEN, *seen(math.inf, math.inf)]
    assert threshold_for(found, 0.1 + 1.0 / 22, 0.3) == math.inf
    assert threshold_for(found, 0.1 + 2.0 / 22, 0.3) == 0.95


def test_no_other_choice_of_as_much_money_gains_more() -> None:
    # A need is the expected gain in relation to its cost, so gain = need * cost.
    source = random.Random(0)
    found = [Seen(need=source.random(), usd=0.0, further_usd=source.uniform(0.5, 2.0)) for _ in range(200)]
    threshold = threshold_for(found, 0.3, 0.0)
    chosen = [one for one in found if one.need > threshold]
    spent = math.fsum(one.further_usd for one in chosen)
    assert 0.3 * 200 - 2.0 <= spent <= 0.3 * 200
    best = math.fsum(one.need * one.further_usd for one in chosen)
    for _ in range(50):
        source.shuffle(found)
        left, gained = spent, 0.0
        for one in found:
            if one.further_usd <= left:
                left, gained = left - one.further_usd, gained + one.need * one.further_usd
        assert gained < best
