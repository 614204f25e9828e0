"""Spans of a passage: SQuAD's exact match and F1 of an answer, and the F1 of named entities.

SQuAD (Rajpurkar et al., arXiv 1606.05250): case, punctuation, the articles a, an, the and surplus spaces are removed,
and the best of the gold answers counts, as in the official script. Entities (CoNLL-2003): right only where type and
both ends are, tags read as seqeval reads them, by default like the conlleval script (an I- without B- opens an
entity), or strictly as IOB2. The figure of a corpus is made of the counts of all items, never the mean of their F1.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.scoring.closed_sets import folded
from pilotfish.scoring.score import Score, expected, expected_texts, unread

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_TAG = re.compile(r"O|[BI]-\S+")
_FENCE = re.compile(r"```\w*\s*(.*?)\s*```", re.DOTALL)

Entity = tuple[str, Hashable]
"""The type of an entity and where it is."""


def normalised(text: str) -> str:
    """A text as SQuAD's official evaluation normalises it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(answer: str, gold: str) -> float:
    """F1 of the tokens that two texts share, SQuAD's; where either has none, whether both have none (SQuAD 2.0)."""
    said, right = normalised(answer).split(), normalised(gold).split()
    if not said or not right:
        return float(said == right)
    n_same = sum((Counter(said) & Counter(right)).values())
    if not n_same:
        return 0.0
    precision, recall = n_same / len(said), n_same / len(right)
    return 2 * precision * recall / (precision + recall)


def score_squad(item: Item, answer: str, *, exact: bool = False) -> Score:
    """The best F1 over the gold answers, or with `exact` whether one of them is met exactly. The note has the match."""
    golds = expected_texts(item, "squad_f1")
    match = float(any(normalised(answer) == normalised(gold) for gold in golds))
    value = match if exact else max(token_f1(answer, gold) for gold in golds)
    return Score(value, "", f"exact match {match:.0f}")


@dataclass(slots=True, kw_only=True)
class EntityCounts:
    """Entities by type: how many are right, were found, and are there to be found."""

    right: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    gold: Counter[str] = field(default_factory=Counter)

    def add(self, found: Sequence[Entity], gold: Sequence[Entity]) -> None:
        """Count the entities of one item."""
        same = Counter(found) & Counter(gold)
        self.right.update(kind for kind, _ in same.elements())
        self.found.update(kind for kind, _ in found)
        self.gold.update(kind for kind, _ in gold)

    @property
    def summary(self) -> dict[str, float]:
        """Precision, recall and F1 of all entities (micro), and the mean F1 of the types (macro); 0 where undefined."""
        types = self.found.keys() | self.gold.keys()
        by_type = [_f1(self.right[kind], self.found[kind], self.gold[kind]) for kind in types]
        right, found, gold = self.right.total(), self.found.total(), self.gold.total()
        return {
            "precision": right / found if found else 0.0,
            "recall": right / gold if gold else 0.0,
            "micro_f1": _f1(right, found, gold),
            "macro_f1": sum(by_type) / len(by_type) if by_type else 0.0,
        }


def _f1(right: int, found: int, gold: int) -> float:
    return 2 * right / (found + gold) if found + gold else 0.0


def entities_of_tags(tags: Sequence[str], *, strict: bool = False) -> list[Entity]:
    """The entities that IOB tags mark, as type and (first, last) position.

    Without `strict` an I- that continues nothing opens an entity (seqeval's default, that of conlleval); with it, such
    a tag marks nothing (seqeval's strict IOB2).
    """
    entities: list[Entity] = []
    kind, start = "", 0
    for position, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if mark == "I" and name == kind:
            continue
        if kind:
            entities.append((kind, (start, position - 1)))
        opens = mark == "B" or (mark == "I" and not strict)
        kind, start = (name, position) if opens else ("", position)
    return entities


def score_entities(item: Item, answer: str, *, strict: bool = False) -> Score:
    """F1 of the entities of one item; 1 where there are none and none are found. See `entity_corpus` for a corpus.

    The answer is a JSON list of tags, one a token, tags with spaces between, or a JSON list of entities with "type"
    and "text" (or "start" and "end", where the expected ones have them).
    """
    gold = gold_entities(item, strict=strict)
    found = read_entities(item, answer, strict=strict)
    if isinstance(found, str):
        return unread(found)
    counts = EntityCounts()
    counts.add(found, gold)
    value = 1.0 if not found and not gold else counts.summary["micro_f1"]
    return Score(value, "", f"{counts.right.total()} right of {len(found)} found and {len(gold)} there")


