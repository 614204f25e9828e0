"""JSON answers, compared field by field.

The object is the whole answer, the content of its fence, or, where prose stands around it, the first object in it.
Numbers are equal by value, everything else as JSON is; nested values count as one field. A field that nobody asked for
counts as a wrong one, so that an answer gains nothing by saying more.
"""

from __future__ import annotations

import json
from typing import Any

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.scoring.closed_sets import read_object
from pilotfish.scoring.score import Score, expected, unread

MAX_STARTS = 50
"""Opening braces at which an object is looked for; prose has few."""

_decoder = json.JSONDecoder()


def score_json(item: Item, answer: str, *, all_fields: bool = False) -> Score:
    """The share of equal fields among those of either object; with `all_fields` 1 or 0.

    An object that breaks off is a failure of its own ("truncated"). Raises `DataError` where no object is expected.
    """
    target = expected(item, "json")
    if isinstance(target, str):
        target = read_object(target)
    if not isinstance(target, dict):
        raise DataError(
            f"Item {item.id!r}: the scorer 'json' needs an object as expected answer, got {item.expected!r}."
        )
    found, is_cut = embedded_object(answer)
    if found is None:
        return Score(0.0, "truncated", "the object breaks off") if is_cut else unread("no JSON object")
    names = [*target, *(name for name in found if name not in target)]
    missing = object()
    wrong = [name for name in names if not _equal(target.get(name, missing), found.get(name, missing))]
    share = 1.0 if not names else 1 - len(wrong) / len(names)
    note = f"differ: {', '.join(wrong[:8])}" if wrong else ""
    return Score(float(not wrong) if all_fields else share, "", note)


def embedded_object(text: str) -> tuple[dict[str, Any] | None, bool]:
    """The object in a text, and whether one began and broke off with the text."""
    whole = read_object(text)
    if whole is not None:
        return whole, False
    start, is_cut = text.find("{"), False
    for _ in range(MAX_STARTS):
        if start < 0:
            break
        try:
            found, _end = _decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            is_cut = is_cut or _breaks_off(text, error)
        except (ValueError, RecursionError):
            pass
        else:
            return (found if isinstance(found, dict) else None), False
        start = text.find("{", start + 1)
    return None, is_cut


def _breaks_off(text: str, error: json.JSONDecodeError) -> bool:
    return error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")


def _equal(a: Any, b: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Equality of JSON values: Python's, but that true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(a == b)
