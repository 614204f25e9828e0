"""`pilotfish distil [TASK]`: learn from the log, certify or refuse, adopt.

By hand for one task, or with --due as the gateway's learner starts it: the same code, so that what is certified live
can be had again at a prompt. When to attempt, and what is proven, is known to `guarantees/`.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.core.certificate import Certificate
from pilotfish.core.errors import ConfigError, TaskError
from pilotfish.store.build import embeddings
from pilotfish.store.home import open_home
from pilotfish.tasks.find import find_tasks

if TYPE_CHECKING:
    from pilotfish.guarantees.learn import Outcome


@click.command("distil", help="Learn a specialist for TASK (a name or id) and certify or refuse it.")
@click.argument("task", required=False)
@click.option("--due", is_flag=True, help="Instead of one task, all that are due: what `serve` does in the background.")
@options.promise_options
@options.place_options
@options.json_option
@click.option("--progress-json", is_flag=True, hidden=True, help="Progress as JSON lines, for the gateway's learner.")
def command(
    task: str | None,
    due: bool,
    max_risk: float | None,
    confidence: float | None,
    per: str | None,
    config_path: Path | None,
    home: Path | None,
    as_json: bool,
    progress_json: bool,
) -> int:
    flags = options.promise_flags(max_risk, confidence, per)
    settings = options.settings_from(config_path, home, flags)
    if (task is None) == (not due):
        raise click.UsageError("Name one TASK (see `pilotfish tasks`), or give --due for all that are due.")
    claim = settings.quality.claim
    if claim is None:
        raise ConfigError(
            "A specialist is certified against a tolerated disagreement.",
            hint="Give --max-risk, or set [quality] max_risk.",
        )
    from pilotfish.guarantees.learn import learn
    from pilotfish.guarantees.pace import Pace
    from pilotfish.specialists.remembered import RememberedEncoder
    from pilotfish.students.encoder_cache import open_encoder

    place = open_home(load.home(settings))
    only = ""
    if task is not None:
        recurring = {found.id for found in find_tasks(place)}
        record = options.find_task(place.registry, task)
        only = record.task_id
        if only not in recurring:
            raise TaskError(f"Task {record.name!r} no longer recurs in the log.")
        if record.is_held:
            # Whatever it led to would not serve, and an attempt spends some of the promise's delta.
            raise TaskError(f"Task {record.name!r} is held.", hint=f"`pilotfish promote {record.name}` lets go of it.")
    with output.Progress() as bar, contextlib.ExitStack() as stack:

        @functools.cache
        def load_encoder() -> RememberedEncoder:
            encoder = open_encoder(load.cache(), settings.learning.encoder)
            return stack.enter_context(RememberedEncoder(encoder, embeddings(place.folder)))

        outcomes = learn(
            place,
            claim,
            Pace(first_after=settings.learning.first_after, growth=settings.learning.growth),
            load_encoder,
            only=only,
            progress=_json_line if progress_json else bar,
            consistency=settings.consistency,
        )
    if as_json:
        output.print_json([{"task": o.task.name, "adopted": o.is_adopted, **o.verdict.to_json()} for o in outcomes])
    else:
        _print(outcomes)
    return 0 if due or any(isinstance(outcome.verdict, Certificate) for outcome in outcomes) else 1


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
