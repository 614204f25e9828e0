"""Extractions: answers whose values stand in the input, alone, as fields of an object or as a list of entities.

It infers from answers and inputs whether a task is one, reads an answer into canonical values, and writes values back
as the reference does. A nested object is read as one with dotted names, a list of typed texts (`[{"type": "person",
"text": "Ada"}]`) as one field of spans for each type. What carries no meaning is folded: the order of keys and
lists, case and spaces of a span, and whether a missing value is left out, null or empty.

The `style` of such a shape: "before" and "after" are what stands around the JSON, "indent", "item", "key" and "ascii"
how it is laid out, "[] PATH" the keys of the type and the text in the entities of a list, "case NAME" how a span is
recased, "bare" marks an answer that is one value and no JSON, and "question" says which line of an input asks what is
to be found in its other lines. Standard library only.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pilotfish.core.asked import passage_of, place_of_questions
from pilotfish.core.errors import SpecialistError
from pilotfish.core.grounding import NOTHING, Source, Words, canonical, of_json, places
from pilotfish.core.task import AnswerShape, Field
from pilotfish.scoring.closed_sets import (
    MAX_MISFITS,
    MAX_VALUE_CHARACTERS,
    MAX_VALUES,
    closed_set,
    folded,
    literal,
    read_json,
)
from pilotfish.scoring.nested import entities_in, flattened, is_nothing, put, put_at

MOST_GROUNDED = 2000
"""The latest answers that are looked for in their inputs; whether four in five stand there shows in far fewer."""

FIRST_LOOK = 200
"""Answers that tell prose from a span of the input: most tasks are prose, and long to look through."""

ALWAYS = 0.98
"""A field whose values stand in the input this often is extracted even where they form a closed set: a new value is
then found too. Below, some are inferred, and a closed set can answer those."""

_SOURCES: tuple[Source, ...] = ("span", "number", "date")
_CASES: dict[str, Callable[[str], str]] = {"": str, "lower": str.lower, "upper": str.upper, "title": str.title}
_LAYOUTS = [
    {"indent": indent, "item": item, "key": key, "ascii": ascii_only}
    for ascii_only in ("", "yes")
    for indent, item, key in (("", ", ", ": "), ("", ",", ":"), ("2", ",", ": "), ("4", ",", ": "), ("1", ",", ": "))
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer with the words of its input, and its JSON where it is one, by dotted names."""

    answer: str
    words: Words
    root: object = None
    flat: dict[str, object] = field(default_factory=dict)


def settle_extraction(answers: Sequence[str], inputs: Sequence[str]) -> AnswerShape | str:
    """The shape of a task whose answers stand in their inputs, or why it is none.

    Each field is extracted or a closed set; at most `MAX_MISFITS` of the answers may have another, or a value that
    does not stand in the input.
    """
    pairs = list(zip(answers, inputs, strict=True))[-MOST_GROUNDED:]
    place = place_of_questions([text for _, text in pairs])
    passages = [(answer, passage_of(text, place)) for answer, text in pairs]
    asked = (("question", place),) if place else ()
    first = [_answered(*pair) for pair in passages[-FIRST_LOOK:]]
    if 2 * sum(one.root is not None for one in first) > len(first):
        shape = _settle_object([_answered(*pair) for pair in passages])
        if not isinstance(shape, str) and [(item.source, item.is_list) for item in shape.fields] == [("span", False)]:
            return replace(shape, style=shape.style + asked)
        # What is asked for may then stand in the question, too.
        return _settle_object([_answered(*pair) for pair in pairs]) if place else shape
    shape = _settle_bare(first)
    if not isinstance(shape, str):
        shape = _settle_bare([_answered(*pair) for pair in passages])
    return shape if isinstance(shape, str) else replace(shape, style=shape.style + asked)


def parse_extraction(shape: AnswerShape, text: str) -> tuple[str, ...] | None:
    """The canonical values of an answer, one per field; None where it does not have the shape."""
    style = dict(shape.style)
    if "bare" in style:
        (only,) = shape.fields
        if folded(text) == folded(only.nothing):
            return (only.empty,)
        value = canonical("span", text.strip(" \n\"'`"))
        return None if value is None else (value,)
    flat = flattened(read_json(text), _entity_keys(style))
    names = {item.name for item in shape.fields}
    if flat is None or any(not is_nothing(value) for name, value in flat.items() if name not in names):
        return None
    values = [value for item in shape.fields if (value := _canonical(item, flat.get(item.name))) is not None]
    return tuple(values) if len(values) == len(shape.fields) else None


