"""Distils a task that asks questions of passages: an encoder of its own, fine-tuned to point at words.

A frozen encoder does not do: the question must be read together with the passage, by layers that learnt to. The work is
that of `tuned.py`, whose recipe, folder and rules of interruption it shares, but for the scores out of fold: two halves
would cost twice as much, so the latest texts are held out, from all that teaches, and what the very graph that will
serve says of them are the scores. The same texts say when to stop, which is a choice among few epochs.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pilotfish.core.errors import SpecialistError
from pilotfish.core.example import Example
from pilotfish.core.grounding import places
from pilotfish.core.task import Task
from pilotfish.specialists.encoder import Encoder
from pilotfish.specialists.reader import MAX_TOKENS, Reading, Window, answer, read, run
from pilotfish.students import distil, encoder_cache, encoder_graph, finetune_spans, fit
from pilotfish.students.activations import compute
from pilotfish.students.lesson import Lesson, lesson
from pilotfish.students.out_of_fold import OutOfFold
from pilotfish.students.recipe import MIN_EPOCHS, Tuning
from pilotfish.students.tuned import MAX_DISTANCE, MIN_TEXTS, IsWorth, cut, which, working_folder

MAX_EXAMPLES = 10_000
"""The latest teach; what the lower layers say of each takes 130 KB on disk while it is learnt."""

HELD_OUT, MAX_HELD_OUT = 0.15, 500
"""Of the examples, the latest: what decides when to stop, and where the certificate's test begins."""

N_LAYERS = 3
"""That learn, where the recipe does not say."""

BATCH, RATE = 16, 2.5
"""Windows a step, at most, which are ten times as long as short requests; and how much faster than its rate a recipe
learns here. Of 800 questions after two epochs: F1 0.37 on other articles at 2e-4, 0.40 at 5e-4."""

MAX_EXEMPLARS = 500
"""Of the latest texts that teach: what tells how much like its task another text is."""

_EVERY = 64


def distil_reading(
    examples: Sequence[Example],
    task: Task,
    home: Path,
    tuning: Tuning,
    *,
    is_worth: IsWorth,
    progress: distil.Progress | None = None,
) -> distil.Fitted | None:
    """As `tuned.distil_tuned`, of a task with questions; None where that is not worth it, or too few texts teach.

    Its `out_of_fold` speaks of the latest examples alone, the ones held out. Raises `SpecialistError` where the graph
    written does not say what torch says.
    """
    started = time.monotonic()
    recipe = tuning.recipe
    recipe = dataclasses.replace(
        recipe,
        n_epochs=recipe.n_epochs or MIN_EPOCHS,  # more have not been measured here
        batch=min(recipe.batch, BATCH),
        learning_rate=RATE * recipe.learning_rate,
    )
    tuning = dataclasses.replace(tuning, recipe=recipe)
    taught = lesson(examples[-MAX_EXAMPLES:], task)
    book = _Book.of(taught, _plain_encoder(tuning))
    if np.count_nonzero(book.teaches & ~book.is_held_out) < MIN_TEXTS:
        return None
    folder = working_folder(taught, book.encoder.sha256, home, tuning)
    made = _made(taught, book, folder, tuning, progress)
    shutil.rmtree(folder, ignore_errors=True)
    return distil.write(home, taught, made, started) if is_worth(made.out_of_fold) else None


