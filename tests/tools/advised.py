"""What advice is made of in tests: options with round figures, and the needs they are held against."""

from __future__ import annotations

from typing import Any

from pilotfish.advice.needs import Needs
from pilotfish.advice.option import Judged, Known, Option, Word
from pilotfish.core.measured import Measured


def known(value: float | None, unit: str = "") -> Known:
    """A measured figure, or one that nobody measured."""
    if value is None:
        return Known(measured=Measured(value=None, unit=unit, why_none="not measured"))
    return Known(measured=Measured(value=value, unit=unit, n=100))


def judged(word: Word, **fields: Any) -> Judged:
    return Judged(word=word, sentence=f"It is {word}.", **fields)


def option(name: str, usd: float | None = 0.004, word: Word = "non-inferior", **fields: Any) -> Option:
    """A remote model at `usd` a call; what a test is about is in `fields`."""
    values: dict[str, Any] = {
        "shape": "small only",
        "source": "test",
        "where": "remote",
        "is_own": False,
        "judged": judged(word),
        "quality": Measured(value=0.9, n=100),
        "latency": known(0.5, "s"),
        "memory": known(1e9, "bytes"),
        "usd_per_call": known(usd, "USD"),
        "context": 4096,
    }
    return Option(name=name, **(values | fields))


def large(usd: float | None = 0.004, **fields: Any) -> Option:
    """The reference."""
    return option("large", usd, "reference", shape="large only", **fields)


def own(name: str, rent: float | None = 2.5, per_h: float | None = 10_000.0, **fields: Any) -> Option:
    """A model on a machine of one's own."""
    values: dict[str, Any] = {
        "where": "own",
        "is_own": True,
        "paid_share": 0.0,
        "rent_usd_per_h": rent,
        "capacity_per_h": known(per_h, "requests/h"),
    }
    return option(name, None, **(values | fields))


ASKED = Needs(utilisation=1.0)
