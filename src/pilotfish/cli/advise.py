"""`pilotfish advise`: which model to take, and why; or that the data does not suffice, and what to measure next.

Asks (flags, a file, or questions on a terminal), gathers what is measured and known, and prints what `advice/` finds.
The rule stands in docs/advise.md. Exit code 1 where there is no answer.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.advice.needs import BY_NAME, QUESTIONS, Needs, Question, Stated, needs, read_file, rent
from pilotfish.cli import options, output
from pilotfish.config import load, places
from pilotfish.core.errors import UserError
from pilotfish.evals.money import read_price

if TYPE_CHECKING:
    from pilotfish.advice.advise import Advice, Sources
    from pilotfish.advice.home import Traffic
    from pilotfish.advice.runs import Run
    from pilotfish.config.settings import Settings
    from pilotfish.sizing.machine import Speed
    from pilotfish.store.home import Home

WIDEST = 160
EXPORTED = "my-traffic.jsonl"


class Answered(click.ParamType[Any]):
    """A flag that is read as its question's answer is."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self.name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """The answer."""
        if not isinstance(value, str):
            return value
        try:
            return self._question.read(value)
        except UserError as error:
            self.fail(str(error), param, ctx)


def _question_options(command: Any) -> Any:  # noqa: ANN401 - a click decorator
    """A flag for each question, in their order."""
    for question in reversed(QUESTIONS):
        flag = f"--{question.name.replace('_', '-')}"
        if question.name in ("local", "offline"):
            command = click.option(f"{flag}/--not-{question.name}", question.name, default=None, help=question.help)(
                command
            )
        else:
            command = click.option(flag, question.name, type=Answered(question), help=question.help)(command)
    return command


@click.command(
    "advise",
    help="Which model should I take? Constraints first, then the cheapest that is shown to be good enough; measured "
    "where there are measurements (--run, the home), estimated where not.",
    epilog="Exit codes: 0 there is an answer, 1 there is none, 2 you must act.",
)
@click.option(
    "--run", "run_path", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A run of compare."
)
@click.option("--reference", default="", help="The run's model that sets the standard (default: large, or its first).")
@click.option("--model", "models", multiple=True, help="A further model to consider, as `inspect` knows it.")
@click.option(
    "--price", "prices", multiple=True, type=options.Named(), help="NAME=IN/OUT@SOURCE, USD per million tokens."
)
@click.option(
    "--rent", "rents", multiple=True, type=options.Named(), help="NAME=USD[@REQUESTS] an hour of its machine."
)
@click.option(
    "--needs", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Answers, as a TOML file."
)
@click.option("--ask/--no-ask", default=None, help="Ask for what is missing (default: on a terminal).")
@_question_options
@click.option("--html", "html_path", type=options.NewFile(), help="Also write it, drawn, as a page to FILE.")
@options.place_options
@options.json_option
def command(**flags: Any) -> int:  # noqa: ANN401
    settings = options.settings_from(flags["config_path"], flags["home"])
    answers, stated = read_file(flags["file"]) if flags["file"] else ({}, {})
    answers |= {name: flags[name] for name in BY_NAME if flags[name] is not None}
    home = _home(settings)
    if flags["ask"] or (flags["ask"] is None and sys.stdin.isatty() and not flags["as_json"]):
        _ask(answers, home, has_run=flags["run_path"] is not None)
    wanted = needs(answers, _stated(stated, flags))
    found = _advice(wanted, settings, home, flags)
    words = shlex.join(["pilotfish", *sys.argv[1:]])
    if flags["html_path"] is not None:
        from pilotfish.advice.page import render

        flags["html_path"].write_text(render(found, words), "utf-8")
    if flags["as_json"]:
        output.print_json({**found.to_json(), "command": words})
    else:
        _print(found)
        if flags["html_path"] is not None:
            click.echo(f"\nAs a page: {flags['html_path']}")
    return 0 if found.decision.chosen is not None else 1


def _home(settings: Settings) -> Home | None:
    """The home, where there is one: asking for advice makes none."""
    folder = load.home(settings)
    if not folder.is_dir():
        return None
    from pilotfish.store.home import open_home
    from pilotfish.tasks.find import find_tasks

    found = open_home(folder, settings.learning)
    find_tasks(found)
    return found


def _ask(answers: dict[str, Any], home: Home | None, *, has_run: bool) -> None:
    """Put what is missing to the person at the terminal; an empty line leaves it open."""
    names = [record.name for record in home.registry.tasks()] if home is not None else []
    click.echo("What is not known may stay empty.", err=True)
    if names:
        click.echo("Volume and tokens that you leave open are taken from the log.", err=True)
        click.echo(f"Its tasks: {', '.join(names[:12])}", err=True)
    pointless = set() if names else {"task"}
    if names or has_run:
        pointless.add("tokens")
    for question in QUESTIONS:
        is_open = question.is_asked and answers.get(question.name) is None
        if not is_open or (question.only_after and not answers.get(question.only_after)):
            continue
        if question.name in pointless:
            continue
        answers[question.name] = _answer(question)


