"""`pilotfish route`: should a smaller model answer some open-ended requests, which, and what does that cost?

`train` learns a route from outcomes and certifies or refuses it, `evaluate` says what any way of choosing is worth
beside its controls, `simulate` what a month would have cost. Nobody is called: all three read recorded outcomes. Exit
code 1 where the honest answer is not to route.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilotfish.cli import options, output, route_encoder, route_live

if TYPE_CHECKING:
    from pilotfish.core.outcome import Outcome
    from pilotfish.evals.routed import Pair, Ranking
    from pilotfish.evals.routed_report import Report
    from pilotfish.evals.tables import Table
    from pilotfish.guarantees.route_attempt import Encoded, Finetuning
    from pilotfish.guarantees.route_file import RouteFile
    from pilotfish.routing.replay import Trail
    from pilotfish.routing.route import Route

Command = TypeVar("Command", bound=Callable[..., Any])


def _data_options(function: Command) -> Command:
    """What every subcommand reads outcomes with."""
    for option in (
        click.option("--split", default="", help="Only outcomes of this split, as the source names it."),
        click.option("--price", "prices", multiple=True, help="NAME=IN/OUT@SOURCE, USD per million tokens."),
        click.option("--encoder", help="Let a sentence encoder read the prompts: `default`, a folder or a hub id."),
        click.option("--html", "html_path", type=options.NewFile(), help="Write a page to FILE."),
        options.json_option,
    ):
        function = option(function)
    return function


_margin = click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.02,
    show_default=True,
    help="Tolerated loss against always asking the reference, in score, 0..1.",
)
_small = click.option("--small", default="", help="The smaller model (default: the worse one, where there are two).")
_reference = click.option("--reference", default="", help="The model whose answers set the standard.")


@click.group("route", help="Should a smaller model answer some open requests, and what would that cost?")
def command() -> None:
    pass


for _live in (route_live.outcomes, route_live.adopt, route_live.withdraw):
    command.add_command(_live)


@command.command("train", help="Learn a route from outcomes (or the log's), and certify or refuse it.")
@click.argument("outcomes", nargs=-1)
@click.option("--out", "out_path", required=True, type=options.NewFile(), help="Write the route to FILE (JSON).")
@click.option("--models", help="The whole cascade, the smallest first: A>B>REFERENCE.")
@_small
@_reference
@_margin
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1, max_open=True),
    default=0.95,
    show_default=True,
    help="Confidence of the promise.",
)
@click.option("--workload", default="", help="The workload's name: a promise holds for one alone.")
@click.option(
    "--prefix",
    type=click.IntRange(0),
    help="Tokens of an answer that decide, 0: all. Default: the fewest that tell nearly as much as any.",
)
@click.option("--finetune", is_flag=True, help="Let the encoder learn from the outcomes (extra `train`; minutes).")
@options.place_options
@_data_options
def train(**flags: Any) -> int:  # noqa: ANN401
    from pilotfish.core.certificate import Certificate, Claim
    from pilotfish.evals import routed
    from pilotfish.guarantees import route_report
    from pilotfish.guarantees.route_attempt import Wanted, attempt_route
    from pilotfish.guarantees.route_file import RouteFile, fingerprints
    from pilotfish.replay.month import spent_usd

    if flags["outcomes"]:
        found = _outcomes(flags["outcomes"], flags)
    else:
        found = route_live.logged(flags["config_path"], flags["home"])
    if flags["models"]:
        models = _named(found, flags)
    else:
        pair = routed.pair(found, flags["small"], flags["reference"])
        models = [pair.small, pair.reference]
    claim = Claim(max_risk=flags["margin"], confidence=flags["confidence"], per="loss")
    out_path: Path = flags["out_path"]
    number = _attempts(out_path, flags["workload"], models) + 1
    encoder: Encoded | Finetuning | None = route_encoder.named(flags["encoder"])
    if flags["finetune"]:
        encoder = route_encoder.finetuning(flags["encoder"], out_path)
    with output.Progress() as progress:
        made = attempt_route(
            found,
            Wanted(models=tuple(models), claim=claim, number=number, name=flags["workload"], prefix=flags["prefix"]),
            encoder=encoder,
            progress=progress,
        )
    kept = RouteFile(
        route=made.route,
        verdict=made.verdict,
        workload=flags["workload"],
        attempts=number if made.verdict.delta_spent > 0 else number - 1,
        spent_usd=spent_usd(found, models),
        taught=fingerprints(made.taught),
    )
    route_encoder.keep(made.encoder, route_encoder.folder_of(out_path))
    kept.save(out_path)
    shutil.rmtree(route_encoder.unfinished(out_path), ignore_errors=True)
    by = Counter(one.tags["graded_by"] for one in found if "graded_by" in one.tags)
    sentence = route_report.sentence(made)
    if by:
        sentence += f" Graded by: {'; '.join(f'{name} ({n:,})' for name, n in by.most_common())}."
    said = {"sentence": sentence, **kept.to_json(), "graded_by": by, "learnt": route_report.to_json(made)}
    _show(sentence, route_report.tables(made), said, flags)
    return 0 if isinstance(made.verdict, Certificate) else 1


@command.command("evaluate", help="What is a route, or any way of choosing, worth on these outcomes?")
@click.argument("route_path", metavar="[ROUTE]", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--on", "outcomes", multiple=True, required=True, help="Outcomes: a file or a folder.")
@click.option("--models", help="In place of ROUTE: learn this cascade from 40 % and judge it on the others.")
@_small
@_reference
@_margin
@_data_options
def evaluate(**flags: Any) -> int:  # noqa: ANN401
    from pilotfish.core.errors import UserError
    from pilotfish.evals import routed
    from pilotfish.evals.routed_report import report, tables
    from pilotfish.guarantees.route_file import RouteFile
    from pilotfish.replay.routed import cascade, reached

    route_path: Path | None = flags["route_path"]
    if route_path is not None and (flags["models"] or flags["small"] or flags["reference"]):
        raise UserError("A route names its own models.", hint="Leave out --models, --small and --reference, or ROUTE.")
    found = _outcomes(flags["outcomes"], flags)
    rankings: list[Ranking]
    at_threshold, verdict, whole, why_none = None, None, None, ""
    notes: list[str] = []
    if route_path is None and not flags["models"]:
        pair = routed.pair(found, flags["small"], flags["reference"])
        rankings, why_none = _cross_validated(pair, flags)
    else:
        if route_path is None:
            route, found = _learnt(found, flags)
        else:
            kept = RouteFile.load(route_path)
            route, verdict = kept.route, kept.verdict
            found, notes = _unseen(kept, found)
        found = _answered(route, found)
        pair = routed.pair(found, route.steps[0].model, route.reference)
        rows = _trails(route, found, route_path, flags)
        name = "the route" if len(route.steps) == 1 else "the route's first step"
        needs = [row.needs[0] for row in rows]
        rankings = [routed.Ranking(name=name, needs=needs, reads_answer=route.steps[0].reads_answer, is_control=False)]
        at_threshold = reached(pair, route, rows)
        if len(route.steps) > 1:
            whole = cascade(route.models, rows)
    said = report(
        pair, rankings, margin=flags["margin"], reached=at_threshold, verdict=verdict, notes=notes, why_none=why_none
    )
    told = [*tables(said), *(whole.tables() if whole is not None else [])]
    _show(said.sentence, told, said.to_json() | {"cascade": whole.to_json() if whole else None}, flags, said)
    return 1 if said.advice in ("do not route", "not yet") else 0


@command.command("simulate", help="What would a month of this route have cost?")
@click.argument("route_path", metavar="ROUTE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--on", "outcomes", multiple=True, required=True, help="Outcomes that stand for the month's requests.")
@click.option("--requests", type=click.IntRange(1), default=100_000, show_default=True, help="Requests a month.")
@click.option("--budget", type=click.FloatRange(0, min_open=True), help="USD a day; the best use of it is added.")
@click.option(
    "--audit-rate",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Share of kept answers also asked of the reference.",
)
@_data_options
def simulate(**flags: Any) -> int:  # noqa: ANN401
    from pilotfish.guarantees.route_file import RouteFile
    from pilotfish.replay.month import simulate as month_of

    route_path: Path = flags["route_path"]
    kept = RouteFile.load(route_path)
    route = kept.route
    found, notes = _unseen(kept, _outcomes(flags["outcomes"], flags))
    month = month_of(
        route,
        _trails(route, _answered(route, found), route_path, flags),
        requests=flags["requests"],
        audit_rate=flags["audit_rate"],
        budget_usd_per_day=flags["budget"],
        learning_usd=kept.spent_usd,
        notes=notes,
    )
    _show(month.sentence, [month.table()], month.to_json(), flags)
    return 0 if route.threshold is not None else 1


def _outcomes(sources: Sequence[str], flags: dict[str, Any]) -> list[Outcome]:
    from pilotfish.core.errors import UserError
    from pilotfish.evals.money import read_price
    from pilotfish.evals.outcomes import priced, read_outcomes

    taken = [*map(Path, sources), *(path for path in (flags.get("route_path"), flags.get("out_path")) if path)]
    if flags["html_path"] is not None and flags["html_path"].resolve() in [path.resolve() for path in taken]:
        raise UserError(f"--html {str(flags['html_path'])!r} would write over a file of this command.")
    found = read_outcomes(sources, split=flags["split"])
    named = [text.partition("=") for text in flags["prices"]]
    return priced(found, {name: read_price(name, text) for name, _, text in named}) if named else found


def _named(found: Sequence[Outcome], flags: dict[str, Any]) -> list[str]:
    """The cascade of `--models`."""
    from pilotfish.core.errors import UserError

    names = [name.strip() for name in flags["models"].split(">")]
    if flags["small"] or flags["reference"]:
        raise UserError("--models names the whole cascade.", hint="Leave out --small and --reference, or --models.")
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(
            f"--models {flags['models']!r} is no cascade.",
            hint='Name two different models or more, the smallest first: --models "SMALL>REFERENCE".',
        )
    known = sorted({name for outcome in found for name in outcome.tried})
    for name in names:
        if name not in known:
            raise UserError(f"No outcome has the model {name!r}.", hint=f"Known models: {', '.join(known[:12])}.")
    return names


def _unseen(kept: RouteFile, found: Sequence[Outcome]) -> tuple[list[Outcome], list[str]]:
    """The outcomes that did not teach the route, and what is to be said of that."""
    from pilotfish.core.errors import DataError

    unseen, notes = kept.unseen(found), []
    if not kept.taught:
        notes.append("The file does not say what taught the route; of outcomes that did, these figures say too much.")
    elif n := len(found) - len(unseen):
        notes.append(f"{n:,} outcomes taught the route and are left out.")
    suited = [outcome for outcome in unseen if kept.route.suits(outcome)]
    if n := len(unseen) - len(suited):
        names = " and ".join(sorted({step.verifier for step in kept.route.steps if step.verifier}))
        notes.append(f"{n:,} outcomes were verified by another model than {names}, and are left out.")
        if not suited:
            raise DataError(f"The route reads what {names} says, and another model has verified all these outcomes.")
    return suited, notes


def _answered(route: Route, found: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes that have answers of all models of the route. Raises `DataError` where none has."""
    from pilotfish.core.errors import DataError

    answered = [outcome for outcome in found if all(name in outcome.tried for name in route.models)]
    if not answered:
        known = sorted({name for outcome in found for name in outcome.tried})
        raise DataError(
            f"No outcome has answers of all models of the route: {', '.join(route.models)}.",
            hint=f"Known models: {', '.join(known[:12])}.",
        )
    return answered


