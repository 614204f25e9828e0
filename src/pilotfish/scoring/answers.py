"""Closed answers: their shape, how they are read, written and compared.

It infers from a task's answers so far whether they form a closed set (a label, a small set of numbers,
a flat JSON object of such fields), reads an answer into canonical values and writes values back in the
reference's own style. It knows no models, no tasks and no log: texts in, values out. Canonical values
fold what carries no meaning (spaces, quotes, case, key order), so that two answers are compared by
equality. Standard library only, since the gateway reads answers with it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from pilotfish.core.task import AnswerShape, Field

MIN_ANSWERS = 20
"""Below this, three labels and free text look alike."""

MAX_MISFITS = 0.2
"""Share of answers that may fit no closed shape (refusals, prose, broken JSON). They can never be agreed
with, so a specialist of a task with more of them would serve little."""

MAX_NEW = 0.1
"""Largest chance that the next answer is a value never seen, by Good and Turing's estimate: the share of
answers whose value was seen once (I. J. Good, Biometrika 40, 1953). Free text stays near 1; a closed set
of k values comes below 0.1 at about 3k answers and keeps falling, while rare values are tolerated."""

ANSWERS_PER_VALUE = 4
"""Fewer answers than this per recurring value could not be learnt anyway (5 shots: 80 % on banking77)."""

MAX_VALUES = 512
"""Recurring values of one field: three times the largest intent set in use (150). A larger set is an
open vocabulary (names, places) that has merely been watched for long."""

MAX_NUMBERS = 128
"""Recurring numbers of one field: room for 0 to 100. With more, a number is a quantity, which classes
without order cannot learn."""

MAX_VALUE_CHARACTERS = 100
"""The longest label met in public label sets has 77 characters; longer answers are prose."""

_REFUSAL = re.compile(
    r"(i['\u2019]m|i am) (sorry|unable|not able|afraid)|sorry, |i can(no|['\u2019])t |i (do not|don['\u2019]t) "
    r"|i apologi[sz]e|as an ai|unfortunately, "
)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_SCALAR = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null')
_FENCE = re.compile(r"```(?:json|JSON)?\s*(\{.*\})\s*```", re.DOTALL)
_WRAPPING = "\"'`*\u201c\u201d\u2018\u2019«» "


def settle(texts: Iterable[str]) -> AnswerShape:
    """The shape of a task, inferred from the reference's answers so far.

    The answers are an object when more of them read as one than not, else numbers when every recurring
    label is one, else labels. The shape is closed when at most `MAX_MISFITS` of the answers do not fit it
    and each field is a closed set: at most `MAX_NEW` of its answers are values seen once, and the others recur
    `ANSWERS_PER_VALUE` times on average over at most `MAX_VALUES` (`MAX_NUMBERS`) values. Values seen once are
    left out of the shape. Otherwise the kind is "text", and `why_open` says what was in the way.
    """
    answers = [text for text in texts if text.strip()]
    if len(answers) < MIN_ANSWERS:
        return _open(f"{len(answers)} answers so far; {MIN_ANSWERS} are needed to tell their shape")
    objects = [(text, found) for text in answers if (found := read_object(text)) is not None]
    if 2 * len(objects) > len(answers):
        return _settle_json(objects, len(answers))
    return _settle_bare(answers)


def parse(shape: AnswerShape, text: str) -> tuple[str, ...] | None:
    """The canonical values of an answer, one per field; None where it does not have the shape.

    A value that the shape does not list is still a value (a new label disagrees, it is no error).
    """
    if shape.kind == "json":
        found = read_object(text)
        if found is None or found.keys() != {field.name for field in shape.fields}:
            return None
        literals = [literal for field in shape.fields if (literal := _literal(found[field.name])) is not None]
        return tuple(literals) if len(literals) == len(shape.fields) else None
    if shape.kind == "text":
        return None
    value = _number(text) if shape.kind == "number" else _label(text)
    return None if value is None else (value,)


def render(shape: AnswerShape, values: Sequence[str]) -> str:
    """The answer as the reference writes it: its surface form of a label, its layout of an object."""
    if shape.kind != "json":
        return dict(shape.style).get(values[0], values[0])
    before = dict(shape.style)
    return "".join(before[field.name] + value for field, value in zip(shape.fields, values, strict=True)) + before[""]


def disagreement(a: tuple[str, ...] | None, b: tuple[str, ...] | None) -> float:
    """0.0 where both answers have the shape and all their values are equal, else 1.0."""
    return 0.0 if a is not None and a == b else 1.0


def majority(said: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """The values that more than half of several answers agree on; None where there are none such."""
    values, n = Counter(said).most_common(1)[0]
    return values if 2 * n > len(said) else None


def folded(text: str) -> str:
    """A text without what carries no meaning: single spaces, no quotes or final full stop around it, case folded."""
    return " ".join(text.split()).strip(_WRAPPING).removesuffix(".").strip(_WRAPPING).casefold()


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
    values = _closed_set([value for value, _ in fitting], most)
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
        literals = [literal for _, found in same if (literal := _literal(found[name])) is not None]
        if len(same) - len(literals) > MAX_MISFITS * n:
            return _open(f"field {name!r}: nested or longer than a label in {len(same) - len(literals)} answers")
        is_number = sum(_NUMBER.fullmatch(literal) is not None for literal in literals) * 2 > len(literals)
        values = _closed_set(literals, MAX_NUMBERS if is_number else MAX_VALUES)
        if isinstance(values, str):
            return _open(f"field {name!r}: {values}")
        fields.append(Field(name=name, values=values))
    flat = [(text, found) for text, found in same if tuple(found) == names and _is_flat(found)]
    if not flat:
        return _open("no answer has a closed value in every field")
    style = Counter(_layout(text, names) for text, _ in flat).most_common(1)[0][0]
    return AnswerShape(kind="json", fields=tuple(fields), style=style)


def _closed_set(values: list[str], most: int) -> tuple[str, ...] | str:
    """The recurring values, most frequent first, or why they are no closed set."""
    counts = Counter(values)
    recurring = tuple(value for value, count in counts.most_common() if count > 1)
    n_single = len(counts) - len(recurring)
    if n_single > MAX_NEW * len(values):
        return f"{n_single} of {len(values)} answers were seen only once; the set has not settled"
    if len(recurring) > most:
        return f"{len(recurring)} different values recur; at most {most} can be learnt"
    if len(recurring) * ANSWERS_PER_VALUE > len(values):
        return f"{len(values)} answers over {len(recurring)} values; {ANSWERS_PER_VALUE} per value are needed"
    return recurring


def _open(why: str) -> AnswerShape:
    return AnswerShape(kind="text", why_open=why)


def _label(text: str) -> str | None:
    """The folded label, None where the text is too long for one or a refusal."""
    label = folded(text)
    return label if label and len(label) <= MAX_VALUE_CHARACTERS and not reads_as_refusal(label) else None


def _number(text: str) -> str | None:
    """The number without trailing zeros, None where the text is no plain number."""
    bare = text.strip(_WRAPPING + "\n\t\r").removesuffix(".")
    if len(bare) > MAX_VALUE_CHARACTERS or not _NUMBER.fullmatch(bare):
        return None
    if "." in bare:
        bare = bare.rstrip("0").removesuffix(".")
    return "0" if bare == "-0" else bare


def read_object(text: str) -> dict[str, object] | None:
    """The JSON object that is the whole text, or the whole of its one fence."""
    stripped = text.strip()
    fenced = _FENCE.fullmatch(stripped)
    body = fenced[1] if fenced else stripped
    if not body.startswith("{"):
        return None
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _literal(value: object) -> str | None:
    """The JSON literal of a scalar; None for nested values and for strings longer than a label."""
    if isinstance(value, dict | list):
        return None
    literal = json.dumps(value, ensure_ascii=False)
    return literal if len(literal) <= MAX_VALUE_CHARACTERS else None


def _is_flat(found: dict[str, object]) -> bool:
    return all(_literal(value) is not None for value in found.values())


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
