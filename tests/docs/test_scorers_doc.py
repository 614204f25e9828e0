"""The page of the scorers names every scorer, option, failure and layout, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from pilotfish.scoring.scorers import SCORERS

PAGE = (Path(__file__).parents[2] / "docs" / "scorers.md").read_text("utf-8")
ROWS = re.findall(r"^\| (`[^|]+`) \| [^|]+ \|([^|]*)\|$", PAGE.partition("## Scorers")[2], re.MULTILINE)


def options_of(name: str) -> list[str]:
    return re.findall(r"`(\w+)`", next(options for names, options in ROWS if f"`{name}`" in names))


def test_the_table_holds_the_scorers() -> None:
    assert set(re.findall(r"`([a-z_0-9]+)`", " ".join(names for names, _ in ROWS))) == set(SCORERS)


@pytest.mark.parametrize("name", SCORERS)
def test_the_options_are_those_of_the_function(name: str) -> None:
    parameters = inspect.signature(SCORERS[name]).parameters.values()
    assert options_of(name) == [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