def _learnt(found: Sequence[Outcome], flags: dict[str, Any]) -> tuple[Route, list[Outcome]]:
    """A route that some of the outcomes teach, and the others; nothing is promised, so no attempt is spent."""
    from pilotfish.core.certificate import Claim
    from pilotfish.guarantees.route_attempt import Wanted, attempt_route

    wanted = Wanted(models=tuple(_named(found, flags)), claim=Claim(max_risk=flags["margin"], per="loss"))
    with output.Progress() as progress:
        made = attempt_route(found, wanted, encoder=route_encoder.named(flags["encoder"]), progress=progress)
    return replace(made.route, threshold=None), list(made.calibration)


def _attempts(path: Path, workload: str, models: Sequence[str]) -> int:
    """How many attempts at this workload the file that will be written over has seen."""
    if not path.is_file():
        return 0
    from pilotfish.guarantees.route_file import RouteFile

    kept = RouteFile.load(path)
    return kept.attempts if kept.route.models == tuple(models) and kept.workload == workload else 0


def _trails(route: Route, found: Sequence[Outcome], route_path: Path | None, flags: dict[str, Any]) -> list[Trail]:
    from pilotfish.guarantees.route_attempt import trails

    return trails(route, found, route_encoder.of_route(route, route_path, flags["encoder"]))


