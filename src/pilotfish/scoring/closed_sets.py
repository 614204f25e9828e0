"""Closed sets of values, and how answers are read into values: what every shape of answer is inferred with.

Which shapes there are is `answers.py`'s and `extraction.py`'s. Standard library only, since the gateway reads
answers with it.
"""

from __future__ import annotations

import json
import re
from collections import Counter

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

_FENCE = re.compile(r"```(?:json|JSON)?\s*(.*?)\s*```", re.DOTALL)
WRAPPING = "\"'`*\u201c\u201d\u2018\u2019«» "


def closed_set(values: list[str], most: int) -> tuple[str, ...] | str:
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


def folded(text: str) -> str:
    """A text without what carries no meaning: single spaces, no quotes or final full stop around it, case folded."""
    return " ".join(text.split()).strip(WRAPPING).removesuffix(".").strip(WRAPPING).casefold()


def read_object(text: str) -> dict[str, object] | None:
    """The JSON object that is the whole text, or the whole of its one fence."""
    found = read_json(text)
    return found if isinstance(found, dict) else None


def read_json(text: str) -> object:
    """The JSON object or list that is the whole text, or the whole of its one fence; None where there is none."""
    stripped = text.strip()
    fenced = _FENCE.fullmatch(stripped)
    body = fenced[1] if fenced else stripped
    if not body.startswith(("{", "[")):
        return None
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> object:
    raise ValueError(name)


def literal(value: object) -> str | None:
    """The JSON literal of a scalar; None for nested values and for strings longer than a label."""
    if isinstance(value, dict | list):
        return None
    literal = json.dumps(value, ensure_ascii=False)
    return literal if len(literal) <= MAX_VALUE_CHARACTERS else None
