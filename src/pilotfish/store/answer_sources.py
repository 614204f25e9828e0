"""Answers that a user gave for a task in a file: questions or documents, each with the text that answers it.

    HOME/answers/TASK/SOURCE.json

One file a source, which is named after the file that it came from, so that it can be replaced or taken back whole. They
teach a specialist which answer is near; what they say of the reference's own answers is nothing, so they never certify.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pilotfish.core.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSource:
    """A source: its name, when it was added (seconds since 1970), pairs of a question or document and its answer."""

    name: str
    added_s: float
    pairs: tuple[tuple[str, str], ...]


class AnswerSources:
    """The sources in the home folder `home`."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "answers"

    def of(self, task_id: str) -> Sequence[AnswerSource]:
        """The sources of a task, the earliest first. Raises `StoreError` where one cannot be read."""
        found = [_read(path) for path in (self._folder / task_id).glob("*.json")]
        return sorted(found, key=lambda source: (source.added_s, source.name))

    def put(self, task_id: str, source: AnswerSource) -> None:
        """Add a source, in place of the one of its name."""
        path = self._path(task_id, source.name)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(asdict(source), ensure_ascii=False), "utf-8")
            partial.replace(path)
        except OSError as error:
            raise StoreError(f"{str(path)!r} cannot be written: {error.strerror}.") from error

    def remove(self, task_id: str, name: str) -> None:
        """Take a source back; one that is not there is gone already."""
        self._path(task_id, name).unlink(missing_ok=True)

    def _path(self, task_id: str, name: str) -> Path:
        return self._folder / task_id / (re.sub(r"[^\w.-]", "_", name) + ".json")


def _read(path: Path) -> AnswerSource:
    try:
        row = json.loads(path.read_text("utf-8"))
        pairs = tuple((str(text), str(answer)) for text, answer in row["pairs"])
        return AnswerSource(name=row["name"], added_s=row["added_s"], pairs=pairs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{str(path)!r} holds no answers that can be read: {error}.", hint="Remove it, and add the file again."
        ) from error
