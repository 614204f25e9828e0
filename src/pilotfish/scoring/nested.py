"""JSON by dotted names: nested objects and lists of entities read as one flat object, and put together again.

A list of entities is one of typed texts; each type is a name under the list's path. It knows no shapes: which lists are
such, and under which keys type and text stand, is `extraction.py`'s to find. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pilotfish.core.task import Field


def is_nothing(value: object) -> bool:
    """Whether a JSON value says that there is none."""
    return value is None or value in ("", [], {})


def flattened(found: object, lists: dict[str, tuple[str, str]], path: str = "") -> dict[str, object] | None:
    """The scalars and lists of JSON by their dotted names; None where it is not of such.

    `lists` are the paths of lists of entities, with the keys of their type and their text.
    """
    if path in lists and isinstance(found, list):
        return _by_type(found, *lists[path], path)
    if not isinstance(found, dict):
        return None
    flat: dict[str, object] = {}
    for key, value in found.items():
        name = f"{path}.{key}" if path else key
        if not key or "." in key:
            return None
        if isinstance(value, dict) or (name in lists and isinstance(value, list)):
            inner = flattened(value, lists, name)
            if inner is None:
                return None
            flat |= inner
        elif isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
            return None
        else:
            flat[name] = value
    return flat


def _by_type(found: list[Any], kind: str, text: str, path: str) -> dict[str, object] | None:
    flat: dict[str, Any] = {}
    for one in found:
        if not isinstance(one, dict) or one.keys() != {kind, text} or not all(isinstance(v, str) for v in one.values()):
            return None
        if not one[kind] or "." in one[kind]:
            return None
        flat.setdefault(f"{path}.{one[kind]}" if path else one[kind], []).append(one[text])
    return flat


def entities_in(found: object, path: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    """Every object of two keys in a list, with the path of the list."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from entities_in(value, f"{path}.{key}" if path else key)
    elif isinstance(found, list):
        yield from ((path, one) for one in found if isinstance(one, dict) and len(one) == 2)


def put(root: dict[str, Any], item: Field, value: object) -> None:
    """Sets a field, which without a value is left out or written as the reference does."""
    node = root
    *parents, name = item.name.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    if not is_nothing(value):
        node[name] = value
    elif item.nothing:
        node[name] = json.loads(item.nothing)


def put_at(root: dict[str, Any], path: str, value: object) -> None:
    """Sets what stands at a path."""
    *parents, name = path.split(".")
    for parent in parents:
        root = root.setdefault(parent, {})
    root[name] = value
