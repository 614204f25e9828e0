from __future__ import annotations

from pilotfish.routing.latency import FEWEST, KEEP_S, LEAST_S, TIMES, UNKNOWN_S, Latencies, late, patience_s


def test_nine_in_ten_stay_within() -> None:
    assert late([]) is None
    assert late([3.0]) == 3.0
    times = [i / 10 for i in range(1, 11)]
    assert late(times[::-1]) == 0.9
    assert sum(one <= (late(times) or 0.0) for one in times) == 9


def test_only_what_was_measured_lately_counts_and_only_where_it_is_enough() -> None:
    found = Latencies()
    for i in range(FEWEST):
        assert found.late("small", float(i)) is None
        found.note("small", 1.0, float(i))
    assert found.late("small", float(FEWEST)) == 1.0
    assert found.late("big", float(FEWEST)) is None
    # A model that was too slow is not asked any more, and would be thought slow for ever.
    assert found.late("small", KEEP_S + FEWEST) is None


def test_patience_is_so_many_times_what_answers_take_within_bounds() -> None:
    assert patience_s(None) == UNKNOWN_S
    assert patience_s(0.01) == LEAST_S
    assert patience_s(30.0) == TIMES * 30.0
