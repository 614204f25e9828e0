"""Reads a request field by field, so that nothing a client asked for is lost on the way to another family.

What was not taken is refused by its name, unless it has the value that it has when it is left out.
"""

from __future__ import annotations

from typing import Any, NoReturn

from pilotfish.core.errors import ModelFormatError, RequestError

_EMPTY: tuple[Any, ...] = (None, [], {})


class Fields:
    """One JSON object of a request. `place` is where it stands in the body, empty for the body itself."""

    def __init__(self, value: object, place: str = "") -> None:
        """Raises `RequestError` where `value` is no object."""
        if not isinstance(value, dict):
            refuse(place, "must be an object")
        self._left: dict[str, Any] = dict(value)
        self._place = place

    def at(self, name: str) -> str:
        """The place of a field."""
        return f"{self._place}.{name}" if self._place else name

    def take(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """The value of a field, None where it is absent."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str:
        """The text of a field. Raises `RequestError` where it holds none."""
        value = self.take(name)
        if not isinstance(value, str):
            refuse(self.at(name), "must be a text")
        return value

    def rows(self, name: str) -> list[Any]:
        """The list in a field, empty where it is absent. Raises `RequestError` where it holds something else."""
        value = self.take(name)
        if value is not None and not isinstance(value, list):
            refuse(self.at(name), "must be a list")
        return value or []

    def give(self, target: dict[str, Any], **names: str) -> None:
        """Move fields to `target`, each under the name it has there, where they are set."""
        for name, there in names.items():
            if (value := self.take(name)) is not None:
                target[there] = value

    def end(self, **neutral: object) -> None:
        """Refuse the first field that is left and does not mean nothing: empty, or what `neutral` says of it."""
        for name, value in self._left.items():
            # 0 is no False here, nor 1 True: a model server may tell them apart.
            is_neutral = (
                name in neutral
                and value == neutral[name]
                and isinstance(value, bool) == isinstance(neutral[name], bool)
            )
            if value not in _EMPTY and not is_neutral:
                refuse(self.at(name))


def refuse(place: str, why: str = "has no counterpart in the interface of this model") -> NoReturn:
    """Raise the `RequestError` that names a field which cannot be carried over."""
    raise RequestError(
        f"{place or 'The body'} {why}.",
        hint="Leave it out, or ask through an endpoint of the model's own family.",
        param=place,
    )


def unspeakable(what: str) -> NoReturn:
    """Raise the `ModelFormatError` for an answer that the client's family has no words for."""
    raise ModelFormatError(f"The model answered with {what}, which the client's interface cannot carry.")