def entity_corpus(pairs: Iterable[tuple[Item, str]], *, strict: bool = False) -> dict[str, float]:
    """Precision, recall, micro and macro F1 over all items. An answer that cannot be read found nothing."""
    counts = EntityCounts()
    for item, answer in pairs:
        found = read_entities(item, answer, strict=strict)
        counts.add([] if isinstance(found, str) else found, gold_entities(item, strict=strict))
    return counts.summary


def gold_entities(item: Item, *, strict: bool = False) -> list[Entity]:
    """The entities that an item expects. Raises `DataError` where they are neither tags nor typed spans."""
    value = expected(item, "entity_f1")
    if isinstance(value, list) and all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in value):
        return entities_of_tags(value, strict=strict)
    if isinstance(value, list) and all(_is_typed(entity) for entity in value):
        return [_placed(entity) for entity in value]
    raise DataError(
        f"Item {item.id!r}: the scorer 'entity_f1' expects a list of IOB2 tags, or of entities with type and text "
        f"or start and end, got {str(value)[:80]!r}."
    )


def read_entities(item: Item, answer: str, *, strict: bool = False) -> list[Entity] | str:
    """The entities that an answer names, placed as the expected ones are; or why none could be read."""
    value = _read_list(answer)
    if value is None:
        return "neither tags nor a JSON list of entities"
    is_tagged = bool(item.expected) and all(isinstance(tag, str) for tag in item.expected)
    if value and all(isinstance(tag, str) for tag in value):
        return _unfit(value, len(item.expected) if is_tagged else 0) or entities_of_tags(value, strict=strict)
    if not all(_is_typed(entity) for entity in value):
        return "an entity without type and text"
    if is_tagged:
        return _on_tokens(value, item.context.split(" "))
    has_places = any("start" in entity for entity in item.expected or [])
    return _in_text(value, item.context) if has_places else [_placed(entity) for entity in value]


def _unfit(tags: list[str], n_tokens: int) -> str:
    """Why tags cannot be read as those of so many tokens; empty where they can."""
    if not n_tokens:
        return "tags, where entities are asked for"
    if not all(_TAG.fullmatch(tag) for tag in tags):
        return "tags other than O, B-type and I-type"
    return "" if len(tags) == n_tokens else f"{len(tags)} tags for {n_tokens} tokens"


def _read_list(answer: str) -> list[Any] | None:
    fenced = _FENCE.search(answer)
    text = (fenced[1] if fenced else answer).strip()
    words = text.split()
    if words and all(_TAG.fullmatch(word) for word in words):
        return list(words)
    start = min((at for at in (text.find("["), text.find("{")) if at >= 0), default=0)
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = next((inside for inside in value.values() if isinstance(inside, list)), None)
    return value if isinstance(value, list) else None


def _is_typed(entity: object) -> bool:
    if not isinstance(entity, dict) or not isinstance(entity.get("type"), str):
        return False
    has_place = isinstance(entity.get("start"), int) and isinstance(entity.get("end"), int)
    return has_place or isinstance(entity.get("text"), str)


def _placed(entity: dict[str, Any]) -> Entity:
    if "start" in entity and "end" in entity:
        return entity["type"], (entity["start"], entity["end"])
    return entity["type"], folded(entity["text"])


def _on_tokens(entities: list[dict[str, Any]], tokens: list[str]) -> list[Entity]:
    """Entities given by their text, each at its first place among the tokens not taken before; else at no place."""
    found: list[Entity] = []
    for number, entity in enumerate(entities):
        words = str(entity.get("text", "")).split()
        places = [
            (start, start + len(words) - 1)
            for start in range(len(tokens) - len(words) + 1)
            if words and tokens[start : start + len(words)] == words
        ]
        taken = {place for _, place in found}
        place: Hashable = next((place for place in places if place not in taken), f"nowhere {number}")
        found.append((entity["type"], place))
    return found


def _in_text(entities: list[dict[str, Any]], text: str) -> list[Entity]:
    """Entities at their offsets, or where only their text is given, at its first place not taken before."""
    found: list[Entity] = []
    for number, entity in enumerate(entities):
        if "start" in entity and "end" in entity:
            found.append(_placed(entity))
            continue
        taken = {place for _, place in found}
        places = [(at.start(), at.end()) for at in re.finditer(re.escape(entity["text"]), text) if entity["text"]]
        place: Hashable = next((place for place in places if place not in taken), f"nowhere {number}")
        found.append((entity["type"], place))
    return found