def render_extraction(shape: AnswerShape, values: Sequence[str], text: str) -> str:
    """The answer as the reference writes it, spans as they stand in the input `text`.

    Raises `SpecialistError` for a span that does not stand there.
    """
    style, words = dict(shape.style), Words.of(passage_of(text, shape.question))
    if "bare" in style:
        return shape.fields[0].nothing if values[0] == NOTHING else _surfaces(shape.fields[0], values[0], words)[0][1]
    lists = _entity_keys(style)
    entities: dict[str, list[tuple[int, dict[str, str]]]] = {path: [] for path in lists}
    root: Any = [] if "" in lists else {}
    for item, value in zip(shape.fields, values, strict=True):
        path, _, kind = item.name.rpartition(".")
        if path in lists:
            found = _surfaces(item, value, words)
            entities[path] += [(at, dict(zip(lists[path], (kind, said), strict=True))) for at, said in found]
        else:
            put(root, item, _written(item, value, words, style))
    for path, found_there in entities.items():
        found_there.sort(key=lambda one: one[0])
        listed = [_ordered(entity, style[f"[] {path}"]) for _, entity in found_there]
        if path:
            put_at(root, path, listed)
        else:
            root = listed
    return style["before"] + _dumps(root, style) + style["after"]


def grounded(source: Source, found: object, words: Words) -> bool:
    """Whether a JSON value of the reference, or each of a list, stands in the text."""
    listed = found if isinstance(found, list) else [found]
    values = [of_json(source, one) for one in listed]
    return all(value is not None and any(True for _ in places(source, value, words)) for value in values)


def _answered(answer: str, text: str) -> Answered:
    return Answered(answer=answer, words=Words.of(text), root=read_json(answer))


def _settle_bare(found: list[Answered]) -> AnswerShape | str:
    given = [(one, canonical("span", one.answer.strip(" \n\"'`"))) for one in found]
    standing = [value is not None and any(True for _ in places("span", value, one.words)) for one, value in given]
    others = Counter(one.answer for (one, _), stands in zip(given, standing, strict=True) if not stands)
    nothing, n_nothing = others.most_common(1)[0] if others else ("", 0)
    if 2 * n_nothing <= others.total() or len(nothing) > MAX_VALUE_CHARACTERS:
        nothing, n_nothing = "", 0
    n_misfits = len(found) - sum(standing) - n_nothing
    if n_misfits > MAX_MISFITS * len(found):
        return f"{n_misfits} of {len(found)} answers do not stand in the input"
    if not sum(standing):
        return "no answer stands in the input"
    return AnswerShape(
        kind="extraction",
        fields=(Field(name="", source="span", nothing=nothing),),
        style=(("bare", "yes"),),
    )


def _settle_object(found: list[Answered]) -> AnswerShape | str:
    rows = [one for one in found if one.root is not None]
    lists = _lists_of_entities(rows)
    keys = {path: (kind, text) for path, (kind, text, _) in lists.items()}
    read = [
        Answered(answer=one.answer, words=one.words, root=one.root, flat=flat)
        for one in rows
        if (flat := flattened(one.root, keys)) is not None
    ]
    fields, cases, why = [], [], ""
    for name in _in_order(read):
        made = _field(name, read, is_entity=name.rpartition(".")[0] in keys)
        if isinstance(made, str):
            why = why or f"field {name!r}: {made}"
        else:
            fields.append(made)
            cases.append((f"case {name}", _case(made, read)))
    if not any(item.is_extracted for item in fields):
        return why or "no field's values stand in the input"
    shape = AnswerShape(
        kind="extraction",
        fields=tuple(fields),
        style=(
            *_layout(read),
            *((f"[] {path}", json.dumps([kind, text, first])) for path, (kind, text, first) in lists.items()),
            *(case for case in cases if case[1]),
        ),
    )
    n_misfits = len(found) - sum(_fits(shape, one) for one in read)
    if n_misfits > MAX_MISFITS * len(found):
        return why or f"{n_misfits} of {len(found)} answers have a value that does not stand in the input"
    return shape


def _fits(shape: AnswerShape, one: Answered) -> bool:
    values = parse_extraction(shape, one.answer)
    return values is not None and all(
        not item.is_extracted or value == item.empty or grounded(item.source, one.flat[item.name], one.words)
        for item, value in zip(shape.fields, values, strict=True)
    )


def _in_order(rows: Sequence[Answered]) -> list[str]:
    """The names that recur, in the order in which the reference mostly writes them."""
    positions: dict[str, list[float]] = defaultdict(list)
    for one in rows:
        for position, name in enumerate(one.flat):
            positions[name].append(position / len(one.flat))
    recurring = [name for name, found in positions.items() if len(found) > 1]
    return sorted(recurring, key=lambda name: sum(positions[name]) / len(positions[name]))