def _plain_encoder(tuning: Tuning) -> Encoder:
    """What splits texts and runs the lower layers: the encoder as it was, but of longer texts."""
    return Encoder.of(encoder_cache.contents(tuning.weights, max_tokens=MAX_TOKENS), tuning.weights.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Book:
    """The distinct texts as they are read, each with the places of its answer by window, and what becomes of them.

    `teaches` are those whose answer stands in them, or who have none as the reference says; `first[i]` is the number of
    text i's first window among all.
    """

    encoder: Encoder
    readings: list[Reading]
    places: list[list[list[tuple[int, int]]]]
    teaches: NDArray[np.bool_]
    is_held_out: NDArray[np.bool_]
    first: NDArray[np.intp]

    @classmethod
    def of(cls, taught: Lesson, encoder: Encoder) -> _Book:
        place = taught.task.shape.question
        assert place is not None
        readings = [read(text, place, encoder) for text in taught.texts]
        (item,) = taught.task.shape.fields
        found = [_places(*pair, nothing=item.empty) for pair in zip(readings, taught.answers, strict=True)]
        is_held_out = np.zeros(len(readings), bool)
        is_held_out[taught.position[-_n_held_out(len(taught.examples)) :]] = True
        return cls(
            encoder=encoder,
            readings=readings,
            places=[
                by_window or [[] for _ in reading.windows] for by_window, reading in zip(found, readings, strict=True)
            ],
            teaches=np.array([by_window is not None for by_window in found]),
            is_held_out=is_held_out,
            first=np.cumsum([0, *(len(reading.windows) for reading in readings)]),
        )

    @property
    def windows(self) -> list[Window]:
        """All of them, in order."""
        return [window for reading in self.readings for window in reading.windows]

    def rows(self, texts: NDArray[np.bool_]) -> NDArray[np.intp]:
        """The numbers of the windows of these texts."""
        return np.flatnonzero(np.repeat(texts, np.diff(self.first)))


def _n_held_out(n: int) -> int:
    return max(1, min(MAX_HELD_OUT, int(HELD_OUT * n)))


def _places(reading: Reading, given: tuple[str, ...] | None, *, nothing: str) -> list[list[tuple[int, int]]] | None:
    """The first and last token of each place of an answer, by window; None where it stands in none."""
    if given is None:
        return None
    if given == (nothing,):
        return [[] for _ in reading.windows]
    sought = [(first, end - 1) for first, end in places("span", given[0], reading.words)]
    by_window = []
    for window in reading.windows:
        token = {int(word): (int(first), int(last)) for word, first, last in window.words}
        whole = [(token[first][0], token[last][1]) for first, last in sought if first in token and last in token]
        by_window.append(whole)
    return by_window if any(by_window) else None


def _made(taught: Lesson, book: _Book, folder: Path, tuning: Tuning, progress: distil.Progress | None) -> distil.Made:
    layers, lower = cut(tuning, N_LAYERS)
    windows = book.windows
    tokens = [window.tokens for window in windows]
    drill = finetune_spans.SpanDrill(
        activations=compute(tokens, book.encoder, lower, folder / "activations.npy", progress),
        rows=book.rows(book.teaches & ~book.is_held_out),
        held_out=book.rows(book.teaches & book.is_held_out),
        windows=windows,
        places=[at for by_window in book.places for at in by_window],
    )
    if tuning.announce is not None:
        cost_s = tuning.recipe.epochs(len(drill.rows)) * finetune_spans.cpu_seconds(drill, layers, tuning.recipe)
        tuning.announce(
            f"Fine-tuning an encoder to read for {taught.task.name}: {len(drill.rows):,} windows, {which(layers)}, "
            f"at most {math.ceil(cost_s):,} CPU-seconds on this machine."
        )

    def step(done: int, total: int, loss: float) -> None:
        if progress is not None:
            progress(f"fine-tune: loss {loss:.3f}", done, total)

    pointing, exact = finetune_spans.point(
        drill, layers, tuning.recipe, checkpoint=folder / "reading.safetensors", step=step
    )
    weights = tuning.weights
    graph = encoder_graph.write_graph(weights.folder, replaced=pointing.weights, spans=pointing.head)
    files = encoder_cache.contents(weights, graph=graph, name=f"{weights.name}, fine-tuned", max_tokens=MAX_TOKENS)
    own = Encoder.of(files, taught.task.name)
    distance = _distance([windows[row] for row in drill.held_out], exact, own, taught.task.name)
    exemplars = _read_all(
        book, np.flatnonzero(book.teaches & ~book.is_held_out)[-MAX_EXEMPLARS:], own, taught, progress
    )
    held_out = _read_all(book, np.flatnonzero(book.is_held_out), own, taught, progress)
    projection = fit.project(exemplars.embeddings, min(distil.NEIGHBOUR_DIMENSION, own.dimension))
    near = distil.projected(exemplars.embeddings, projection)
    scope = (distil.projected(held_out.embeddings, projection) @ near.T).max(axis=1)
    return distil.Made(
        students=(f"span head, {which(layers)} fine-tuned",),
        heads={},
        out_of_fold=_scored(taught, book, held_out, scope),
        tensors={"projection": projection, "exemplars": near.astype(np.float16)},
        encoder_sha256=own.sha256,
        scores={"int8_cosine_distance": round(distance, 6), "epochs": float(pointing.n_epochs)},
        libraries=("onnxruntime", "torch"),
        files=files,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What the graph that will serve says of some texts."""

    answers: list[tuple[str, ...]]
    certainty: NDArray[np.float64]
    embeddings: NDArray[np.float32]


def _read_all(
    book: _Book, texts: NDArray[np.intp], own: Encoder, taught: Lesson, progress: distil.Progress | None
) -> _Said:
    answers: list[tuple[str, ...]] = []
    certainty = np.empty(len(texts))
    embeddings = np.empty((len(texts), own.dimension), np.float32)
    for number, text in enumerate(texts):
        scores, embeddings[number] = run(book.readings[text], own)
        value, certainty[number] = answer(book.readings[text], scores, taught.task.shape)
        answers.append((value,))
        if progress is not None and (number % _EVERY == 0 or number + 1 == len(texts)):
            progress("read", number + 1, len(texts))
    return _Said(answers=answers, certainty=certainty, embeddings=embeddings)


def _scored(taught: Lesson, book: _Book, said: _Said, scope: NDArray[np.float32]) -> OutOfFold:
    """What is said of the examples held out, which are the latest."""
    number = {int(text): row for row, text in enumerate(np.flatnonzero(book.is_held_out))}
    n = _n_held_out(len(taught.examples))
    rows = [number[int(text)] for text in taught.position[-n:]]
    answers = tuple(said.answers[row] for row in rows)
    differs = [one.answer != found for one, found in zip(taught.examples[-n:], answers, strict=True)]
    return OutOfFold(
        certainty=said.certainty[rows],
        scope=scope[rows].astype(np.float64),
        disagreement=np.array(differs, np.float64),
        answers=answers,
    )


def _distance(windows: Sequence[Window], exact: Sequence[NDArray[np.float32]], own: Encoder, name: str) -> float:
    """The cosine distance between what the int8 graph and torch say of some windows' words, all together."""
    pairs = [
        (
            own.outputs(window.tokens, marks=window.marks)[1][window.words[:, 1 + side], side],
            both[window.words[:, 1 + side], side],
        )
        for window, both in zip(windows, exact, strict=True)
        for side in range(2)
    ]
    served, right = (np.concatenate(part).astype(np.float64) for part in zip(*pairs, strict=True))
    served, right = served - served.mean(), right - right.mean()
    distance = float(1 - served @ right / np.sqrt((served @ served) * (right @ right)))
    if distance > MAX_DISTANCE:
        raise SpecialistError(
            f"The fine-tuned encoder of {name} was written wrongly: what its int8 graph and torch say parts by "
            f"a cosine distance of {distance:.3f}, at most {MAX_DISTANCE} is usual.",
            hint='Learn without fine-tuning: [learning] finetune = "never".',
        )
    return distance
