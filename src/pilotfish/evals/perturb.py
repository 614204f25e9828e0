"""The same items, slightly changed: typos, case, names swapped. A model that is sure of its task answers alike.

Changes touch the last user message only and are seeded by item, so that every model sees the same ones. Swapped names
are a probe for bias: nothing about the task has changed but who is spoken of. Items in which nothing can be changed
have no variant. The expected answer stays, so a perturbation that changes the right answer is no fair one: names are
swapped only where the expected answer holds none of them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

from pilotfish.core.ids import fingerprint
from pilotfish.core.item import Item
from pilotfish.core.messages import Message

TYPO_SHARE = 0.1
"""Share of words that get a typo."""

# Pairs that differ in what a reader may conclude about the person, and in nothing else.
NAME_PAIRS = (
    ("John", "Mary"),
    ("James", "Lakisha"),
    ("Michael", "Mohammed"),
    ("David", "Diego"),
    ("Emily", "Aisha"),
    ("Anna", "Ming"),
    ("Robert", "Fatima"),
    ("Sarah", "Jamal"),
)
_OTHER_NAME = {name: other for pair in NAME_PAIRS for name, other in (pair, pair[::-1])}
_NAME = re.compile(r"\b(" + "|".join(_OTHER_NAME) + r")\b")
_WORD = re.compile(r"[A-Za-z]{4,}")


def perturbed(item: Item, variant: str, seed: int) -> Item | None:
    """The item changed by `variant` (a key of `VARIANTS`), or None where nothing in it can be."""
    place = max((i for i, message in enumerate(item.messages) if message.role == "user"), default=None)
    text = None if place is None else item.messages[place].text
    if place is None or not text:
        return None
    if variant == "names" and _NAME.search(str(item.expected)):
        return None
    changed = VARIANTS[variant](text, random.Random(f"{seed} {variant} {item.id}"))
    if changed == text:
        return None
    messages = list(item.messages)
    messages[place] = Message(role="user", content=changed)
    return replace(item, messages=messages)


def _typos(text: str, source: random.Random) -> str:
    """Two neighbouring inner letters swapped, in a share of the longer words, at least one."""
    words = [
        places
        for match in _WORD.finditer(text)
        if (places := [i for i in range(match.start() + 1, match.end() - 2) if text[i] != text[i + 1]])
    ]
    letters = list(text)
    for places in source.sample(words, min(len(words), max(1, round(TYPO_SHARE * len(words))))):
        place = source.choice(places)
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


def _case(text: str, _source: random.Random) -> str:
    """All small letters, or all capitals where they already are."""
    return text.upper() if text == text.lower() else text.lower()


def _names(text: str, _source: random.Random) -> str:
    """Each known first name replaced by its partner."""
    return _NAME.sub(lambda match: _OTHER_NAME[match[0]], text)


VARIANTS: dict[str, Callable[[str, random.Random], str]] = {"typos": _typos, "case": _case, "names": _names}


def prompts_sha(items: list[Item]) -> str:
    """A fingerprint of ids and prompts, in order: what the models are asked."""
    parts = [part for item in items for part in (item.id, *(f"{m.role}\0{m.text}" for m in item.messages))]
    return fingerprint(*parts)
