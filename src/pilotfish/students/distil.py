"""Distils a task's examples into a specialist folder.

The verb of this folder: the students of a lesson are fitted, scored out of fold and written. The arithmetic is
`fit.py`'s, the run-time half `specialists/`; an encoder of its own is `tuned.py`'s. It judges nothing: whether the
specialist may serve is for `guarantees/`, which gets the out-of-fold scores from here, for the start of its test only.
Seeds are fixed and no date is written, so equal input gives an equal folder on one machine.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.core.errors import MissingExtraError, SpecialistError
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.scoring.answers import disagreements
from pilotfish.specialists.card import Card, read_folder, write_folder
from pilotfish.specialists.specialist import TENSORS, Floats, Head, servable
from pilotfish.students import fit
from pilotfish.students.known_questions import known_questions, with_known
from pilotfish.students.lesson import Lesson, lesson
from pilotfish.students.out_of_fold import OutOfFold

try:
    import numpy as np
    from numpy.typing import NDArray
    from safetensors.numpy import save
except ImportError as error:
    raise MissingExtraError("learn", error.name or "numpy") from error

if TYPE_CHECKING:  # without an encoder nothing of what runs one need be installed
    from pilotfish.specialists.encoder import Encoder

NEIGHBOUR_DIMENSION = 96
"""Of the exemplars: 384, 128, 96 and 64 answered alike (banking77, ag_news); scope keeps an AUROC of 0.936 against
0.937 on intents never taught, which 64 does not (0.932). A quarter of the memory to read for each prediction."""

WORDS = "n-gram SVM"

_ENCODE_CHUNK = 256

Progress = Callable[[str, int, int], None]
"""Called with the stage ("encode", "fit"), how much of it is done, and how much there is."""


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
class Made:
    """What was made of a lesson: the students' names and heads, what they say out of fold, and what else is written.

    `heads` are those of the closed fields, by their number.
    `libraries` are the packages whose versions the card names; `files` stand in the folder beside the tensors.
    """

    students: tuple[str, ...]
    heads: Mapping[int, Head]
    out_of_fold: OutOfFold
    tensors: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    encoder_sha256: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def distil(
    examples: Sequence[Example],
    task: Task,
    encoder: Encoder | None,
    home: Path,
    *,
    embeddings: NDArray[np.float32] | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Learns a specialist for `task` and writes it as a folder of `home`, named after its identity.

    Repeated texts teach once, with the answer most often given (the latest among equals). An answer that the task's
    shape does not list teaches nothing (of retrieved answers: that there is none to give again) but counts as a
    disagreement in `out_of_fold`. `embeddings` are those of the
    examples, where known. Without an `encoder` the n-gram student learns alone. Raises `UserError` where the answers
    are not closed or fewer than `lesson.MIN_TEXTS` texts teach.
    """
    started = time.monotonic()
    taught = lesson(examples, task)
    if encoder is None:
        made = _words_alone(taught, progress)
    else:
        if embeddings is None:
            vectors = encode(taught.texts, encoder, progress)
        else:
            vectors = embeddings[-len(taught.examples) :][taught.first]
        made = _mixture(taught, vectors, encoder, progress)
    if task.shape.is_retrieved:
        made = _with_known_questions(taught, made)
    return write(home, taught, made, started)


def _with_known_questions(taught: Lesson, made: Made) -> Made:
    """The same, with the questions that are answered word for word."""
    examples, position, (listed,) = taught.examples, taught.position, taught.classes
    return replace(
        made,
        tensors={**made.tensors, **known_questions(examples, position, taught.texts, listed)},
        out_of_fold=with_known(made.out_of_fold, examples, position, listed),
    )


def inputs_of(taught: Lesson) -> fit.Inputs:
    """The lesson as the students' arithmetic wants it, but for embeddings."""
    return fit.Inputs(
        rows=taught.vocabulary.weigh(taught.counts),
        n_columns=len(taught.vocabulary.columns),
        folds=taught.folds,
        is_taught=taught.is_taught,
    )


def tensors_of(
    projection: NDArray[np.float32], projected: NDArray[np.float32], taught: Lesson
) -> dict[str, NDArray[np.generic]]:
    """What the neighbours' vote needs in the folder."""
    return {"projection": projection, "exemplars": projected[taught.is_taught].astype(np.float16)}


def projected(vectors: NDArray[np.float32], projection: NDArray[np.float32]) -> NDArray[np.float32]:
    """The embeddings in the neighbours' space, of length 1."""
    found = vectors @ projection.T
    scaled: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return scaled


def _mixture(taught: Lesson, vectors: NDArray[np.float32], encoder: Encoder, progress: Progress | None) -> Made:
    projection = fit.project(vectors, min(NEIGHBOUR_DIMENSION, encoder.dimension))
    near = projected(vectors, projection)
    inputs = inputs_of(taught)
    neighbours = fit.find_neighbours(near, inputs.folds, inputs.is_taught)
    fitted = closed_fields(taught, vectors, encoder, inputs, neighbours, progress)
    return Made(
        students=("logistic regression", WORDS, "nearest neighbours"),
        heads={number: each.head for number, each in fitted.items()},
        out_of_fold=both_tiers(taught, list(fitted.values()), neighbours),
        tensors=tensors_of(projection, near, taught),
        encoder_sha256=encoder.sha256,
        libraries=("onnxruntime",),
    )


