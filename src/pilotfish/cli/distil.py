"""`pilotfish distil [TASK]`: learn from the log, certify or refuse, adopt.

By hand for one task, or with --due as the gateway's learner starts it: the same code, so that what is certified live
can be had again at a prompt. When to attempt, and what is proven, is known to `guarantees/`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.config.settings import FINETUNE_MODES
from pilotfish.core.certificate import Certificate, Claim
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
@click.option(
    "--on", "sources", multiple=True, metavar="FILE", help="Instead of TASK: read its examples from traffic on file."
)
@click.option("--instructions", default="", help="With --on: instructions of bare input/output pairs.")
@click.option("--teach-only", is_flag=True, help="With --on: the examples are no fair sample, so they may not certify.")
@click.option("--due", is_flag=True, help="Instead of one task, all that are due: what `serve` does in the background.")
@click.option(
    "--answers",
    type=click.Path(exists=True, path_type=Path),
    help="Learn these answers of your own beside: a file of questions or documents with their answers.",
)
@click.option("--suspects", is_flag=True, help="Only list answers of the large model that look wrong; spends nothing.")
@click.option("--encoder", help="Sentence encoder, or `none` for n-grams alone; else that of the settings.")
@click.option("--finetune", type=click.Choice(FINETUNE_MODES), help="Whether its last layers may learn too.")
@options.promise_options
@options.place_options
@options.json_option
@click.option("--progress-json", is_flag=True, hidden=True, help="Progress as JSON lines, for the gateway's learner.")
def command(
    task: str | None,
    sources: tuple[str, ...],
    instructions: str,
    teach_only: bool,
    due: bool,
    answers: Path | None,
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
    given = _Given(files=sources, instructions=instructions, is_sample=not teach_only, answers=answers)
    _check_asked(task, due, suspects, given)
    if suspects:
        return _suspects(settings, task, as_json)
    claim = settings.quality.claim
    if claim is None:
        raise ConfigError(
            "A specialist is certified against a tolerated disagreement.",
            hint="Give --max-risk, or set [quality] max_risk.",
        )
    place = open_home(load.home(settings), settings.learning)
    with output.Progress() as bar:
        tell: Callable[[str, int, int], None] = _json_line if progress_json else bar
        with place.learning_alone(lambda: tell("waiting for other learning", 0, 1)):
            only = "" if due else _only(place, settings, given, task, tell)
            outcomes = _learn(place, settings, claim, only, bar, tell)
    if progress_json and sources:
        click.echo(json.dumps({"task_id": only, "outcomes": [{**row, "details": None} for row in _rows(outcomes)]}))
    elif as_json:
        output.print_json(_rows(outcomes))
    else:
        _print(outcomes, is_due=due)
    return 0 if due or any(isinstance(outcome.verdict, Certificate) for outcome in outcomes) else 1


def _rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [{"task": o.task.name, "adopted": o.is_adopted, **o.learnt, **o.verdict.to_json()} for o in outcomes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What --on and its companions say, and --answers."""

    files: tuple[str, ...]
    instructions: str
    is_sample: bool
    answers: Path | None


def _only(
    place: Home, settings: Settings, given: _Given, task: str | None, tell: Callable[[str, int, int], None]
) -> str:
    """The id of the task that is asked for: the one named, or the one that the files hold. Its own answers are kept."""
    record = _recurring(place, task)[0] if task is not None else _imported(place, settings, given, tell)
    if record.is_held:
        # Whatever it led to would not serve, and an attempt spends some of the promise's delta.
        raise TaskError(f"Task {record.name!r} is held.", hint=f"`pilotfish promote {record.name}` lets go of it.")
    if given.answers is not None:
        _take_answers(place, record, given.answers)
    return record.task_id


