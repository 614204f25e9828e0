"""A tolerant reader of `config.json`: a size under any of its names, checked, or an error that says what was expected.

Names of the same size differ between families (`n_layer`, `num_hidden_layers`). No number of a file is trusted: it must
be whole, positive and below bounds that no model comes near, so that later arithmetic can neither hang nor overflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotfish.core.errors import UserError

MAX_SIZE = 10**9
MAX_LAYERS = 10_000
MAX_JSON_BYTES = 64 << 20


class Config:
    """The values of one configuration; `where` names it in errors."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self.where = where

    @property
    def model_type(self) -> str:
        """`model_type`, or an empty text."""
        found = self._values.get("model_type")
        return found if isinstance(found, str) else ""

    def given(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        """The raw value, None where there is none."""
        return self._values.get(name)

    def size(self, *names: str) -> int:
        """The first of these that is given, as a whole number from 1. Raises `UserError`."""
        found = self.maybe(*names)
        if found is None:
            raise UserError(
                f"{self.where} does not say {' or '.join(names)}.",
                hint=f"A {self.model_type or 'model'} configuration needs it.",
            )
        return found

    def maybe(self, *names: str) -> int | None:
        """As `size`, but None where none is given (or all are null)."""
        for name in names:
            found = self._values.get(name)
            if found is None:
                continue
            if isinstance(found, bool) or not isinstance(found, int) or not 0 < found <= MAX_SIZE:
                raise UserError(
                    f"{self.where}: {name} must be a whole number from 1 to {MAX_SIZE:,}, but is {found!r}."
                )
            return found
        return None

    def layers(self, *names: str) -> int:
        """A number of layers."""
        found = self.size(*names)
        if found > MAX_LAYERS:
            raise UserError(f"{self.where}: {names[0]} is {found:,}; no model has more than {MAX_LAYERS:,} layers.")
        return found

    def flag(self, name: str, default: bool) -> bool:
        """A yes or no; `default` where none is given."""
        found = self._values.get(name)
        return found if isinstance(found, bool) else default

    def part(self, name: str) -> Config | None:
        """A nested configuration, as `text_config`."""
        found = self._values.get(name)
        return Config(found, f"{self.where}, {name}") if isinstance(found, dict) else None

    def names(self, name: str) -> list[str]:
        """A list of texts; empty where none is given."""
        found = self._values.get(name)
        return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """One JSON object from a file of at most `limit` bytes. Raises `UserError` saying what was expected."""
    try:
        with path.open("rb") as file:
            text = file.read(limit + 1)
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    if len(text) > limit:
        raise UserError(f"{str(path)!r} is larger than {limit:,} bytes: no configuration is.")
    return parse_json(text, str(path))


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """One JSON object. Raises `UserError` where it is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where!r} is no JSON: {str(error)[:100]}.", hint="Expected a JSON object.") from error
    if not isinstance(found, dict):
        raise UserError(f"{where!r} holds a {type(found).__name__}; a JSON object was expected.")
    return found
