from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.example import Example
from pilotfish.guarantees.split import calibration_size, data_sha256, split, unbiased_rows_for

SAMPLINGS = st.lists(st.sampled_from(["observe", "audit", "deferred"]), max_size=1500)


def _examples(samplings, answer=("a",)):
    return [
        Example(text=f"text {i}", answer=answer, time_s=float(i), sampling=sampling, request_id=str(i))
        for i, sampling in enumerate(samplings)
    ]


@given(SAMPLINGS, st.randoms(use_true_random=False))
def test_calibration_rows_are_the_latest_unbiased_and_only_earlier_rows_teach(samplings, source):
    rows = _examples(samplings)
    source.shuffle(rows)
    parts = split(rows)
    unbiased = sorted(row.time_s for row in rows if row.is_unbiased)
    times = [rows[i].time_s for i in parts.calibration]
    assert len(times) == calibration_size(len(unbiased))
    assert times == unbiased[len(unbiased) - len(times) :]
    first = times[0] if times else len(rows)
    assert [rows[i].time_s for i in parts.fit] == [float(t) for t in range(int(first))]


@given(SAMPLINGS, st.integers(-1, 1500))
def test_after_a_time_all_unbiased_rows_calibrate_and_none_teaches(samplings, after_s):
    rows = _examples(samplings)
    parts = split(rows, after_s=after_s)
    assert parts.calibration == [i for i, row in enumerate(rows) if row.is_unbiased and i > after_s]
    assert parts.fit == [i for i in range(len(rows)) if i <= after_s]


@given(SAMPLINGS, st.floats(0, 1500))
def test_nothing_up_to_a_withdrawal_calibrates_but_it_teaches(samplings, withdrawn_s):
    rows = _examples(samplings)
    parts = split(rows, fresh_since_s=withdrawn_s)
    later = sum(row.is_unbiased and row.time_s > withdrawn_s for row in rows)
    assert len(parts.calibration) == calibration_size(later)
    assert all(rows[i].time_s > withdrawn_s for i in parts.calibration)
    if parts.calibration:
        assert parts.fit == list(range(parts.calibration[0]))


@pytest.mark.parametrize(
    ("n", "size"), [(0, 0), (1, 0), (400, 200), (600, 300), (1000, 400), (3000, 914), (10_000, 2000), (40_000, 3000)]
)
def test_calibration_sizes(n, size):
    assert calibration_size(n) == size


@given(st.integers(1, 3000))
def test_rows_for_a_calibration_size_are_the_fewest(n):
    rows = unbiased_rows_for(n)
    assert calibration_size(rows) >= n
    assert calibration_size(rows - 1) < n
    assert unbiased_rows_for(3001) is None


def test_the_fingerprint_covers_id_text_answer_and_order():
    rows = _examples(["observe"] * 3)
    prints = {data_sha256(rows), data_sha256(rows[::-1]), data_sha256(_examples(["observe"] * 3, ("b",)))}
    prints.add(data_sha256(_examples(["observe"] * 3, None)))
    assert len(prints) == 4
    assert data_sha256(rows) == data_sha256(_examples(["audit"] * 3))