def _answer(question: Question) -> Any:  # noqa: ANN401 - what the question reads
    while True:
        said = click.prompt(question.text, default="", show_default=False, prompt_suffix=" ", err=True).strip()
        if not said:
            return None
        try:
            return question.read(said)
        except UserError as error:
            click.echo(str(error), err=True)


def _stated(stated: dict[str, Stated], flags: dict[str, Any]) -> dict[str, Stated]:
    """What the file states of candidates, and above it what the flags do."""
    found = dict(stated)
    for name, text in flags["prices"]:
        found[name] = replace(found.get(name, Stated()), price=read_price(name, text))
    for name, text in flags["rents"]:
        usd, capacity = rent(name, text)
        found[name] = replace(found.get(name, Stated()), rent_usd_per_h=usd, capacity_per_h=capacity)
    return found


def _advice(wanted: Needs, settings: Settings, home: Home | None, flags: dict[str, Any]) -> Advice:
    from pilotfish.advice.advise import Sources, advise
    from pilotfish.advice.estimates import Terms, inspected
    from pilotfish.sizing import machine, sources

    run, notes = _run(wanted, settings, home, flags)
    traffic = _traffic(wanted, settings, home)
    here = machine.memory()
    if wanted.memory is None and here.available_bytes is not None:
        wanted = replace(wanted, memory=float(here.available_bytes))
    tokens = wanted.tokens or (run.tokens if run else None) or (traffic.tokens if traffic else None)
    terms = Terms(tokens=tokens, speed=_speed(wanted))
    if run is not None:
        terms = replace(terms, reference=run.reference_spec, data="DATA" if run.on == "recorded" else run.on)
    elif traffic is not None:
        task = f" --task {wanted.task}" if wanted.task else ""
        terms = replace(terms, data=EXPORTED, first=f"pilotfish log export -o {EXPORTED}{task} && ")
    named = {name: name for name in flags["models"]}
    named |= {name: said.model for name, said in wanted.stated.items() if said.model}
    cache = places.cache()
    found = Sources(
        settings=settings,
        terms=terms,
        run=run,
        traffic=traffic,
        named=tuple(inspected(sources.find(model, cache), name, wanted, terms) for name, model in named.items()),
        notes=tuple(notes),
    )
    return advise(wanted, _with_home(found, wanted, settings, home))


def _speed(wanted: Needs) -> Speed:
    from pilotfish.sizing import machine

    if wanted.bandwidth is not None:
        return machine.Speed(bandwidth=wanted.bandwidth, method="stated", measured="stated")
    cache = places.cache()
    if not machine.is_measured(cache):
        click.echo("Measuring this machine's memory bandwidth, once (about a second) ...", err=True)
    return machine.speed(cache)


def _run(wanted: Needs, settings: Settings, home: Home | None, flags: dict[str, Any]) -> tuple[Run | None, list[str]]:
    """The run that is named, or the only one of the home."""
    from pilotfish.advice.runs import read_run

    path = flags["run_path"]
    if path is None and home is not None:
        runs = sorted((home.folder / "runs").glob("*.jsonl"))
        if len(runs) > 1:
            return None, [f"The home holds {len(runs)} runs of compare; name the one that fits with --run."]
        path = runs[0] if runs else None
    if path is None:
        return None, []
    return read_run(path, wanted, settings, flags["reference"]), []


def _traffic(wanted: Needs, settings: Settings, home: Home | None) -> Traffic | None:
    from pilotfish.advice.home import read_traffic

    if home is None:
        if wanted.task:
            raise UserError(f"There is no task {wanted.task!r}: there is no home yet.", hint="Name another --home.")
        return None
    found = read_traffic(home, wanted, settings)
    return found if found.n else None


def _with_home(found: Sources, wanted: Needs, settings: Settings, home: Home | None) -> Sources:
    """The same with the home's specialists, and with what building more of them takes."""
    if home is None or found.traffic is None:
        return found
    from pilotfish.advice.home import builds, reference_option, specialists_option
    from pilotfish.guarantees.audit import Audit
    from pilotfish.guarantees.split import unbiased_rows_for

    reference = reference_option(found.traffic, wanted, settings)
    specialists = specialists_option(
        found.traffic, reference, wanted, lambda claim: Audit(claim).rate(settings.quality.audit_rate)
    )
    return replace(
        found,
        specialists=specialists,
        builds=tuple(builds(home, found.traffic, wanted, unbiased_rows_for)),
    )


def _print(found: Advice) -> None:
    from pilotfish.advice.tables import headline, next_sentences, other_steps, tables

    for sentence in headline(found):
        click.echo(sentence)
    if found.changes:
        click.echo("\nWhat would change the answer")
        for sentence in found.changes:
            click.echo(f"- {sentence}")
    click.echo("\nThe next measurement worth making")
    for sentence in next_sentences(found):
        click.echo(sentence)
    for number, step in enumerate(other_steps(found)):
        click.echo("\nAlso" if not number else "", nl=not number)
        for sentence in step:
            click.echo(sentence)
    for table in tables(found):
        click.echo(f"\n{table.title}")
        output.print_table(table.columns, [[output.shorten(cell, WIDEST) for cell in row] for row in table.rows])
        for note in table.notes:
            click.echo(note)
