"""New answers: values that the reference has begun to give and the serving specialist cannot.

Requests that call for them are deferred at best and answered wrongly at worst, whatever the certificate said about the
traffic it saw. It counts; what follows is for `pace.py` (when to look) and `advance.py` (what to prove). Gateway,
learner, replay and `pilotfish tasks` all count with the same object.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from pilotfish.core.certificate import Certificate
from pilotfish.core.example import Example
from pilotfish.core.task import AnswerShape
from pilotfish.guarantees.pace import Pace
from pilotfish.store.base import TaskRecord

# Bounds the memory of a counter that lives as long as a gateway; a specialist learns at most half as many values.
MOST_VALUES = 1024


class NewAnswers:
    """The new values among the answers known since a specialist was taught.

    `shape` lists the values that it answers; of a field that is extracted none is new.
    `n_known` answers were seen, `n_rows` of them with a
    new value, the most frequent of which came `most` times.
    """

    def __init__(self, shape: AnswerShape) -> None:
        self._fields = [(field.name, None if field.is_extracted else frozenset(field.values)) for field in shape.fields]
        self._counts: Counter[tuple[str, str]] = Counter()
        # Of whole texts many are given once and never again; those were there when the certificate was earned, too.
        self._least = 2 if shape.is_retrieved else 1
        self.n_known = 0
        self.n_rows = 0
        self.most = 0

    def see(self, answer: tuple[str, ...] | None) -> None:
        """Count one answer of the reference; one that has not the task's shape has no new value."""
        self.n_known += 1
        new = self._new_in(answer)
        for item in new:
            if item in self._counts or len(self._counts) < MOST_VALUES:
                self._counts[item] += 1
                self.most = max(self.most, self._counts[item])
        self.n_rows += self._is_new(new)

    @property
    def share(self) -> float:
        """The share of the answers seen that have a new value."""
        return self.n_rows / self.n_known if self.n_known else 0.0

    def share_of(self, examples: Sequence[Example]) -> float:
        """The share of these rows that have a new value: the specialist is wrong on them where it answers."""
        n_new = sum(self._is_new(self._new_in(row.answer)) for row in examples)
        return n_new / len(examples) if examples else 0.0

    def listed(self, at_least: int = 2) -> list[tuple[str, str, int]]:
        """(field, value, how often), most frequent first; a value seen once may be a slip of the pen."""
        return [(field, value, n) for (field, value), n in self._counts.most_common() if n >= at_least]

    def message(self) -> str:
        """The most frequent new value in one plain sentence."""
        ((field, value, n), *others) = self.listed(at_least=1)
        named = f"{field} = {value}" if field else repr(value)
        also = f" (and {len(others):,} other new values)" if others else ""
        return (
            f"The large model now answers {named}{also}, which the specialist does not know: "
            f"{n:,} of the {self.n_known:,} answers known since it was taught."
        )

    def _is_new(self, values: Sequence[tuple[str, str]]) -> bool:
        return any(self._least == 1 or self._counts[item] >= self._least for item in values)

    def _new_in(self, answer: tuple[str, ...] | None) -> list[tuple[str, str]]:
        if answer is None or len(answer) != len(self._fields):
            return []
        return [
            (name, value)
            for (name, known), value in zip(self._fields, answer, strict=True)
            if known is not None and value not in known
        ]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What serves a task now: the certificate, and the new answers since."""

    certificate: Certificate
    new: NewAnswers


def new_since(record: TaskRecord, known: Iterable[Example]) -> NewAnswers:
    """The new answers of a task since its specialist was taught; none while nothing serves."""
    since_s = Pace.from_json(record.pace or {}).taught_until_s
    return untaught(record.shape, known if record.mode == "serve" and since_s is not None else (), since_s or 0.0)


def untaught(shape: AnswerShape, known: Iterable[Example], taught_until_s: float) -> NewAnswers:
    """The new answers among the known rows later than those that taught, the calibration rows among them."""
    new = NewAnswers(shape)
    for row in known:
        if row.time_s > taught_until_s:
            new.see(row.answer)
    return new


def answerable(shape: AnswerShape, classes: Sequence[Sequence[str]]) -> AnswerShape:
    """The shape with only the values that a specialist was taught: others may have come up in calibration alone."""
    fields = tuple(
        dataclasses.replace(field, values=tuple(value for value in field.values if value in set(known)))
        for field, known in zip(shape.fields, classes, strict=True)
    )
    return dataclasses.replace(shape, fields=fields)