def _imported(place: Home, settings: Settings, given: _Given, tell: Callable[[str, int, int], None]) -> TaskRecord:
    """The task of the files' exchanges, once they stand in the log."""
    from pilotfish.gateway.admission import Admission
    from pilotfish.store.traffic import read_traffic
    from pilotfish.tasks.imported import import_exchanges, imported_tasks

    admit = Admission(settings, place.registry)
    traffic = read_traffic(given.files, instructions=given.instructions)
    tell("reading examples", 0, len(traffic.exchanges))
    imported = import_exchanges(place, traffic.exchanges, admit, is_sample=given.is_sample)
    click.echo(
        f"{imported.n_new:,} examples are new in the log, {imported.n_known:,} stood there, {imported.n_withheld:,} "
        f"may not be written down, {len(traffic.unreadable):,} could not be read"
        + "".join(f"\n  {row}" for row in traffic.unreadable[:MOST_SHOWN]),
        err=True,
    )
    first, *others = imported_tasks(place, imported)
    for record in others:
        click.echo(f"They hold the task {record.name}, too: `pilotfish distil {record.name}` learns it.", err=True)
    return first


def _learn(
    place: Home,
    settings: Settings,
    claim: Claim,
    only: str,
    bar: output.Progress,
    tell: Callable[[str, int, int], None],
) -> Sequence[Outcome]:
    from pilotfish.guarantees.learn import learn
    from pilotfish.guarantees.pace import Pace

    with contextlib.ExitStack() as stack:

        @functools.cache
        def load_encoder() -> Encoder | None:
            encoder = options.encoder_from(settings)
            if encoder is None:
                return None
            from pilotfish.specialists.remembered import RememberedEncoder

            return stack.enter_context(RememberedEncoder(encoder, embeddings(place.folder)))

        return learn(
            place,
            claim,
            Pace(first_after=settings.learning.first_after, growth=settings.learning.growth),
            load_encoder,
            only=only,
            progress=tell,
            consistency=settings.consistency,
            tuning=options.tuning_from(settings, bar.say),
        )


def _check_asked(task: str | None, due: bool, suspects: bool, given: _Given) -> None:
    if [task is not None, due, bool(given.files)].count(True) != 1:
        raise click.UsageError(
            "Name one TASK (see `pilotfish tasks`), give a FILE with --on, or --due for all that are due."
        )
    if (given.instructions or not given.is_sample) and not given.files:
        raise click.UsageError("--instructions and --teach-only go with --on.")
    if given.answers is not None and (due or suspects):
        raise click.UsageError("--answers brings answers for one TASK that is learnt.")


def _take_answers(place: Home, record: TaskRecord, path: Path) -> None:
    """Keep a file's answers as a source of the task, in place of the one of its name."""
    from pilotfish.evals.given_answers import read_given_answers
    from pilotfish.store.answer_sources import AnswerSource

    pairs = read_given_answers(path)
    if record.shape.is_closed and not record.shape.is_retrieved:
        raise TaskError(
            f"{record.name} answers with {record.shape.kind} values, not with whole texts.",
            hint="Answers of your own are for tasks whose answers are given again: see `pilotfish tasks`.",
        )
    place.answers.put(record.task_id, AnswerSource(name=path.name, added_s=time.time(), pairs=tuple(pairs)))
    n_texts = len({answer for _, answer in pairs})
    click.echo(f"{record.name}: {len(pairs):,} questions and documents of {path.name}, {n_texts:,} answers.", err=True)


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


def _print(outcomes: Sequence[Outcome], *, is_due: bool) -> None:
    for outcome in outcomes:
        verdict = outcome.verdict
        said = output.promise(verdict) if isinstance(verdict, Certificate) else f"not certified. {verdict.message}"
        kept = "" if outcome.is_adopted or not isinstance(verdict, Certificate) else " The one in force stays."
        click.echo(f"{outcome.task.name}: {said}{kept} ({outcome.n_known:,} answers, {outcome.seconds:.1f} s)")
    if not outcomes and is_due:
        click.echo("No task is due.")
    elif not outcomes:
        click.echo("Nothing was attempted: its specialist serves. One that answers more is proven on later requests.")


def _json_line(stage: str, done: int, total: int) -> None:
    click.echo(json.dumps({"stage": stage, "done": done, "total": total}))
