"""Tasks and the shape of their answers.

A task is requests that share instructions and the shape of their answer. This file knows what
a task is, not how one is recognised (`tasks/`) or how answers are compared (`scoring/`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pilotfish.core.asked import Place
from pilotfish.core.grounding import NOTHING, Source

Mode = Literal["observe", "shadow", "serve"]

ShapeKind = Literal["label", "number", "json", "extraction", "retrieved", "text"]

EVERYONE = "*"
"""As the owner of retrieved answers: whoever asks may have them, since the user said so."""

NO_PAST_ANSWER = ""
"""As a value of a retrieved answer: the reference writes one of its own, and nothing may be served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of an answer: of a closed set, or extracted from the input.

    `name` is empty for a bare answer; of a nested field it is the path, joined by dots. `values` are canonical values
    (JSON literals for the fields of an object, the bare text for a label), most frequent first; none where the field is
    extracted. `is_list` says whether it holds any number of spans. `nothing` is how the reference writes that there is
    no value (`null`, `""`), and empty where it leaves the key out.
    """

    name: str
    values: tuple[str, ...] = ()
    source: Source = "closed"
    is_list: bool = False
    nothing: str = ""

    @property
    def is_extracted(self) -> bool:
        """Whether its values must stand in the input."""
        return self.source != "closed"

    def allows(self, value: str) -> bool:
        """Whether a specialist may learn this canonical value."""
        return self.is_extracted or value in self.values

    @property
    def summary(self) -> dict[str, object]:
        """What tables and `--json` show of it."""
        if self.is_extracted:
            return {"name": self.name, "source": self.source, "is_list": self.is_list}
        return {"name": self.name, "values": len(self.values)}

    @property
    def empty(self) -> str:
        """The canonical value where the input has none."""
        return "[]" if self.is_list else NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Whose past answers may be given again, and which no more.

    `owner` is the id of the key that they were given to, empty where none was needed, or `EVERYONE`. `forgotten` names
    values with the moment up to which answers of the reference with that value count for nothing. Two answers agree
    that overlap in words by `min_overlap`; 1 asks for equal ones.
    """

    owner: str = ""
    forgotten: tuple[tuple[str, float], ...] = ()
    min_overlap: float = 1.0

    def is_for(self, key_id: str | None) -> bool:
        """Whether whoever asks with this key (None: without one) may have them."""
        return self.owner in (EVERYONE, key_id or "")

    def has_forgotten(self, value: str, time_s: float) -> bool:
        """Whether an answer of that time with this value counts no more."""
        return any(value == known and time_s <= until_s for known, until_s in self.forgotten)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerShape:
    """How the answers of a task look.

    `kind` "text" is not closed: such a task is only observed, and `why_open` says why. A closed
    answer is a tuple of canonical values, one for each of `fields`; in an "extraction" values of at least one field
    stand in the input. `style` is how the reference writes it: for a label the surface form of each value; for an
    object the text before each field's value, and under an empty name the text after the last; for an extraction the
    layout that `scoring/extraction.py` describes. The values of a "retrieved" answer are fingerprints of whole texts,
    `style` holds the texts, and `retrieval` says for whom; it stays where such a task becomes open for a while.
    """

    kind: ShapeKind
    fields: tuple[Field, ...] = ()
    style: tuple[tuple[str, str], ...] = ()
    why_open: str = ""
    retrieval: Retrieval | None = None

    @property
    def is_closed(self) -> bool:
        """Whether a specialist can learn it."""
        return self.kind != "text"

    @property
    def is_retrieved(self) -> bool:
        """Whether its answers are whole texts of past answers."""
        return self.kind == "retrieved"

    @property
    def names(self) -> tuple[str, ...]:
        """Of its fields, in order."""
        return tuple(item.name for item in self.fields)

    @property
    def question(self) -> Place | None:
        """Which line of an input asks what is to be found in the others; None where its answers answer no question."""
        found = dict(self.style).get("question") if self.kind == "extraction" else None
        return "last" if found == "last" else "first" if found == "first" else None

    def forgetting(self, forgotten: Iterable[tuple[str, float]]) -> AnswerShape:
        """The same without the retrieved values that were forgotten later than this shape knows of."""
        before = self.retrieval or Retrieval()
        known = dict(before.forgotten)
        newer = {value: time_s for value, time_s in forgotten if time_s > known.get(value, 0.0)}
        if not newer:
            return self
        fields = (
            replace(item, values=tuple(value for value in item.values if value not in newer)) for item in self.fields
        )
        return replace(
            self,
            fields=tuple(fields),
            style=tuple((value, text) for value, text in self.style if value not in newer),
            retrieval=replace(before, forgotten=tuple(sorted({**known, **newer}.items()))),
        )


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
