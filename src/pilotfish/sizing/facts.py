"""One fact about a model: value, unit, how it is known, and its text; or the reason there is none.

Exact, estimated, measured and published figures carry their names with them, so that no table mixes them unseen.
Sizes are given in GB and GiB, since the two lie 7 % apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["exact", "estimate", "measured", "published"]
Value = int | float | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """`value` is None exactly where `why_none` says why. `key` is stable; `label` is for people."""

    section: str
    key: str
    label: str
    value: Value
    text: str
    how: How = "exact"
    unit: str = ""
    why_none: str = ""
    source: str = ""

    def to_json(self) -> dict[str, Value]:
        """The value with its unit and how it is known, or why there is none."""
        if self.value is None:
            return {"value": None, "why_none": self.why_none}
        found: dict[str, Value] = {"value": self.value, "how": self.how}
        more = {"unit": self.unit, "source": self.source}
        return {**found, **{name: text for name, text in more.items() if text}}


class Section:
    """Makes the facts of one section of the report."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.facts: list[Fact] = []

    def word(self, key: str, label: str, value: str | None, why: str = "", how: How = "exact") -> None:
        """A fact in words."""
        self._add(key, label, value, value or "", why, how)

    def count(self, key: str, label: str, value: int | None, why: str = "", how: How = "exact") -> None:
        """A whole number."""
        self._add(key, label, value, "" if value is None else f"{value:,}", why, how)

    def published(self, key: str, label: str, value: float, source: str) -> None:
        """A whole number that somebody published; `source` says who and when."""
        self.facts.append(
            Fact(
                section=self.name,
                key=key,
                label=label,
                value=int(value),
                text=f"{int(value):,}",
                how="published",
                source=source,
            )
        )

    def size(self, key: str, label: str, value: int | None, why: str = "", how: How = "exact") -> None:
        """A number of bytes."""
        self._add(key, label, value, "" if value is None else size(value), why, how, "bytes")

    def span(self, key: str, label: str, low: int, high: int) -> None:
        """An estimate between two numbers of bytes: two values, one text."""
        text = f"{low / 1e9:,.2f} to {high / 1e9:,.2f} GB"
        self._add(f"{key}_low", label, low, text, "", "estimate", "bytes")
        self._add(f"{key}_high", "", high, "", "", "estimate", "bytes")

    def work(self, key: str, label: str, value: int | None, why: str = "", how: How = "exact") -> None:
        """Floating-point operations."""
        self._add(key, label, value, "" if value is None else flops(value), why, how, "FLOP")

    def _add(self, key: str, label: str, value: Value, text: str, why: str, how: How, unit: str = "") -> None:
        assert value is not None or why, f"{key} needs a reason"
        self.facts.append(
            Fact(
                section=self.name,
                key=key,
                label=label,
                value=value,
                text=text if value is not None else f"n/a: {why}",
                how=how,
                unit=unit,
                why_none="" if value is not None else why,
            )
        )


def size(n_bytes: int) -> str:
    """Bytes for people: as GB and GiB, or in bytes, MB and MiB where that is clearer."""
    if n_bytes < 10**6:
        return f"{n_bytes:,} B"
    if n_bytes < 10**8:
        return f"{n_bytes / 1e6:,.2f} MB ({n_bytes / 2**20:,.2f} MiB)"
    return f"{n_bytes / 1e9:,.2f} GB ({n_bytes / 2**30:,.2f} GiB)"


def flops(n: int) -> str:
    """Operations for people."""
    for power, name in ((18, ""), (12, "TFLOP"), (9, "GFLOP"), (6, "MFLOP")):
        if n >= 10**power:
            return f"{n:.2e} FLOP" if not name else f"{n / 10**power:,.3f} {name}"
    return f"{n:,} FLOP"
