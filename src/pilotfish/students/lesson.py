"""What a task's examples teach: distinct texts with the usual answer of each, their folds, their classes and n-grams.

Every student of a task learns from the same lesson (`distil.py`, `tuned.py`), so that what they say out of fold can be
compared row by row. It judges no answer and fits nothing.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pilotfish.core.errors import MissingExtraError, UserError
from pilotfish.core.example import Example
from pilotfish.core.ids import sha256
from pilotfish.core.task import NO_PAST_ANSWER, Field, Task
from pilotfish.specialists.ngrams import MIN_TEXTS_A_COLUMN, N_COLUMNS, Counts, Vocabulary, count, known_share

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("learn", error.name or "numpy") from error

N_FOLDS = 4
MIN_TEXTS = 8
"""Two a fold; fewer teach nothing that could be checked."""

MAX_EXAMPLES = 20_000
"""The latest ones teach: bounds learning to some 80 CPU-s, and a prediction's neighbour search to 0.2 ms."""

_DIGITS = re.compile(r"\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The latest `examples` and their distinct `texts`: each text with the number of its first example, its group
    (texts that differ only in digits, such as order numbers), its answer (None where none fits the task) and its fold.

    `position[i]` is example i's text; `classes` are the values taught, per field (none where it is extracted), and
    `labels` the number of each text's value among them (0 where nothing is taught).
    """

    task: Task
    examples: Sequence[Example]
    texts: list[str]
    first: list[int]
    answers: list[tuple[str, ...] | None]
    position: NDArray[np.intp]
    folds: NDArray[np.intp]
    classes: tuple[tuple[str, ...], ...]
    labels: tuple[NDArray[np.int16], ...]
    counts: Counts
    vocabulary: Vocabulary

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The classes of each field as one would say them: `"cardLost"` as card lost."""
        return tuple(tuple(map(_said, values)) for values in self.classes)

    @property
    def is_taught(self) -> NDArray[np.bool_]:
        """Which texts have an answer that may be learnt."""
        return np.array([answer is not None for answer in self.answers])

    def only(self, is_kept: NDArray[np.bool_]) -> Lesson:
        """The same lesson with the answers of these texts alone."""
        answers = [answer if kept else None for answer, kept in zip(self.answers, is_kept, strict=True)]
        classes, labels = _classes(self.task.shape.fields, answers)
        return replace(self, answers=answers, classes=classes, labels=labels)

    @property
    def data_sha256(self) -> str:
        """The hash of the examples."""
        lines = [json.dumps([example.text, example.answer]) for example in self.examples]
        return sha256("\n".join(lines).encode())

    def familiarity(self) -> NDArray[np.float64]:
        """The share of each text's n-grams that a vocabulary of the other folds would know."""
        counts = self.counts
        fold = np.repeat(self.folds, np.diff(counts.starts))
        is_known = np.empty(len(fold), bool)
        for number in range(self.folds.max() + 1):
            others = np.bincount(counts.columns[fold != number], minlength=N_COLUMNS)
            is_known[fold == number] = others[counts.columns[fold == number]] >= MIN_TEXTS_A_COLUMN
        return known_share(counts, is_known)


def lesson(examples: Sequence[Example], task: Task) -> Lesson:
    """What the latest `MAX_EXAMPLES` of the examples teach.

    Repeated texts teach once, with the answer most often given (the latest among equals). Raises `UserError` where the
    answers are not closed or fewer than `MIN_TEXTS` texts teach.
    """
    if not task.shape.is_closed:
        raise UserError(f"The answers of {task.name} cannot be learnt: {task.shape.why_open}.")
    examples = examples[-MAX_EXAMPLES:]
    position: list[int] = []
    known: dict[str, int] = {}
    answers: list[Counter[tuple[str, ...]]] = []
    first: list[int] = []
    for index, example in enumerate(examples):
        # The students fold case and spaces too, so such texts are one to them.
        key = " ".join(example.text.split()).casefold()
        if key not in known:
            known[key] = len(first)
            first.append(index)
            answers.append(Counter())
        position.append(known[key])
        answer = _taught(task, example.answer)
        if answer is not None:
            given = answers[known[key]]
            given[answer] = given.pop(answer, 0) + 1
    groups = [_DIGITS.sub("0", key) for key in known]
    n_taught = len({group for group, given in zip(groups, answers, strict=True) if given})
    if n_taught < MIN_TEXTS:
        raise UserError(
            f"{task.name} has {n_taught} different texts with an answer to learn from; {MIN_TEXTS} are needed.",
            hint="Record more of its traffic.",
        )
    usual = [_usual(given) for given in answers]
    texts = [examples[index].text for index in first]
    classes, labels = _classes(task.shape.fields, usual)
    counts = count(texts)
    return Lesson(
        task=task,
        examples=examples,
        texts=texts,
        first=first,
        answers=usual,
        position=np.array(position),
        folds=_folds(groups, usual),
        classes=classes,
        labels=labels,
        counts=counts,
        vocabulary=Vocabulary.learn(counts),
    )


def _taught(task: Task, answer: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """What an answer teaches; None where that is nothing."""
    if answer is None or all(map(Field.allows, task.shape.fields, answer)):
        return answer
    return (NO_PAST_ANSWER,) if task.shape.is_retrieved else None


def _said(value: str) -> str:
    words = _HUMP.sub(" ", value).replace("_", " ").replace("-", " ").strip('"')
    return " ".join(words.split())


def _usual(given: Counter[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The answer most often given; among equals the one given last, which stands last."""
    return max(reversed(given), key=given.__getitem__) if given else None


def _classes(
    fields: Sequence[Field], answers: list[tuple[str, ...] | None]
) -> tuple[tuple[tuple[str, ...], ...], tuple[NDArray[np.int16], ...]]:
    taught = [answer for answer in answers if answer is not None]
    classes, labels = [], []
    for index, item in enumerate(fields):
        values = () if item.is_extracted else tuple(sorted({answer[index] for answer in taught}))
        number = {value: position for position, value in enumerate(values)}
        own = [0 if answer is None or not values else number[answer[index]] for answer in answers]
        classes.append(values)
        labels.append(np.array(own, np.int16))
    return tuple(classes), tuple(labels)


def _folds(groups: list[str], answers: list[tuple[str, ...] | None]) -> NDArray[np.intp]:
    """The fold of each text: groups stay whole, and each answer's are spread evenly."""
    answer_of: dict[str, tuple[str, ...] | None] = {}
    for group, answer in zip(groups, answers, strict=True):
        answer_of[group] = answer_of.get(group) or answer
    order = list(answer_of)
    random.Random(0).shuffle(order)
    order.sort(key=lambda group: (answer_of[group] is None, answer_of[group] or ()))
    fold = {group: index % N_FOLDS for index, group in enumerate(order)}
    return np.array([fold[group] for group in groups])
