"""What comparisons are made of in tests: labelled items, models that are functions, and recordings in every format."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pilotfish.core.item import Item
from pilotfish.core.messages import Message

COLOURS = ("red", "green", "blue")


def item(number: int, **fields: Any) -> Item:
    """An item whose right answer is the colour named in its text."""
    colour = COLOURS[number % 3]
    text = f"John painted door number {number} in {colour}"
    return Item(id=f"i{number}", messages=[Message(role="user", content=text)], expected=colour, tags={}, **fields)


def items(n: int) -> list[Item]:
    """The first n of them."""
    return [item(number) for number in range(n)]


def write_items(path: Path, n: int) -> Path:
    """The same as a file of `id`, `input`, `output` rows."""
    rows = [{"id": i.id, "input": i.messages[0].text, "output": i.expected} for i in items(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def right(messages: list[dict[str, Any]]) -> str:
    """A model that is always right."""
    return str(messages[-1]["content"]).split()[-1]


def lower_only(messages: list[dict[str, Any]]) -> str:
    """A model that is right unless the text is all small letters or misspelt."""
    text = str(messages[-1]["content"])
    return text.rsplit(maxsplit=1)[-1] if "John painted door" in text else "red"


def unsure(messages: list[dict[str, Any]]) -> tuple[str, float]:
    """A model that always says red, and is sure only of every second door."""
    return "red", 0.9 if int(str(messages[-1]["content"]).split()[4]) % 2 else 0.3


def first(messages: list[dict[str, Any]]) -> str:
    """A judge that always prefers what stands first."""
    return "Verdict: 1"


def seven(item: Item, answer: str) -> int:
    """A scorer that knows no bounds."""
    return 7


def slow(messages: list[dict[str, Any]]) -> str:
    """A model that is right and takes its time."""
    time.sleep(0.01)
    return right(messages)


def write_scores(path: Path, scores: dict[str, list[float]]) -> Path:
    """A recording of scores by model, for the items of `items`."""
    n = len(next(iter(scores.values())))
    rows = [{"id": f"i{i}", "scores": {name: values[i] for name, values in scores.items()}} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
