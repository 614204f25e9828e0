"""Distils a task's examples into a specialist folder.

The verb of this folder: which examples teach, how they are split into folds, what is written. The
arithmetic is `fit.py`'s, the run-time half `specialists/`. It judges nothing: whether the specialist may
serve is for `guarantees/`, which gets the out-of-fold scores from here, for the start of its test only.
Seeds are fixed and no date is written, so equal input gives an equal folder on one machine.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pilotfish.core.errors import MissingExtraError, SpecialistError, UserError
from pilotfish.core.example import Example
from pilotfish.core.ids import sha256
from pilotfish.core.task import Task
from pilotfish.specialists.card import Card, read_folder, write_folder
from pilotfish.specialists.encoder import Encoder
from pilotfish.specialists.ngrams import MIN_TEXTS_A_COLUMN, N_COLUMNS, Counts, Vocabulary, count, known_share
from pilotfish.specialists.specialist import TENSORS, Floats, Head
from pilotfish.students import fit

try:
    import numpy as np
    from numpy.typing import NDArray
    from safetensors.numpy import save
except ImportError as error:
    raise MissingExtraError("learn", error.name or "numpy") from error

N_FOLDS = 4
MIN_TEXTS = 8
"""Two a fold; fewer teach nothing that could be checked."""

MAX_EXAMPLES = 20_000
"""The latest ones teach: bounds learning to some 80 CPU-s, and a prediction's neighbour search to 0.2 ms."""

NEIGHBOUR_DIMENSION = 96
"""Of the exemplars: 384, 128, 96 and 64 answered alike (banking77, ag_news); scope keeps an AUROC of 0.936 against
0.937 on intents never taught, which 64 does not (0.932). A quarter of the memory to read for each prediction."""

_ENCODE_CHUNK = 256
_DIGITS = re.compile(r"\d+")

Progress = Callable[[str, int, int], None]
"""Called with the stage ("encode", "fit"), how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfFold:
    """Scores of the examples by students that did not learn from them, for the start of a certificate's test.

    One entry per example, repeated texts included, in the order given (the latest `MAX_EXAMPLES`). They are no
    evidence for a certificate: the specialist that serves has learnt from these examples. `first` are the same
    examples by the first tier, the n-grams alone.
    """

    certainty: Floats
    scope: Floats
    disagreement: Floats
    first: OutOfFold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A written specialist: its folder, named after its identity `sha256`, the values that it answers, per field, and
    what learning told."""

    folder: Path
    sha256: str
    classes: tuple[tuple[str, ...], ...]
    out_of_fold: OutOfFold
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Texts:
    """The distinct texts, each with the number of its first example, its group (texts that differ only in digits,
    such as order numbers) and its answer, None where none fits the task. `position[i]` is example i's text."""

    texts: list[str]
    first: list[int]
    groups: list[str]
    position: NDArray[np.intp]
    answers: list[tuple[str, ...] | None]


