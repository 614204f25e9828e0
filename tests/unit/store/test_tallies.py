"""What keys have used: exact over processes, over windows and over kills."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pilotfish.core.errors import StoreError
from pilotfish.core.key import KeyRecord, Limits
from pilotfish.store.tallies import MappedTallies, read_usage

NOON = 1_795_348_800.0 + 12 * 3600
NOTHING = (0, 0.0)


def key(number: int = 1, **limits: float) -> KeyRecord:
    return KeyRecord(
        number=number,
        key_id="k",
        name="n",
        sha256="",
        created_s=0.0,
        limits=Limits(**limits),  # type: ignore[arg-type]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "usage"


@pytest.fixture
def tallies(folder: Path) -> Iterator[MappedTallies]:
    with closing(MappedTallies(folder)) as opened:
        yield opened


def spend(tallies: MappedTallies, asked: KeyRecord, now_s: float, tokens: int, usd: float = 0.0) -> bool:
    """One request of so many tokens, settled as reserved."""
    if tallies.reserve(asked, now_s, tokens=tokens, usd=usd, least=(tokens, usd)) is not None:
        return False
    tallies.settle(asked, now_s, held=(tokens, usd), used=(tokens, usd))
    return True


def test_requests_are_counted_to_the_limit_and_begin_anew_with_the_window(tallies: MappedTallies) -> None:
    asked = key(requests_per_minute=2)
    assert [tallies.count_request(asked, NOON + second) for second in (0, 1)] == [None, None]
    exceeded = tallies.count_request(asked, NOON + 2)
    assert exceeded is not None
    assert (exceeded.limit, exceeded.used, exceeded.value) == ("requests_per_minute", 2, 2)
    assert tallies.count_request(asked, NOON + 60) is None


@pytest.mark.parametrize(
    ("limit", "later_s"),
    [("tokens_per_minute", 60), ("tokens_per_day", 86400), ("usd_per_day", 86400), ("usd_per_month", 31 * 86400)],
)
def test_each_window_has_its_own_end(tallies: MappedTallies, limit: str, later_s: int) -> None:
    asked = key(**{limit: 10})
    assert spend(tallies, asked, NOON, 10, 10.0)
    assert not spend(tallies, asked, NOON, 1, 1.0)
    assert spend(tallies, asked, NOON + later_s, 10, 10.0)


def test_a_total_never_begins_anew(tallies: MappedTallies) -> None:
    asked = key(usd_total=1.0)
    assert spend(tallies, asked, NOON, 5, 1.0)
    assert not spend(tallies, asked, NOON + 3e8, 0, 0.0)


def test_what_is_held_counts_until_it_is_settled(tallies: MappedTallies) -> None:
    asked = key(tokens_per_day=100)
    assert tallies.reserve(asked, NOON, tokens=90, usd=0.0, least=(90, 0.0)) is None
    refused = tallies.reserve(asked, NOON, tokens=20, usd=0.0, least=(20, 0.0))
    assert refused is not None
    assert refused.used == 90
    tallies.settle(asked, NOON, held=(90, 0.0), used=(30, 0.0))
    assert tallies.reserve(asked, NOON, tokens=70, usd=0.0, least=(70, 0.0)) is None


def test_a_failure_gives_everything_back(tallies: MappedTallies, folder: Path) -> None:
    asked = key(usd_total=1.0)
    for _ in range(1000):
        assert tallies.reserve(asked, NOON, tokens=7, usd=0.9, least=(7, 0.9)) is None
        tallies.settle(asked, NOON, held=(7, 0.9), used=NOTHING)
    assert read_usage(folder, 1, NOON)["usd_total"] == 0.0


def test_keys_do_not_share_a_count_however_many_there_are(tallies: MappedTallies, folder: Path) -> None:
    for number in (1, 2, 511, 512, 5000):
        assert spend(tallies, key(number, tokens_per_day=5), NOON, 5)
    assert read_usage(folder, 5000, NOON)["tokens_per_day"] == 5
    assert read_usage(folder, 4999, NOON)["tokens_per_day"] == 0


def test_two_holders_cannot_spend_more_than_there_is(tallies: MappedTallies, folder: Path) -> None:
    asked = key(tokens_per_day=1000)
    with closing(MappedTallies(folder)) as other:
        tallies.refresh()
        got = [sum(spend(one, asked, NOON, 7) for _ in range(200)) for one in (tallies, other)]
    assert sum(got) == 1000 // 7


SPENDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from unit.store.test_tallies import key, spend, NOON
from pilotfish.store.tallies import MappedTallies
tallies = MappedTallies(Path({folder!r}))
print("ready", flush=True); sys.stdin.readline()
tallies.refresh()
asked = key(tokens_per_day=20_000)
print(sum(spend(tallies, asked, NOON, 3) for _ in range(10_000)), flush=True)
tallies.reserve(key(2, tokens_per_day=100), NOON, tokens=90, usd=0.0, least=(90, 0.0))
print("held", flush=True); sys.stdin.readline()
"""


def test_processes_at_once_spend_a_budget_exactly_and_a_kill_forgets_nothing_but_what_was_held(folder: Path) -> None:
    code = SPENDER.format(tests=str(Path(__file__).parents[2]), folder=str(folder))
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = []
    for step in range(3):
        for child in children:
            assert child.stdout is not None
            said.append((step, child.stdout.readline().strip()))
        for child in children:
            assert child.stdin is not None
            if step == 0:
                child.stdin.write("\n")
                child.stdin.flush()
    counts = [int(text) for step, text in said if step == 1]
    # Two that meet at the very last tokens may both be refused, but never both be served.
    assert 20_000 // 3 - 2 <= sum(counts) <= 20_000 // 3
    for child in children:
        child.kill()
        child.communicate()
    with closing(MappedTallies(folder)) as next_one:
        assert read_usage(folder, 1, NOON)["tokens_per_day"] == 3 * sum(counts)
        assert spend(next_one, key(2, tokens_per_day=100), NOON, 100)
        assert sorted(os.listdir(folder)) == ["0", "1"]


HOLDER = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from unit.store.test_tallies import key, NOON
from pilotfish.store.tallies import MappedTallies
MappedTallies(Path({folder!r})).reserve(key(tokens_per_day=100), NOON, tokens=90, usd=0.0, least=(90, 0.0))
os._exit(0)
"""


def test_a_living_process_gives_back_what_a_killed_one_held(tallies: MappedTallies, folder: Path) -> None:
    asked = key(tokens_per_day=100)
    code = HOLDER.format(tests=str(Path(__file__).parents[2]), folder=str(folder))
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sorted(os.listdir(folder)) == ["0", "1"]
    tallies.refresh()
    assert spend(tallies, asked, NOON, 100)


def test_a_file_of_another_kind_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "0").write_bytes(b"x" * 65536)
    with pytest.raises(StoreError, match="does not hold the use of keys"):
        MappedTallies(folder)
