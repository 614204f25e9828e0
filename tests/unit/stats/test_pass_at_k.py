from itertools import combinations
from statistics import fmean

import pytest

from pilotfish.stats.repeats import all_of, any_of


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 1), (5, 2, 3), (6, 0, 4), (6, 6, 2), (7, 3, 7), (7, 5, 3)])
def test_both_are_the_shares_over_all_choices(n, c, k):
    choices = list(combinations([True] * c + [False] * (n - c), k))
    assert any_of(k, n, c) == pytest.approx(fmean(map(any, choices)))
    assert all_of(k, n, c) == pytest.approx(fmean(map(all, choices)))


def test_the_published_form_gives_the_same_at_two_hundred_tries():
    """Chen et al.'s listing: 1 - prod(1 - k / arange(n - c + 1, n + 1))."""
    product = 1.0
    for i in range(200 - 13 + 1, 201):
        product *= 1 - 10 / i
    assert any_of(10, 200, 13) == pytest.approx(1 - product)


def test_more_tries_than_there_are_cannot_be_judged():
    with pytest.raises(ValueError, match="6 of 5 tries"):
        any_of(6, 5, 2)
