"""`pilotfish finetune MODEL --on DATA --to DIR`: teach a small generative model the reference's answers, or a text.

Flags in, a table or JSON out. DATA is read as `compare` reads it, so that a model is taught with the very questions it
will be asked; how it is taught is known to `students/`. Exit code 1 where nothing was better than no training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.cli import options, output
from pilotfish.core.errors import DataError, TaskError
from pilotfish.core.messages import Message

if TYPE_CHECKING:
    from pilotfish.store.home import Home
    from pilotfish.students.generative import Pair, Recipe
    from pilotfish.students.generative_training import Trained


@click.command("finetune", help="Teach the small generative MODEL (a folder or hub id) the reference's answers.")
@click.argument("model")
@click.option("--on", "source", required=True, help="A text, a file of questions with answers, or a task of the log.")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="The folder to write; new, or to go on in.")
@click.option("--teacher", default="", help="A local model whose probabilities teach beside the answers.")
@click.option(
    "--teacher-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Weight of those probabilities in the loss.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="At which student and teacher are compared.",
)
@click.option("--lora", type=click.IntRange(1), help="Train adapters of this rank only; they are merged in the end.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where it trains.")
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Passes over the data at most.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Examples at a time.")
@click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Batches a step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Default 5e-5, or 2e-4 with --lora.")
@click.option(
    "--max-tokens", type=click.IntRange(2), default=512, show_default=True, help="Of an example; of a text's block."
)
@click.option("--checkpointing", is_flag=True, help="Compute activations twice: less memory, more time.")
@click.option("--seed", default=0, show_default=True, help="Seed of order, dropout, adapters and held-out part.")
@options.place_options
@options.json_option
def command(
    model: str,
    source: str,
    to: Path,
    config_path: Path | None,
    home: Path | None,
    as_json: bool,
    **flags: Any,  # noqa: ANN401 - the recipe, by its names
) -> int:
    from pilotfish.students.generative import Recipe
    from pilotfish.students.generative_training import HIDDEN, finetune

    teacher = flags.pop("teacher")
    recipe = Recipe(**flags)
    data = _data(source, config_path, home)
    with output.Progress() as progress:
        try:
            found = finetune(model.removeprefix("weights:"), data, to, recipe, teacher=teacher, report=progress)
        except KeyboardInterrupt:
            if any((to / HIDDEN).glob("*/progress.json")):
                progress.say(f"What was learnt so far is in {to}: the same command goes on from there.")
            raise
    if as_json:
        output.print_json(_row(found, recipe, teacher))
    else:
        _print(found, source, is_text=isinstance(data, str))
    return 0 if found.is_written else 1


def _data(source: str, config_path: Path | None, home: Path | None) -> Sequence[Pair] | str:
    from pilotfish.evals.files import SUFFIXES
    from pilotfish.students.generative import Pair

    path = Path(source)
    if path.is_file() and not path.name.removesuffix(".gz").endswith(SUFFIXES):
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{source!r} is no UTF-8 text: {error}.") from error
    if not path.exists() and "/" not in source and ":" not in source:
        return _of_task(options.home_from(config_path, home), source)
    from pilotfish.evals.data import load

    items = load(source, split="all").items
    if any(item.tags.get("split") == "train" for item in items):
        items = tuple(item for item in items if item.tags.get("split") == "train")
    known = [item for item in items if item.expected is not None]
    if not known:
        raise DataError(f"No row of {source!r} has an answer to learn.", hint='Expected {"input": ..., "output": ...}.')
    return [Pair(messages=item.messages, answer=_text(item.expected), cluster=item.cluster) for item in known]


def _text(expected: object) -> str:
    """An answer as a model writes it: the first of several right texts, structures as JSON."""
    if isinstance(expected, list) and expected and all(isinstance(one, str) for one in expected):
        return str(expected[0])
    return expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)


def _of_task(home: Home, name: str) -> list[Pair]:
    """The requests of a task as they were sent, with the reference's answers."""
    from pilotfish.students.generative import Pair
    from pilotfish.tasks.find import newest
    from pilotfish.tasks.recognise import Recogniser

    try:
        record = options.find_task(home.registry, name)
    except TaskError as error:
        raise TaskError(f"{name!r} is neither a file nor a task of the log.", hint=error.hint) from error
    recogniser = Recogniser(home.registry.templates())
    shared: dict[str, list[Message]] = {}
    pairs = []
    for row in newest(home.log):
        if row.reference_answer is None or row.input is None:
            continue
        if recogniser.split(row.instructions_id, row.input).task_id != record.task_id:
            continue
        if row.instructions_id not in shared:
            found = home.log.instructions(row.instructions_id)
            turns = json.loads(found.body).get("messages", []) if found else []
            shared[row.instructions_id] = [Message(role=turn["role"], content=turn.get("content")) for turn in turns]
        asked = [*shared[row.instructions_id], Message(role="user", content=row.input)]
        pairs.append(Pair(messages=asked, answer=row.reference_answer))
    if not pairs:
        raise TaskError(f"The log holds no answer of the reference for {name!r}.")
    return pairs


def _row(found: Trained, recipe: Recipe, teacher: str) -> dict[str, Any]:
    return {
        "folder": str(found.folder) if found.is_written else None,
        "held_out": {
            "n": found.n_held_out,
            "loss_before_nats": found.before,
            "loss_after_nats": found.after,
            "perplexity_before": math.exp(found.before),
            "perplexity_after": math.exp(found.after),
            "loss_by_epoch_nats": list(found.losses),
        },
        "n_train": found.n_train,
        "n_too_long": found.n_long,
        "n_without_answer": found.n_empty,
        "best_epoch": found.best_epoch,
        "n_steps": found.n_steps,
        "n_parameters": found.n_parameters,
        "n_trained_parameters": found.n_trained,
        "size_bytes": found.size_bytes,
        "teacher": teacher or None,
        "seconds": found.seconds,
        "seed": recipe.seed,
    }


def _print(found: Trained, source: str, *, is_text: bool) -> None:
    unit = "blocks" if is_text else "examples"
    names = ["before", *(f"after epoch {epoch}" for epoch in range(1, len(found.losses)))]
    rows = [[name, f"{loss:.4f}", f"{math.exp(loss):.2f}"] for name, loss in zip(names, found.losses, strict=True)]
    output.print_table(["held out", "loss", "perplexity"], rows)
    click.echo(
        f"\nLearnt from {found.n_train:,} {unit}, measured on {found.n_held_out:,} held out; {found.n_steps:,} steps "
        f"in {found.seconds:.0f} s. {found.n_trained:,} of {found.n_parameters:,} parameters."
    )
    for n, why in ((found.n_long, "longer than --max-tokens"), (found.n_empty, "without an answer")):
        if n:
            click.echo(f"{n:,} {unit} were left out: {why}.")
    if not found.is_written:
        click.echo("No epoch was better than no training on what was held out; nothing is written.")
        return
    click.echo(f"{found.folder}: {(found.size_bytes or 0) / 1e6:.1f} MB, as after epoch {found.best_epoch}.")
    if not is_text:
        click.echo(
            f"Against the reference: pilotfish compare weights:{found.folder} --on {source}, on items it never saw."
        )