def closed_fields(
    taught: Lesson,
    vectors: NDArray[np.float32],
    encoder: Encoder,
    inputs: fit.Inputs,
    neighbours: fit.Neighbours,
    progress: Progress | None,
) -> dict[int, fit.FittedField]:
    """The students of each field that has classes, by its number, over frozen embeddings."""
    found = {}
    for number, (labels, values, names) in enumerate(zip(taught.labels, taught.classes, taught.names, strict=True)):
        if not values:
            continue
        dense = fit.fit_dense(vectors, inputs, labels, encoder.encode(names))
        fitted = fit.fit_field(inputs, neighbours, dense.scores, labels, len(values))
        found[number] = replace(fitted, head=replace(fitted.head, dense=dense.weight, dense_bias=dense.bias))
        if progress:
            progress("fit", number + 1, len(taught.classes))
    return found


def _words_alone(taught: Lesson, progress: Progress | None) -> Made:
    inputs = inputs_of(taught)
    heads, probabilities = {}, []
    for number, (labels, values) in enumerate(zip(taught.labels, taught.classes, strict=True)):
        heads[number], alone = fit.fit_words(inputs, labels, len(values))
        probabilities.append(alone)
        if progress:
            progress("fit", number + 1, len(taught.classes))
    scored = score(taught, probabilities, taught.familiarity())
    return Made(students=(WORDS,), heads=heads, out_of_fold=scored)


def both_tiers(taught: Lesson, fields: Sequence[fit.FittedField], neighbours: fit.Neighbours) -> OutOfFold:
    """What the mixture says out of fold, with what the n-grams alone say of the same examples."""
    mixed, alone = ([getattr(fitted, name) for fitted in fields] for name in ("out_of_fold", "alone_out_of_fold"))
    first = score(taught, alone, taught.familiarity())
    return replace(score(taught, mixed, neighbours.similarities.max(axis=1)), first=first)


def score(taught: Lesson, probabilities: Sequence[Floats], scope: Floats) -> OutOfFold:
    """The scores of the examples from the probabilities of each field and the scope of the distinct texts."""
    best = [shares.argmax(axis=1) for shares in probabilities]
    told = [shares.max(axis=1) for shares in probabilities]
    servings = [servable(values)[numbers] for values, numbers in zip(taught.classes, best, strict=True)]
    certainty = np.prod([*told, *servings], axis=0)
    columns = [[values[number] for number in numbers] for values, numbers in zip(taught.classes, best, strict=True)]
    predicted = list(zip(*columns, strict=True))
    return by_example(taught, predicted, certainty, scope)


def by_example(taught: Lesson, predicted: Sequence[tuple[str, ...]], certainty: Floats, scope: Floats) -> OutOfFold:
    """What is said of the distinct texts, for every example."""
    answers = tuple(predicted[position] for position in taught.position)
    differs = [disagreements(answer, example.answer) for example, answer in zip(taught.examples, answers, strict=True)]
    by_field = np.array(differs, np.float64)
    return OutOfFold(
        certainty=certainty[taught.position],
        scope=scope[taught.position],
        disagreement=by_field.max(axis=1),
        answers=answers,
        by_field=by_field if by_field.shape[1] > 1 else None,
    )


def write(home: Path, taught: Lesson, made: Made, started: float) -> Fitted:
    """The specialist as a folder of `home`; `started` is the monotonic time at which learning began."""
    card = Card(
        task_id=taught.task.id,
        task_name=taught.task.name,
        shape=taught.task.shape,
        classes=taught.classes,
        encoder_sha256=made.encoder_sha256,
        data_sha256=taught.data_sha256,
        n_examples=len(taught.examples),
        students=made.students,
        scores={"out_of_fold_agreement": round(1 - float(made.out_of_fold.disagreement.mean()), 6), **made.scores},
        versions={name: version(name) for name in ("pilotfish", "numpy", "scikit-learn", *made.libraries)},
        files={},
    )
    tensors: dict[str, NDArray[np.generic]] = {
        "columns": taught.vocabulary.columns,
        "column_weights": taught.vocabulary.weights,
        **made.tensors,
    }
    for index, head in made.heads.items():
        parts = {name: getattr(head, name) for name in Head.__dataclass_fields__}
        tensors |= {f"{index}.{name}": part for name, part in parts.items() if part is not None}
        tensors[f"{index}.sparse"] = head.sparse.astype(np.float16)
    folder, identity = _write(home, card, {TENSORS: save(tensors), **made.files})
    return Fitted(
        folder=folder,
        sha256=identity,
        classes=taught.classes,
        out_of_fold=made.out_of_fold,
        seconds=time.monotonic() - started,
    )


def encode(texts: list[str], encoder: Encoder, progress: Progress | None) -> NDArray[np.float32]:
    """The embeddings of the texts."""
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    for start in range(0, len(texts), _ENCODE_CHUNK):
        chunk = texts[start : start + _ENCODE_CHUNK]
        vectors[start : start + len(chunk)] = encoder.encode(chunk)
        if progress:
            progress("encode", start + len(chunk), len(texts))
    return vectors


def _write(home: Path, card: Card, contents: dict[str, bytes]) -> tuple[Path, str]:
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".distilling-") as temporary:
        written = Path(temporary) / "specialist"
        written.mkdir()
        identity = write_folder(written, card, contents)
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
