"""Distils a task whose answers stand in the input into a specialist folder: tagged words, closed fields beside.

As `distil.py` does for closed answers, with the same folds, the same promise of equal folders for equal input, and one
score for the whole answer. Which words are to be tagged follows from the reference's answers alone: a value
is sought in its input, and a text where one does not stand teaches nothing.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotfish.core.errors import MissingExtraError, SpecialistError, UserError
from pilotfish.core.example import Example
from pilotfish.core.grounding import Words, places
from pilotfish.core.task import Field, Task
from pilotfish.specialists.encoder import Encoder, WordReader
from pilotfish.specialists.extractor import features_of, values_of, words_of
from pilotfish.specialists.specialist import Floats
from pilotfish.specialists.tagging import N_COLUMNS, Tagger, rows_of
from pilotfish.students import distil, fit
from pilotfish.students.fit_tags import Tagged, fit_tags
from pilotfish.students.lesson import MAX_EXAMPLES, MIN_TEXTS, Lesson, lesson

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("learn", error.name or "numpy") from error

MAX_WORDS = 300_000
"""Of the latest examples: their states take 230 MB; 20,000 short requests, or 2,000 long ones."""

MIN_TEXTS_A_COLUMN = 2
"""A feature seen in fewer texts is left out, as of the n-grams."""

MAX_ASKED_WORDS = 50_000
"""Of passages with questions, which tags do not understand: how little they find shows in few (see `reading.py`)."""

_EVERY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What is read of the distinct texts: their embeddings and words, and what a tagger learns from."""

    embeddings: NDArray[np.float32]
    words: list[Words]
    tagged: Tagged
    is_taught: NDArray[np.bool_]


def distil_extraction(
    examples: Sequence[Example], task: Task, encoder: Encoder, home: Path, *, progress: distil.Progress | None = None
) -> distil.Fitted:
    """Learns a specialist for an extraction and writes it as a folder of `home`, named after its identity.

    As `distil.distil`. Raises `UserError` where fewer than `MIN_TEXTS` texts have an answer that stands in them, or the
    encoder reads no words.
    """
    started = time.monotonic()
    taught = lesson(_latest(examples, MAX_ASKED_WORDS if task.shape.question else MAX_WORDS), task)
    try:
        reader = encoder.words()
    except SpecialistError as error:
        # An encoder built by an earlier version: a reason to learn nothing, not to stop learning other tasks.
        raise UserError(error.message, hint=error.hint) from error
    read = _read(taught, reader, progress)
    taught = taught.only(read.is_taught)
    projection = fit.project(read.embeddings, min(distil.NEIGHBOUR_DIMENSION, reader.dimension))
    near = distil.projected(read.embeddings, projection)
    inputs = distil.inputs_of(taught)
    neighbours = fit.find_neighbours(near, inputs.folds, inputs.is_taught)
    closed = distil.closed_fields(taught, read.embeddings, encoder, inputs, neighbours, None)
    predicted, certainty = _out_of_fold(taught, closed, read, inputs, progress)
    tagger = fit_tags(read.tagged, np.flatnonzero(read.is_taught))
    if progress:
        progress("fit", inputs.n_folds + 1, inputs.n_folds + 1)
    made = distil.Made(
        students=("conditional random field", *(("logistic regression", distil.WORDS) if closed else ())),
        heads={number: each.head for number, each in closed.items()},
        out_of_fold=distil.by_example(taught, predicted, certainty, neighbours.similarities.max(axis=1)),
        tensors=distil.tensors_of(projection, near, taught) | _tag_tensors(tagger),
        encoder_sha256=reader.sha256,
        libraries=("onnxruntime",),
    )
    return distil.write(home, taught, made, started)


def _latest(examples: Sequence[Example], most: int) -> Sequence[Example]:
    """The latest examples with at most `most` words; always one."""
    latest = examples[-MAX_EXAMPLES:]
    lengths = np.array([len(words_of(example.text)) for example in latest])
    n_kept = int((np.cumsum(lengths[::-1]) <= most).sum())
    return latest[-max(1, n_kept) :]