def _cross_validated(pair: Pair, flags: dict[str, Any]) -> tuple[list[Ranking], str]:
    """What a route learnt from these very outcomes would be worth, out of fold; none, and why, where there are too few
    of them."""
    from pilotfish.evals.routed import Ranking
    from pilotfish.guarantees.route_attempt import of_one_verifier
    from pilotfish.routing.learn import Material, learn
    from pilotfish.routing.reader import Frozen

    found = of_one_verifier(pair.outcomes, [pair.small])
    encoded = route_encoder.named(flags["encoder"])
    reader = None
    if encoded is not None:
        embeddings = encoded.embed([outcome.prompt for outcome in found])
        reader = Frozen(found, embeddings, encoded.sha256)
    material = Material(outcomes=found, smaller=pair.small, larger=pair.reference, reader=reader)
    with output.Progress() as progress:
        learnt = learn(material, progress=progress)
    if not learnt.needs:
        return [], learnt.why_none
    name = f"learnt from the {learnt.kind}, cross-validated"
    reads_answer = learnt.kind != "prompt"
    return [
        Ranking(name=name, needs=learnt.needs, reads_answer=reads_answer, is_control=False, n_tried=learnt.n_tried)
    ], ""


def _show(
    sentence: str,
    tables: Sequence[Table],
    document: dict[str, Any],
    flags: dict[str, Any],
    charted: Report | None = None,
) -> None:
    if flags["html_path"] is not None:
        from pilotfish.evals.routed_page import render

        flags["html_path"].write_text(render(sentence, tables, charted), "utf-8")
    if flags["as_json"]:
        output.print_json(document)
        return
    click.echo(sentence)
    for table in tables:
        output.print_titled(table)
    if flags["html_path"] is not None:
        click.echo(f"\nThe report with its charts: {flags['html_path']}")
