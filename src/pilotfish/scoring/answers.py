"""Answers: their shape, how they are read, written and compared.

It infers from a task's answers so far whether they form a closed set (a label, a small set of numbers,
a flat JSON object of such fields) or stand in the input (`extraction.py`), reads an answer into canonical values
and writes values back in the reference's own style. It knows no models, no tasks and no log: texts in, values out.
Canonical values fold what carries no meaning (spaces, quotes, case, key order), so that two answers are
compared by equality. Standard library only, since the gateway reads answers with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from pilotfish.core.task import AnswerShape, Field
from pilotfish.scoring.closed_sets import (
    MAX_MISFITS,
    MAX_NUMBERS,
    MAX_VALUE_CHARACTERS,
    MAX_VALUES,
    WRAPPING,
    closed_set,
    folded,
    literal,
    read_json,
    read_object,
)
from pilotfish.scoring.extraction import parse_extraction, render_extraction, settle_extraction
from pilotfish.scoring.retrieved import read_past, render_text

MIN_ANSWERS = 20
"""Below this, three labels and free text look alike."""

_REFUSAL = re.compile(
    r"(i['\u2019]m|i am) (sorry|unable|not able|afraid)|sorry, |i can(no|['\u2019])t |i (do not|don['\u2019]t) "
    r"|i apologi[sz]e|as an ai|unfortunately, "
)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_SCALAR = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null')


def settle(texts: Iterable[str], inputs: Iterable[str] | None = None) -> AnswerShape:
    """The shape of a task, inferred from the reference's answers so far, and from their `inputs` where these are known.

    The answers are an object when more of them read as one than not, else numbers when every recurring
    label is one, else labels. The shape is closed when at most `MAX_MISFITS` of the answers do not fit it
    and each field is a closed set: at most `MAX_NEW` of its answers are values seen once, and the others recur
    `ANSWERS_PER_VALUE` times on average over at most `MAX_VALUES` (`MAX_NUMBERS`) values. Values seen once are
    left out of the shape. Answers that are no closed set but stand in their inputs are an extraction. Otherwise
    the kind is "text", and `why_open` says what was in the way.
    """
    answers, asked = _answered(texts, inputs)
    if len(answers) < MIN_ANSWERS:
        return _open(f"{len(answers)} answers so far; {MIN_ANSWERS} are needed to tell their shape")
    objects = [(text, found) for text in answers if (found := read_object(text)) is not None]
    shape = _settle_json(objects, len(answers)) if 2 * len(objects) > len(answers) else _settle_bare(answers)
    # Where most requests name no entity, the empty list alone would make a label.
    if asked is None or (shape.is_closed and not _are_lists(answers)):
        return shape
    extracted = settle_extraction(answers, asked)
    if not isinstance(extracted, str):
        return extracted
    return shape if shape.is_closed else _open(f"{shape.why_open}; {extracted}")


def _are_lists(answers: Sequence[str]) -> bool:
    return 2 * sum(isinstance(read_json(text), list) for text in answers) > len(answers)


def _answered(texts: Iterable[str], inputs: Iterable[str] | None) -> tuple[list[str], list[str] | None]:
    """The answers that are not empty, with their inputs."""
    if inputs is None:
        return [text for text in texts if text.strip()], None
    pairs = [(text, asked) for text, asked in zip(texts, inputs, strict=True) if text.strip()]
    return [text for text, _ in pairs], [asked for _, asked in pairs]


def parse(shape: AnswerShape, text: str) -> tuple[str, ...] | None:
    """The canonical values of an answer, one per field; None where it does not have the shape.

    A value that the shape does not list is still a value (a new label disagrees, it is no error).
    """
    if shape.kind == "json":
        found = read_object(text)
        if found is None or found.keys() != {field.name for field in shape.fields}:
            return None
        literals = [one for field in shape.fields if (one := literal(found[field.name])) is not None]
        return tuple(literals) if len(literals) == len(shape.fields) else None
    if shape.kind == "extraction":
        return parse_extraction(shape, text)
    if shape.kind == "text":
        return None
    value = read_past(shape, text) if shape.kind == "retrieved" else _READERS[shape.kind](text)
    return None if value is None else (value,)


def render(shape: AnswerShape, values: Sequence[str], text: str = "") -> str:
    """The answer as the reference writes it: its surface form of a label, its layout of an object.

    What is extracted is written as it stands in the input `text`; raises `SpecialistError` where it does not. Empty for
    a retrieved answer that was forgotten.
    """
    if shape.kind == "extraction":
        return render_extraction(shape, values, text)
    if shape.kind == "retrieved":
        return render_text(shape, values)
    if shape.kind != "json":
        return dict(shape.style).get(values[0], values[0])
    before = dict(shape.style)
    return "".join(before[field.name] + value for field, value in zip(shape.fields, values, strict=True)) + before[""]


def disagreement(a: tuple[str, ...] | None, b: tuple[str, ...] | None) -> float:
    """0.0 where both answers have the shape and all their values are equal, else 1.0."""
    return 0.0 if a is not None and a == b else 1.0


def disagreements(a: tuple[str, ...] | None, b: tuple[str, ...] | None) -> tuple[float, ...]:
    """The same of each field; where one answer does not have the shape, all of them differ."""
    if a is None or b is None:
        return (1.0,) * len(a or b or ())
    return tuple(float(one != other) for one, other in zip(a, b, strict=True))


def majority(said: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """The values that more than half of several answers agree on; None where there are none such."""
    values, n = Counter(said).most_common(1)[0]
    return values if 2 * n > len(said) else None


def reads_as_refusal(label: str) -> bool:
    """Whether a folded answer opens as refusals do ("I'm sorry, but I can't ...")."""
    return _REFUSAL.match(label) is not None


def _settle_bare(answers: list[str]) -> AnswerShape:
    counts = Counter(label for text in answers if (label := _label(text)) is not None)
    are_numbers = all(_number(label) is not None for label, count in counts.items() if count > 1)
    read, most = (_number, MAX_NUMBERS) if are_numbers else (_label, MAX_VALUES)
    fitting = [(value, text) for text in answers if (value := read(text)) is not None]
    n_misfits = len(answers) - len(fitting)
    if n_misfits > MAX_MISFITS * len(answers):
        return _open(f"{n_misfits} of {len(answers)} answers are no recurring label")
    values = closed_set([value for value, _ in fitting], most)
    if isinstance(values, str):
        return _open(values)
    surfaces: dict[str, Counter[str]] = {}
    for value, text in fitting:
        surfaces.setdefault(value, Counter())[text] += 1
    style = tuple((value, surfaces[value].most_common(1)[0][0]) for value in values)
    return AnswerShape(kind="number" if are_numbers else "label", fields=(Field(name="", values=values),), style=style)


def _settle_json(objects: list[tuple[str, dict[str, object]]], n: int) -> AnswerShape:
    layouts = Counter(tuple(found) for _, found in objects)
    names = layouts.most_common(1)[0][0]
    same = [(text, found) for text, found in objects if found.keys() == set(names)]
    if n - len(same) > MAX_MISFITS * n:
        return _open(f"{n - len(same)} of {n} answers lack the keys of the others ({', '.join(names)})")
    if "" in names or not names:
        return _open("the objects have no key, or an empty one")
    fields = []
    for name in names:
        literals = [one for _, found in same if (one := literal(found[name])) is not None]
        if len(same) - len(literals) > MAX_MISFITS * n:
            return _open(f"field {name!r}: nested or longer than a label in {len(same) - len(literals)} answers")
        is_number = sum(_NUMBER.fullmatch(one) is not None for one in literals) * 2 > len(literals)
        values = closed_set(literals, MAX_NUMBERS if is_number else MAX_VALUES)
        if isinstance(values, str):
            return _open(f"field {name!r}: {values}")
        fields.append(Field(name=name, values=values))
    flat = [(text, found) for text, found in same if tuple(found) == names and _is_flat(found)]
    if not flat:
        return _open("no answer has a closed value in every field")
    style = Counter(_layout(text, names) for text, _ in flat).most_common(1)[0][0]
    return AnswerShape(kind="json", fields=tuple(fields), style=style)


def _open(why: str) -> AnswerShape:
    return AnswerShape(kind="text", why_open=why)


def _label(text: str) -> str | None:
    """The folded label, None where the text is too long for one or a refusal."""
    label = folded(text)
    return label if label and len(label) <= MAX_VALUE_CHARACTERS and not reads_as_refusal(label) else None


def _number(text: str) -> str | None:
    """The number without trailing zeros, None where the text is no plain number."""
    bare = text.strip(WRAPPING + "\n\t\r").removesuffix(".")
    if len(bare) > MAX_VALUE_CHARACTERS or not _NUMBER.fullmatch(bare):
        return None
    if "." in bare:
        bare = bare.rstrip("0").removesuffix(".")
    return "0" if bare == "-0" else bare


_READERS = {"label": _label, "number": _number}
"""How an answer that is one short value is read."""


def _is_flat(found: dict[str, object]) -> bool:
    return all(literal(value) is not None for value in found.values())


def _layout(text: str, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What stands before the value of each field, and, under the empty name, after the last.

    In a flat object the scalars alternate between keys and values, and nothing else is one.
    """
    start = text.index("{")
    spans = [match.span() for match in _SCALAR.finditer(text, start)][1 : 2 * len(names) : 2]
    layout, end = [], 0
    for name, span in zip(names, spans, strict=True):
        layout.append((name, text[end : span[0]]))
        end = span[1]
    return (*layout, ("", text[end:]))