def _read(taught: Lesson, reader: WordReader, progress: distil.Progress | None) -> _Read:
    fields = [(number, item) for number, item in enumerate(taught.task.shape.fields) if item.is_extracted]
    words = [words_of(text) for text in taught.texts]
    starts = np.cumsum([0, *map(len, words)])
    embeddings = np.empty((len(words), reader.dimension), np.float32)
    states = np.empty((starts[-1], reader.dimension), np.float16)
    for number, own in enumerate(words):
        embeddings[number], states[starts[number] : starts[number + 1]] = reader.read(taught.texts[number], own.places)
        if progress and (number + 1 == len(words) or number % _EVERY == 0):
            progress("encode", number + 1, len(words))
    tags = [
        None if answer is None else tags_of([(item, answer[field]) for field, item in fields], own)
        for own, answer in zip(words, taught.answers, strict=True)
    ]
    is_taught = np.array([found is not None for found in tags])
    if is_taught.sum() < MIN_TEXTS:
        n_taught, name = is_taught.sum(), taught.task.name
        raise UserError(
            f"{name} has {n_taught} different texts in which their answer stands; {MIN_TEXTS} are needed.",
            hint="Record more of its traffic.",
        )
    found = [features_of(own) for own in words]
    columns = _frequent([one for one, has_tags in zip(found, is_taught, strict=True) if has_tags])
    tagged = Tagged(
        starts=starts,
        columns=columns,
        rows=rows_of(np.concatenate(found), columns),
        states=states,
        tags=np.concatenate([np.zeros(len(w), int) if t is None else t for w, t in zip(words, tags, strict=True)]),
        n_fields=len(fields),
    )
    return _Read(embeddings=embeddings, words=words, tagged=tagged, is_taught=is_taught)


def tags_of(answered: Sequence[tuple[Field, str]], words: Words) -> NDArray[np.int64] | None:
    """The tags of the words of a text that has these canonical values; None where one does not stand in it.

    A value that stands there several times is tagged at its first place that no other has taken.
    """
    tags = np.zeros(len(words), np.int64)
    for number, (item, value) in enumerate(answered):
        for one in values_in(item, value):
            free = (at for at in places(item.source, one, words) if not tags[at[0] : at[1]].any())
            at = next(free, None)
            if at is None:
                return None
            tags[at[0] : at[1]] = 2 + 2 * number
            tags[at[0]] = 1 + 2 * number
    return tags


def values_in(item: Field, value: str) -> list[str]:
    """The canonical values of a field one by one: those of a list, none where there is nothing."""
    if value == item.empty:
        return []
    return [json.dumps(one, ensure_ascii=False) for one in json.loads(value)] if item.is_list else [value]


def _frequent(features: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    n_texts = np.zeros(N_COLUMNS, np.int32)
    for found in features:
        n_texts[np.unique(found)] += 1
    return np.flatnonzero(n_texts >= MIN_TEXTS_A_COLUMN).astype(np.int32)


def _out_of_fold(
    taught: Lesson,
    closed: dict[int, fit.FittedField],
    read: _Read,
    inputs: fit.Inputs,
    progress: distil.Progress | None,
) -> tuple[list[tuple[str, ...]], Floats]:
    """What students say of each text that did not learn from it, and the probability of the whole answer."""
    fields = taught.task.shape.fields
    extracted = [item for item in fields if item.is_extracted]
    found: list[tuple[str, ...]] = [()] * len(read.words)
    certainty = np.ones(len(read.words))
    for fold in range(inputs.n_folds):
        if progress:
            progress("fit", fold, inputs.n_folds + 1)
        tagger = fit_tags(read.tagged, np.flatnonzero(read.is_taught & (inputs.folds != fold)))
        for text in np.flatnonzero(inputs.folds == fold):
            at = slice(read.tagged.starts[text], read.tagged.starts[text + 1])
            tags, probability = tagger.tag(read.tagged.rows[at], read.tagged.states[at].astype(np.float32))
            values, is_readable = values_of(extracted, read.words[text], tags)
            taken = iter(values)
            answer = []
            for number, item in enumerate(fields):
                if item.is_extracted:
                    answer.append(next(taken))
                    continue
                shares = closed[number].out_of_fold[text]
                answer.append(taught.classes[number][int(shares.argmax())])
                probability *= float(shares.max())
            found[text], certainty[text] = tuple(answer), probability * is_readable
    return found, certainty


def _tag_tensors(tagger: Tagger) -> dict[str, NDArray[np.generic]]:
    kept = np.flatnonzero(tagger.sparse[:-1].any(axis=1))
    rows = np.append(kept, len(tagger.columns))  # with that of columns which are not known
    small = dataclasses.replace(
        tagger, columns=tagger.columns[kept], sparse=tagger.sparse[rows], scales=tagger.scales[rows]
    )
    return {f"tag.{name}": getattr(small, name) for name in Tagger.__dataclass_fields__}
