"""The promises of the store of what people did by hand: marks keep their history, calls are replaced by their end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotfish.core.by_hand import BenchCall, Mark, Verdict
from pilotfish.store.build import open_by_hand, open_registry
from pilotfish.store.sqlite_by_hand import SqliteByHand


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[SqliteByHand]:
    opened = open_by_hand(tmp_path / "home")
    yield opened
    opened.close()


def mark(request_id: str, verdict: Verdict, *, task_id: str = "t", time_s: float = 1.0, sha256: str = "a") -> Mark:
    return Mark(request_id=request_id, task_id=task_id, verdict=verdict, time_s=time_s, specialist_sha256=sha256)


def test_the_latest_mark_counts_and_earlier_ones_stay(by_hand: SqliteByHand, tmp_path: Path) -> None:
    assert (by_hand.marks(), by_hand.marked("t", ["r"]), by_hand.tally("t")) == ([], {}, {})
    # A clock that was set back changes nothing.
    given = [mark("r", "reference", time_s=9.0), mark("s", "both", sha256="b"), mark("r", "specialist"),
             mark("x", "neither", task_id="u")]  # fmt: skip
    for one in given:
        by_hand.add_mark(one)
    assert by_hand.marks() == given[::-1]
    assert by_hand.marks("t", 1) == [given[2]]
    assert by_hand.marked("t", ["r", "s", "x", "y"]) == {"r": "specialist", "s": "both"}
    assert by_hand.marked("t", []) == {}
    assert by_hand.tally("t") == {("specialist", "a"): 1, ("both", "b"): 1}
    # Those who keep up with the registry notice, though nothing of theirs has changed.
    registry = open_registry(tmp_path / "home")
    assert (registry.version(), registry.tasks()) == (4, [])
    registry.close()


def test_a_call_is_known_before_it_ends(by_hand: SqliteByHand) -> None:
    begun = [BenchCall(run_id="p", model=name, time_s=10.0) for name in ("big", "small")]
    by_hand.put_calls(begun)
    assert by_hand.calls(9) == begun
    assert by_hand.spent(10.0) == (2, 0.0, 2)
    ended = dataclasses.replace(begun[1], status=200, prompt_tokens=3, completion_tokens=1, cost_usd=0.5, latency_s=0.1)
    by_hand.put_calls([ended])
    assert by_hand.calls(9) == [begun[0], ended]
    assert by_hand.spent(10.0) == (2, 0.5, 1)
    by_hand.put_calls([BenchCall(run_id="q", model="big", time_s=20.0)])
    assert [call.run_id for call in by_hand.calls(2)] == ["q", "p"]
    assert by_hand.spent(20.1) == (0, 0.0, 0)
