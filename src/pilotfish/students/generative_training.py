"""Trains a small generative model and writes it as a plain folder of transformers.

AdamW with warm-up and a cosine, clipped gradients, the same order of examples for the same seed. It ends early on a
held-out part, keeps the best epoch, and a run that was ended goes on where its last state was, step for step as if it
had not been. Until the model is finished there is only a hidden folder in its place; the loss after training is that of
the written folder, loaded again. A model that training did not make better on the held-out part is not written.
"""

from __future__ import annotations

import hashlib
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.core.errors import ConfigError, MissingExtraError
from pilotfish.students.generative import Learner, Lessons, Pair, Recipe, Shown, check_teacher, loss_of, recipe_sha256
from pilotfish.students.training_state import Progress, States

try:
    import torch
except ImportError as error:
    raise MissingExtraError("train", error.name or "torch") from error

HIDDEN = ".training"
WARM_UP = 0.06
DECAY = 0.01
LONGEST_STEP = 1.0
SAVE_EVERY_S = 60.0
_SAVING_SHARE = 0.05

Report = Callable[[str, int, int, str], None]
"""Told after each step: what is done, steps so far and at most, epoch and loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a run. Losses are means over the answer's tokens of the held-out part, in nats.

    `losses` are those before training and after each epoch; `after` is that of the written folder. Where no epoch was
    better than none, `is_written` is false and `after` the best there was.
    """

    folder: Path
    is_written: bool
    losses: tuple[float, ...]
    after: float
    best_epoch: int
    n_steps: int
    n_train: int
    n_held_out: int
    n_long: int
    n_empty: int
    n_parameters: int
    n_trained: int
    size_bytes: int | None
    seconds: float

    @property
    def before(self) -> float:
        """The loss before training."""
        return self.losses[0]


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run under way."""

    student: Learner
    teacher: Learner | None
    lessons: Lessons
    recipe: Recipe
    report: Report
    save_every_s: float
    trained: dict[str, Any] = field(init=False)
    optimizer: Any = field(init=False)

    def __post_init__(self) -> None:
        self.trained = self.student.trained()
        matrices = [value for value in self.trained.values() if value.ndim > 1]
        others = [value for value in self.trained.values() if value.ndim < 2]
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=self.recipe.rate)

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.lessons.train) / (self.recipe.batch * self.recipe.accumulate))


def finetune(
    source: str,
    data: Sequence[Pair] | str,
    to: Path,
    recipe: Recipe,
    *,
    teacher: str = "",
    report: Report = lambda *_: None,
    save_every_s: float = SAVE_EVERY_S,
) -> Trained:
    """Train the model `source` (a folder or hub id) on pairs or a text, and write it to the folder `to`.

    Goes on with what an earlier call with the same arguments left there. Raises `ConfigError` for a model, teacher or
    folder that cannot be used and `DataError` for too little data.
    """
    started_s = time.monotonic()
    hidden = to / HIDDEN
    if to.exists() and (not to.is_dir() or (any(to.iterdir()) and not hidden.is_dir())):
        raise ConfigError(f"{str(to)!r} is there already.", hint="Name a new folder with --to.")
    torch.manual_seed(recipe.seed)  # adapters begin at random
    student = Learner(source, recipe.device)
    lessons = student.lessons(data, recipe)
    guide = _teacher(student, teacher, recipe) if teacher else None
    student.prepare(recipe)
    run = _Run(student=student, teacher=guide, lessons=lessons, recipe=recipe, report=report, save_every_s=save_every_s)
    states = States(hidden, recipe_sha256(recipe, source, teacher, _data_sha256(lessons)))
    n_trained = sum(value.numel() for value in run.trained.values())
    n_parameters = student.n_parameters - (n_trained if recipe.lora else 0)
    progress = _train(run, states)
    size_bytes, after = None, min(progress.losses)
    if progress.best_epoch:
        states.load_best(run.trained, progress.best_epoch)
        after = _write(run, hidden / "model")
        size_bytes = sum(path.stat().st_size for path in (hidden / "model").glob("*.safetensors"))
        _move(hidden / "model", to)
    shutil.rmtree(hidden)
    if not progress.best_epoch and not any(to.iterdir()):
        to.rmdir()
    return Trained(
        folder=to,
        is_written=bool(progress.best_epoch),
        losses=tuple(progress.losses),
        after=after,
        best_epoch=progress.best_epoch,
        n_steps=progress.step,
        n_train=len(lessons.train),
        n_held_out=len(lessons.held_out),
        n_long=lessons.n_long,
        n_empty=lessons.n_empty,
        n_parameters=n_parameters,
        n_trained=n_trained,
        size_bytes=size_bytes,
        seconds=time.monotonic() - started_s,
    )


def _teacher(student: Learner, source: str, recipe: Recipe) -> Learner:
    found = Learner(source, recipe.device)
    check_teacher(student, found)
    found.model.eval().requires_grad_(requires_grad=False)
    return found


def _data_sha256(lessons: Lessons) -> str:
    digest = hashlib.sha256()
    for shown in (*lessons.train, *lessons.held_out):
        digest.update(repr((shown.ids, shown.labels)).encode())
    return digest.hexdigest()


def _train(run: _Run, states: States) -> Progress:
    """Train to the end, from the last state where there is one."""
    progress = states.load(run.trained, run.optimizer)
    if progress is None:
        progress = Progress(run=states.run, losses=[held_out_loss(run.student, run.lessons.held_out, run.recipe.batch)])
        states.save(progress, run.trained, run.optimizer)
    n_steps = run.recipe.epochs * run.steps_an_epoch
    saved_s, took_s = time.monotonic(), 0.0
    for epoch, shown in _steps(run, progress):
        loss = train_step(run.student, shown, run.recipe, run.optimizer, run.teacher)
        progress.step += 1
        run.report("fine-tune", progress.step, n_steps, f"epoch {epoch}, loss {loss:.3f}")
        _set_rate(run, progress.step, n_steps)
        if progress.step == epoch * run.steps_an_epoch:
            _end_epoch(run, progress, states, epoch)
        elif time.monotonic() - saved_s < max(run.save_every_s, took_s / _SAVING_SHARE):
            continue
        begun_s = time.monotonic()
        states.save(progress, run.trained, run.optimizer)
        saved_s = time.monotonic()
        took_s = saved_s - begun_s
    return progress


def _steps(run: _Run, progress: Progress) -> Iterator[tuple[int, list[Shown]]]:
    """Epoch (from 1) and examples of each step that is left."""
    size = run.recipe.batch * run.recipe.accumulate
    _set_rate(run, progress.step, run.recipe.epochs * run.steps_an_epoch)
    while not progress.is_done:
        epoch, done = divmod(progress.step, run.steps_an_epoch)
        order = list(range(len(run.lessons.train)))
        random.Random(f"{run.recipe.seed}/{epoch}").shuffle(order)
        for start in range(done * size, len(order), size):
            yield epoch + 1, [run.lessons.train[i] for i in order[start : start + size]]


def _end_epoch(run: _Run, progress: Progress, states: States, epoch: int) -> None:
    loss = held_out_loss(run.student, run.lessons.held_out, run.recipe.batch)
    if loss < min(progress.losses):
        states.save_best(run.trained, epoch)
        progress.best_epoch = epoch
    progress.losses.append(loss)
    progress.is_done = epoch == run.recipe.epochs or epoch - progress.best_epoch >= run.recipe.patience


def _set_rate(run: _Run, step: int, n_steps: int) -> None:
    """A linear warm-up, then half a cosine down to nothing (Loshchilov and Hutter 2017)."""
    n_warm_up = max(1, round(WARM_UP * n_steps))
    if step < n_warm_up:
        share = (step + 1) / n_warm_up
    else:
        share = (1 + math.cos(math.pi * (step - n_warm_up) / max(1, n_steps - n_warm_up))) / 2
    for group in run.optimizer.param_groups:
        group["lr"] = share * run.recipe.rate


def train_step(
    student: Learner,
    shown: Sequence[Shown],
    recipe: Recipe,
    optimizer: Any,  # noqa: ANN401 - torch's
    teacher: Learner | None = None,
) -> float:
    """One step of the optimizer over `shown`, `recipe.batch` at a time; the mean loss of a token before it."""
    student.model.train()
    optimizer.zero_grad()
    total, n_tokens = 0.0, 0
    for start in range(0, len(shown), recipe.batch):
        loss, n = loss_of(student, shown[start : start + recipe.batch], recipe, teacher)
        loss.backward()
        total, n_tokens = total + float(loss.detach()), n_tokens + n
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad /= n_tokens
    torch.nn.utils.clip_grad_norm_(parameters, LONGEST_STEP)
    optimizer.step()
    return total / n_tokens


def held_out_loss(model: Learner, shown: Sequence[Shown], batch: int) -> float:
    """The mean cross entropy of the tokens that were to be learnt, in nats."""
    model.model.eval()
    total, n_tokens = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(shown), batch):
            loss, n = loss_of(model, shown[start : start + batch], Recipe())
            total, n_tokens = total + float(loss), n_tokens + n
    return total / n_tokens


def _write(run: _Run, folder: Path) -> float:
    """Write the model, load it again as anybody would, and tell its held-out loss."""
    shutil.rmtree(folder, ignore_errors=True)
    run.student.finished().save_pretrained(folder)
    run.student.tokenizer.save_pretrained(folder)
    run.student.model = run.optimizer = None  # two copies need not fit
    run.trained = {}
    return held_out_loss(Learner(str(folder), run.recipe.device), run.lessons.held_out, run.recipe.batch)


def _move(folder: Path, to: Path) -> None:
    """All files to their place, the configuration last: without it nobody takes the folder for a model."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
        path.rename(to / path.name)
