"""What `docs/certificate.md` says in numbers and code is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pilotfish.cli.main import root
from pilotfish.guarantees.pace import proving_rows
from pilotfish.guarantees.split import calibration_size
from pilotfish.stats import binomial, spending

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "certificate.md").read_text("utf-8")


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_code_runs(block):
    exec(compile(block, "certificate.md", "exec"), {})


@pytest.mark.parametrize("percent", [1, 2, 5, 10])
def test_the_fewest_rows(percent):
    first, fifth = (binomial.smallest_n(percent / 100, spending.share(0.05, attempt)) for attempt in (1, 5))
    assert f"| {percent} % | {first} | {fifth} |" in PAGE


def test_the_shares_of_delta():
    first, second, third = (f"{spending.share(0.05, attempt):.4f}" for attempt in (1, 2, 3))
    assert f"{first} of 0.05 for the first\nattempt, {second} for the second, {third} for the third" in PAGE


def test_the_rows_that_calibrate():
    assert "half of them below 600 answers, 400 of 1,000,\n2,000 of 10,000, never more than 3,000" in PAGE
    sizes = [calibration_size(n) for n in (400, 600, 1000, 10_000, 100_000)]
    assert sizes == [200, 300, 400, 2000, 3000]


def test_the_rows_that_prove():
    assert f"{proving_rows(0.05)} for a promise of 5 %, {proving_rows(0.02):,} for 2 %" in PAGE


def test_the_delays_are_those_the_statistics_hold():
    source = (ROOT / "tests" / "statistics" / "test_watch.py").read_text("utf-8")
    delays = re.findall(r"\((0\.\d+), (\d+)\)", source)
    assert len(delays) == 4
    for risk, median in delays:
        assert re.search(rf"then {100 * float(risk):g} % \| (noticed after )?{median} (audits )?or fewer", PAGE)


def test_the_files_it_names_exist():
    named = set(re.findall(r"`((?:tests|stats|routing)/[\w/]+\.py)`", PAGE))
    assert len(named) >= 10
    for name in named:
        assert (ROOT / name).is_file() or (ROOT / "src" / "pilotfish" / name).is_file(), name


def test_the_flags_it_names_exist():
    used = re.findall(r"^pilotfish (\w+) TASK (--[\w-]+)", PAGE, re.MULTILINE)
    assert len(used) == 4
    for name, flag in used:
        command = root.get_command(None, name)
        assert flag in {option for parameter in command.params for option in parameter.opts}
