"""Single values of recorded outcomes: what may stand in a file is checked here, so that nothing behind it need ask.

All raise `RowError`, which says what was expected and what came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pilotfish.store.traffic_formats import RowError


def is_score(value: object) -> bool:
    """Whether it is one."""
    try:
        score_of(value, "")
    except RowError:
        return False
    return True


def score_of(value: object, name: str) -> float:
    """A score in [0, 1], as a number, a truth value, or either written out."""
    words = {"true": 1.0, "false": 0.0}
    try:
        found = words.get(value.strip().lower()) if isinstance(value, str) else None
        number = float(value) if found is None else found  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not 0.0 <= number <= 1.0:
        raise RowError(f"the score of {name!r} must lie in 0..1, but is {str(value)[:60]!r}")
    return number


def amount(value: object, what: str) -> float | None:
    """A number of at least 0, also written out; None where it is not stated."""
    if value is None or value == "":
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not 0.0 <= number < math.inf:
        raise RowError(f"{what} must be a number of at least 0, but is {str(value)[:60]!r}")
    return number


def count(value: object, what: str) -> int | None:
    """The same, as a whole number."""
    number = amount(value, what)
    return None if number is None else round(number)


def chance(value: object, what: str) -> float | None:
    """The same, at most 1."""
    number = amount(value, what)
    if number is not None and number > 1.0:
        raise RowError(f"{what} must lie in 0..1, but is {str(value)[:60]!r}")
    return number


def string(value: object, what: str) -> str | None:
    """A text; None where it is not stated."""
    if value is not None and not isinstance(value, str):
        raise RowError(f"{what} must be text, but is {str(value)[:60]!r}")
    return value


def written(value: object) -> str | None:
    """A cell as text: tables also hold answers that are numbers."""
    return None if value is None or value == "" else str(value)


def _list_of(kind: Any, word: str) -> Callable[[object, str], tuple[Any, ...] | None]:  # noqa: ANN401 - a type or a union
    def read(value: object, what: str) -> tuple[Any, ...] | None:
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
            raise RowError(f"{what} must be a list of {word}, but is {str(value)[:60]!r}")
        return tuple(value)

    return read


ANSWER_FIELDS: dict[str, Callable[[object, str], Any]] = {
    "text": string,
    "finish_reason": string,
    "cost_usd": amount,
    "input_tokens": count,
    "output_tokens": count,
    "latency_s": amount,
    "tokens": _list_of(str, "texts"),
    "logprobs": _list_of(int | float, "numbers"),
    "margins": _list_of(int | float, "numbers"),
    "samples": _list_of(str, "texts"),
    "verifier": chance,
    "verified_by": string,
}
"""How each field of an answer but its score is read."""


def text_of(row: Mapping[str, Any], key: str) -> str:
    """A text that must be there."""
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise RowError(f"{key!r} must be text, but is {str(value)[:60]!r}")
    return value
