"""`pilotfish distil [TASK]`: learn from the log, certify or refuse, adopt.

By hand for one task, or with --due as the gateway's learner starts it: the same code, so that what is certified live
can be had again at a prompt. When to attempt, and what is proven, is known to `guarantees/`.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.config.settings import FINETUNE_MODES
from pilotfish.core.certificate import Certificate
from pilotfish.core.errors import ConfigError, TaskError
from pilotfish.store.build import embeddings
from pilotfish.store.home import open_home
from pilotfish.tasks.find import find_tasks

if TYPE_CHECKING:
    from pilotfish.config.settings import Settings
    from pilotfish.core.task import Task
    from pilotfish.guarantees.learn import Outcome
    from pilotfish.specialists.encoder import Encoder
    from pilotfish.store.base import TaskRecord
    from pilotfish.store.home import Home

MOST_SHOWN = 20


@click.command("distil", help="Learn a specialist for TASK (a name or id) and certify or refuse it.")
@click.argument("task", required=False)
@click.option("--due", is_flag=True, help="Instead of one task, all that are due: what `serve` does in the background.")
@click.option("--suspects", is_flag=True, help="Only list answers of the large model that look wrong; spends nothing.")
@click.option("--encoder", help="Sentence encoder, or `none` for n-grams alone; else that of the settings.")
@click.option("--finetune", type=click.Choice(FINETUNE_MODES), help="Whether its last layers may learn too.")
@options.promise_options
@options.place_options
@options.json_option
@click.option("--progress-json", is_flag=True, hidden=True, help="Progress as JSON lines, for the gateway's learner.")
def command(
    task: str | None,
    due: bool,
    suspects: bool,
    encoder: str | None,
    finetune: str | None,
    max_risk: float | None,
    confidence: float | None,
    per: str | None,
    config_path: Path | None,
    home: Path | None,
    as_json: bool,
    progress_json: bool,
) -> int:
    flags = options.promise_flags(max_risk, confidence, per)
    flags |= {("learning", "encoder"): encoder, ("learning", "finetune"): finetune}
    settings = options.settings_from(config_path, home, flags)
    if (task is None) == (not due):
        raise click.UsageError("Name one TASK (see `pilotfish tasks`), or give --due for all that are due.")
    if suspects:
        return _suspects(settings, task, as_json)
    claim = settings.quality.claim
    if claim is None:
        raise ConfigError(
            "A specialist is certified against a tolerated disagreement.",
            hint="Give --max-risk, or set [quality] max_risk.",
        )
    from pilotfish.guarantees.learn import learn
    from pilotfish.guarantees.pace import Pace

    place = open_home(load.home(settings), settings.learning)
    only = ""
    if task is not None:
        record = _recurring(place, task)[0]
        only = record.task_id
        if record.is_held:
            # Whatever it led to would not serve, and an attempt spends some of the promise's delta.
            raise TaskError(f"Task {record.name!r} is held.", hint=f"`pilotfish promote {record.name}` lets go of it.")
    with output.Progress() as bar, contextlib.ExitStack() as stack:

        @functools.cache
        def load_encoder() -> Encoder | None:
            encoder = options.encoder_from(settings)
            if encoder is None:
                return None
            from pilotfish.specialists.remembered import RememberedEncoder

            return stack.enter_context(RememberedEncoder(encoder, embeddings(place.folder)))

        outcomes = learn(
            place,
            claim,
            Pace(first_after=settings.learning.first_after, growth=settings.learning.growth),
            load_encoder,
            only=only,
            progress=_json_line if progress_json else bar,
            consistency=settings.consistency,
            tuning=options.tuning_from(settings, bar.say),
        )
    if as_json:
        output.print_json([{"task": o.task.name, "adopted": o.is_adopted, **o.verdict.to_json()} for o in outcomes])
    else:
        _print(outcomes)
    return 0 if due or any(isinstance(outcome.verdict, Certificate) for outcome in outcomes) else 1


def _recurring(place: Home, name: str) -> tuple[TaskRecord, Task]:
    """The task of that name or id. Raises `TaskError` where there is none, or it has not come again."""
    recurring = {found.id: found for found in find_tasks(place)}
    record = options.find_task(place.registry, name)
    if record.task_id not in recurring:
        raise TaskError(f"Task {record.name!r} no longer recurs in the log.")
    return record, recurring[record.task_id]


def _suspects(settings: Settings, name: str | None, as_json: bool) -> int:
    from pilotfish.guarantees.known import known_examples
    from pilotfish.students.suspects import find_suspects

    if name is None:
        raise click.UsageError("Name the TASK whose answers are to be looked at.")
    place = open_home(load.home(settings))
    record, task = _recurring(place, name)
    examples = known_examples(place).get(record.task_id, [])
    with output.Progress() as bar:
        found = find_suspects(task, examples, options.encoder_from(settings), bar)
    if as_json:
        output.print_json({"task": record.name, "answers": len(examples), "suspects": list(map(asdict, found))})
        return 0
    click.echo(
        f"{record.name}: {len(found):,} of {len(examples):,} answers look wrong. They teach and count as they are."
    )
    rows = [
        [s.request_id, output.shorten(s.text, 60), ", ".join(s.given), ", ".join(s.found), output.percent(s.certainty)]
        for s in found[:MOST_SHOWN]
    ]
    if rows:
        output.print_table(["request", "text", "large model", "students", "certainty"], rows)
    if len(found) > MOST_SHOWN:
        click.echo(f"{len(found) - MOST_SHOWN:,} more with --json.")
    return 0


def _print(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        verdict = outcome.verdict
        said = output.promise(verdict) if isinstance(verdict, Certificate) else f"not certified. {verdict.message}"
        kept = "" if outcome.is_adopted or not isinstance(verdict, Certificate) else " The one in force stays."
        click.echo(f"{outcome.task.name}: {said}{kept} ({outcome.n_known:,} answers, {outcome.seconds:.1f} s)")
    if not outcomes:
        click.echo("No task is due.")


def _json_line(stage: str, done: int, total: int) -> None:
    click.echo(json.dumps({"stage": stage, "done": done, "total": total}))
