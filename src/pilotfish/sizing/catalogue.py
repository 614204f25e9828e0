"""The catalogue: well-known models with their configurations, each with its source and the date it was entered.

A data file beside this module, read when asked for. Everything was entered from memory, by the sources named; those
addresses could not be read on that date. `checked` says what a shape was held against elsewhere, and is empty where
there was nothing. What a maker has not published stands there as undisclosed; it never gets a number.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something published about a model that no configuration tells."""

    fact: str
    value: float
    source: str
    date: str

    @property
    def cited(self) -> str:
        """Source and date, and that nobody here has read it."""
        return f"{self.source}, {self.date} (from memory)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model. `config` is None exactly where `undisclosed` says why; `checked` is what else tells the same shape."""

    name: str
    title: str
    aliases: tuple[str, ...]
    released: str
    source: str
    entered: str
    checked: str
    config: Mapping[str, Any] | None
    undisclosed: str
    facts: tuple[Fact, ...]

    def fact(self, name: str) -> Fact | None:
        """The first published fact of that name."""
        return next((fact for fact in self.facts if fact.fact == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All entries by name, and groups: names that people use for several sizes at once."""

    entries: Mapping[str, Entry]
    groups: Mapping[str, tuple[str, ...]]
    names: Mapping[str, str]

    def find(self, name: str) -> Entry | None:
        """The entry of that name, alias or hub id, whatever its case and separators."""
        found = self.names.get(normal(name))
        return self.entries[found] if found else None

    def nearest(self, name: str, n: int = 3) -> list[str]:
        """Names in the catalogue that look like it."""
        known = {normal(key): value for key, value in self.names.items()}
        wanted = normal(name.rpartition("/")[2] or name)
        close = difflib.get_close_matches(wanted, list(known), n=3 * n, cutoff=0.55)
        return list(dict.fromkeys(known[key] for key in close))[:n]


def normal(name: str) -> str:
    """Lower case, every separator one hyphen: `Llama 3_8B` and `llama-3-8b` are one name."""
    return re.sub(r"[\s_\-]+", "-", name.strip().lower())


@cache
def catalogue() -> Catalogue:
    """The shipped catalogue."""
    shipped = json.loads(Path(__file__).with_name("catalogue.json").read_text("utf-8"))
    entries = {row["name"]: _entry(row) for row in shipped["models"]}
    names: dict[str, str] = {}
    for row in shipped["models"]:
        for name in (row["name"], row["title"], row.get("id", row["name"]), *row["aliases"]):
            names.setdefault(normal(name), row["name"])
    groups = {name: tuple(members) for name, members in shipped["groups"].items()}
    return Catalogue(entries=entries, groups=groups, names=names)


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        name=row["name"],
        title=row["title"],
        aliases=(*row["aliases"], *([row["id"]] if "id" in row else [])),
        released=row["released"],
        source=row["source"],
        entered=row["entered"],
        checked=row.get("checked", ""),
        config=row.get("config"),
        undisclosed=row.get("undisclosed", ""),
        facts=tuple(Fact(**fact) for fact in row["facts"]),
    )