def _field(name: str, rows: Sequence[Answered], *, is_entity: bool) -> Field | str:
    """The field of that name, or why its values are neither in the input nor a closed set."""
    given = [(one.flat[name], one.words) for one in rows if not is_nothing(one.flat.get(name))]
    missing = Counter(_as_written(one.flat, name) for one in rows if is_nothing(one.flat.get(name)))
    nothing = missing.most_common(1)[0][0] if missing and not is_entity else ""
    is_list = 2 * sum(isinstance(value, list) for value, _ in given) > len(given)
    shares = {source: sum(grounded(source, *one) for one in given) / max(1, len(given)) for source in _SOURCES}
    source = max(_SOURCES, key=shares.__getitem__)
    extracted = Field(name=name, source=source, is_list=is_list, nothing=nothing)
    if given and shares[source] >= ALWAYS:
        return extracted
    literals = [text for one in rows if (text := literal(_folded_nothing(one.flat.get(name)))) is not None]
    values = closed_set(literals, MAX_VALUES)
    if not is_list and len(literals) >= (1 - MAX_MISFITS) * len(rows) and not isinstance(values, str):
        return Field(name=name, values=values, nothing=nothing)
    if shares[source] >= 1 - MAX_MISFITS:
        return extracted
    n_missing = round((1 - shares[source]) * len(given))
    return f"{n_missing} of {len(given)} values do not stand in the input"


def _case(item: Field, rows: Sequence[Answered]) -> str:
    """The recasing after which most spans of a field are as the reference writes them; empty where they are without."""
    if item.source != "span" or item.is_list:
        return ""
    same: Counter[str] = Counter()
    for one in rows:
        said = one.flat.get(item.name)
        value = of_json("span", said) if said else None
        if value is None or not isinstance(said, str):
            continue
        for at in places("span", value, one.words):
            stands = one.words.between(*at)
            same.update(case for case, recase in _CASES.items() if recase(stands) == said)
            break
    return max(_CASES, key=lambda case: same[case])


def _folded_nothing(value: object) -> object:
    return None if is_nothing(value) else value


def _as_written(flat: dict[str, object], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else ""


def _canonical(item: Field, found: object) -> str | None:
    if is_nothing(found):
        return item.empty
    if not item.is_extracted:
        return literal(found)
    if not item.is_list:
        return of_json(item.source, found)
    values = [of_json(item.source, one) for one in (found if isinstance(found, list) else [found])]
    known = sorted(value for value in values if value is not None)
    return f"[{', '.join(known)}]" if len(known) == len(values) else None


def _lists_of_entities(rows: Sequence[Answered]) -> dict[str, tuple[str, str, str]]:
    """The path of each list of entities, with the keys of the type and the text, and which of them is written first.

    The text is what stands in the input more often.
    """
    standing: dict[str, Counter[str]] = defaultdict(Counter)
    firsts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in rows:
        for path, entity in entities_in(one.root):
            firsts[path][next(iter(entity))] += 1
            for key, value in entity.items():
                standing[path][key] += grounded("span", value, one.words)
    found = {}
    for path, counts in standing.items():
        if len(counts) == 2:
            (text, _), (kind, _) = counts.most_common(2)
            found[path] = (kind, text, firsts[path].most_common(1)[0][0])
    return found


def _entity_keys(style: dict[str, str]) -> dict[str, tuple[str, str]]:
    found = {}
    for name, keys in style.items():
        if name.startswith("[] "):
            kind, text, _ = json.loads(keys)
            found[name[3:]] = (kind, text)
    return found


def _ordered(entity: dict[str, str], keys: str) -> dict[str, str]:
    first = json.loads(keys)[2]
    return dict(sorted(entity.items(), key=lambda one: one[0] != first))


def _layout(rows: Iterable[Answered]) -> tuple[tuple[str, str], ...]:
    """How most of the answers are laid out: what stands around the JSON, and its spaces."""
    counts: Counter[tuple[tuple[str, str], ...]] = Counter()
    for one in list(rows)[-200:]:
        for style in _LAYOUTS:
            body = _dumps(one.root, style)
            before, found, after = one.answer.partition(body)
            if found:
                counts[(("before", before), ("after", after), *style.items())] += 1
                break
    if not counts:
        return (("before", ""), ("after", ""), *_LAYOUTS[0].items())
    return counts.most_common(1)[0][0]


def _dumps(root: object, style: dict[str, str]) -> str:
    return json.dumps(
        root,
        indent=int(style["indent"]) if style["indent"] else None,
        separators=(style["item"], style["key"]),
        ensure_ascii=bool(style["ascii"]),
    )


def _surfaces(item: Field, value: str, words: Words) -> list[tuple[int, str]]:
    """Each span of a canonical value with its first word, at its first place that is not taken, as it stands there."""
    found = json.loads(value)
    taken: set[tuple[int, int]] = set()
    surfaces = []
    for one in [] if value == item.empty else found if item.is_list else [found]:
        at = next((at for at in places("span", json.dumps(one, ensure_ascii=False), words) if at not in taken), None)
        if at is None:
            raise SpecialistError(f"The value {str(one)[:40]!r} of {item.name or 'the answer'} is not in the input.")
        taken.add(at)
        surfaces.append((at[0], words.between(*at)))
    return sorted(surfaces)


def _written(item: Field, value: str, words: Words, style: dict[str, str]) -> object:
    if item.source == "span" and value != item.empty:
        recase = _CASES[style.get(f"case {item.name}", "")]
        said = [recase(surface) for _, surface in _surfaces(item, value, words)]
        return said if item.is_list else said[0]
    return json.loads(value)