def distil(
    examples: Sequence[Example],
    task: Task,
    encoder: Encoder,
    home: Path,
    *,
    embeddings: NDArray[np.float32] | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Learns a specialist for `task` and writes it as a folder of `home`, named after its identity.

    Repeated texts teach once, with the answer most often given (the latest among equals). An answer that the task's
    shape does not list teaches nothing but counts as a disagreement in `out_of_fold`. `embeddings` are those of the
    examples, where known. Raises `UserError` where the answers are not closed or fewer than `MIN_TEXTS` texts teach.
    """
    started = time.monotonic()
    examples = examples[-MAX_EXAMPLES:]
    distinct = _distinct(examples, task)
    if embeddings is None:
        vectors = _encode(distinct.texts, encoder, progress)
    else:
        vectors = embeddings[-len(examples) :][distinct.first]
    counts = count(distinct.texts)
    vocabulary = Vocabulary.learn(counts)
    projection = fit.project(vectors, min(NEIGHBOUR_DIMENSION, encoder.dimension))
    projected = vectors @ projection.T
    inputs = fit.Inputs(
        embeddings=vectors,
        projected=projected / np.linalg.norm(projected, axis=1, keepdims=True),
        rows=vocabulary.weigh(counts),
        n_columns=len(vocabulary.columns),
        folds=_folds(distinct),
        is_taught=np.array([answer is not None for answer in distinct.answers]),
    )
    neighbours = fit.find_neighbours(inputs)
    classes, fields = _fit_fields(distinct, inputs, neighbours, progress)
    mixed, alone = ([getattr(field, name) for field in fields] for name in ("out_of_fold", "alone_out_of_fold"))
    out_of_fold = dataclasses.replace(
        _score(examples, distinct, classes, mixed, neighbours.similarities.max(axis=1)),
        first=_score(examples, distinct, classes, alone, _familiarity(counts, inputs.folds)),
    )
    card = Card(
        task_id=task.id,
        task_name=task.name,
        shape=task.shape,
        classes=classes,
        encoder_sha256=encoder.sha256,
        data_sha256=_data_sha256(examples),
        n_examples=len(examples),
        students=("logistic regression", "n-gram SVM", "nearest neighbours"),
        scores={"out_of_fold_agreement": round(1 - float(out_of_fold.disagreement.mean()), 6)},
        versions={name: version(name) for name in ("pilotfish", "numpy", "onnxruntime", "scikit-learn")},
        files={},
    )
    folder, identity = _write(home, card, _tensors(vocabulary, projection, inputs, fields))
    return Fitted(
        folder=folder, sha256=identity, classes=classes, out_of_fold=out_of_fold, seconds=time.monotonic() - started
    )


def _distinct(examples: Sequence[Example], task: Task) -> _Texts:
    if not task.shape.is_closed:
        raise UserError(f"The answers of {task.name} cannot be learnt: {task.shape.why_open}.")
    listed = [set(field.values) for field in task.shape.fields]
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
        answer = example.answer
        if answer is not None and all(value in values for value, values in zip(answer, listed, strict=True)):
            given = answers[known[key]]
            given[answer] = given.pop(answer, 0) + 1
    groups = [_DIGITS.sub("0", key) for key in known]
    n_taught = len({group for group, given in zip(groups, answers, strict=True) if given})
    if n_taught < MIN_TEXTS:
        raise UserError(
            f"{task.name} has {n_taught} different texts with an answer to learn from; {MIN_TEXTS} are needed.",
            hint="Record more of its traffic.",
        )
    return _Texts(
        texts=[examples[index].text for index in first],
        first=first,
        groups=groups,
        position=np.array(position),
        answers=[_usual(given) for given in answers],
    )


def _usual(given: Counter[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The answer most often given; among equals the one given last, which stands last."""
    return max(reversed(given), key=given.__getitem__) if given else None


def _encode(texts: list[str], encoder: Encoder, progress: Progress | None) -> NDArray[np.float32]:
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    for start in range(0, len(texts), _ENCODE_CHUNK):
        chunk = texts[start : start + _ENCODE_CHUNK]
        vectors[start : start + len(chunk)] = encoder.encode(chunk)
        if progress:
            progress("encode", start + len(chunk), len(texts))
    return vectors


def _folds(distinct: _Texts) -> NDArray[np.intp]:
    """The fold of each text: groups stay whole, and each answer's are spread evenly."""
    answer_of: dict[str, tuple[str, ...] | None] = {}
    for group, answer in zip(distinct.groups, distinct.answers, strict=True):
        answer_of[group] = answer_of.get(group) or answer
    order = list(answer_of)
    random.Random(0).shuffle(order)
    order.sort(key=lambda group: (answer_of[group] is None, answer_of[group] or ()))
    fold = {group: index % N_FOLDS for index, group in enumerate(order)}
    return np.array([fold[group] for group in distinct.groups])


def _fit_fields(
    distinct: _Texts, inputs: fit.Inputs, neighbours: fit.Neighbours, progress: Progress | None
) -> tuple[tuple[tuple[str, ...], ...], list[fit.FittedField]]:
    taught = [answer for answer in distinct.answers if answer is not None]
    classes, fields = [], []
    for index in range(len(taught[0])):
        values = tuple(sorted({answer[index] for answer in taught}))
        number = {value: position for position, value in enumerate(values)}
        labels = [0 if answer is None else number[answer[index]] for answer in distinct.answers]
        fields.append(fit.fit_field(inputs, neighbours, np.array(labels, np.int16), len(values)))
        classes.append(values)
        if progress:
            progress("fit", index + 1, len(taught[0]))
    return tuple(classes), fields


def _score(
    examples: Sequence[Example],
    distinct: _Texts,
    classes: tuple[tuple[str, ...], ...],
    probabilities: list[Floats],
    scope: Floats,
) -> OutOfFold:
    """The scores of the examples from the probabilities of each field and the scope of the distinct texts."""
    best = [shares.argmax(axis=1) for shares in probabilities]
    certainty = np.prod([shares.max(axis=1) for shares in probabilities], axis=0)
    columns = [[values[number] for number in numbers] for values, numbers in zip(classes, best, strict=True)]
    predicted = list(zip(*columns, strict=True))
    differs = [
        example.answer != predicted[position] for example, position in zip(examples, distinct.position, strict=True)
    ]
    return OutOfFold(
        certainty=certainty[distinct.position],
        scope=scope[distinct.position],
        disagreement=np.array(differs, np.float64),
    )


def _familiarity(counts: Counts, folds: NDArray[np.intp]) -> Floats:
    """The share of each text's n-grams that a vocabulary of the other folds would know."""
    fold = np.repeat(folds, np.diff(counts.starts))
    is_known = np.empty(len(fold), bool)
    for number in range(folds.max() + 1):
        others = np.bincount(counts.columns[fold != number], minlength=N_COLUMNS)
        is_known[fold == number] = others[counts.columns[fold == number]] >= MIN_TEXTS_A_COLUMN
    return known_share(counts, is_known)


def _tensors(
    vocabulary: Vocabulary, projection: NDArray[np.float32], inputs: fit.Inputs, fields: list[fit.FittedField]
) -> dict[str, NDArray[np.generic]]:
    """What the folder holds beside its card."""
    tensors: dict[str, NDArray[np.generic]] = {
        "columns": vocabulary.columns,
        "column_weights": vocabulary.weights,
        "projection": projection,
        "exemplars": inputs.projected[inputs.is_taught].astype(np.float16),
    }
    for index, field in enumerate(fields):
        tensors |= {f"{index}.{name}": getattr(field.head, name) for name in Head.__dataclass_fields__}
        tensors[f"{index}.sparse"] = field.head.sparse.astype(np.float16)
    return tensors


def _data_sha256(examples: Sequence[Example]) -> str:
    lines = [json.dumps([example.text, example.answer]) for example in examples]
    return sha256("\n".join(lines).encode())


def _write(home: Path, card: Card, tensors: dict[str, NDArray[np.generic]]) -> tuple[Path, str]:
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".distilling-") as temporary:
        written = Path(temporary) / "specialist"
        written.mkdir()
        identity = write_folder(written, card, {TENSORS: save(tensors)})
        folder = home / identity[:16]
        if not _holds(folder, identity):
            shutil.rmtree(folder, ignore_errors=True)
            written.rename(folder)
    return folder, identity


def _holds(folder: Path, identity: str) -> bool:
    try:
        return read_folder(folder).sha256 == identity
    except SpecialistError:
        return False
