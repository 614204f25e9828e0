"""Tasks and the shape of their answers.

A task is requests that share instructions and the shape of their answer. This file knows what
a task is, not how one is recognised (`tasks/`) or how answers are compared (`scoring/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["observe", "shadow", "serve"]

ShapeKind = Literal["label", "number", "json", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One closed field of an answer.

    `name` is empty for a bare label or number. `values` are canonical values (JSON literals for
    the fields of an object, the bare text for a label), most frequent first.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerShape:
    """How the answers of a task look.

    `kind` "text" is not closed: such a task is only observed, and `why_open` says why. A closed
    answer is a tuple of canonical values, one for each of `fields`. `style` is how the reference
    writes it: for a label the surface form of each value; for an object the text before each field's
    value, and under an empty name the text after the last.
    """

    kind: ShapeKind
    fields: tuple[Field, ...] = ()
    style: tuple[tuple[str, str], ...] = ()
    why_open: str = ""

    @property
    def is_closed(self) -> bool:
        """Whether a specialist can learn it."""
        return self.kind != "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A recurring task of one log.

    `id` is the fingerprint (16 hexadecimal digits), `name` a readable slug that is unique in the
    log, `instructions_id` the fingerprint of the shared instructions before any template.
    """

    id: str
    name: str
    instructions_id: str
    instructions: str
    shape: AnswerShape
    n_requests: int = 0
    mode: Mode = "observe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The constant part of user messages that carry their instruction with them.

    A message matches when it starts with `prefix` and ends with `suffix`; what stands between is
    the input of the task.
    """

    instructions_id: str
    prefix: str
    suffix: str = ""
    task_id: str = ""
