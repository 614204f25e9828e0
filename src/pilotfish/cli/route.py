"""`pilotfish route`: should a smaller model answer some open-ended requests, which, and what does that cost?

`train` learns a route from outcomes and certifies or refuses it, `evaluate` says what any way of choosing is worth
beside its controls, `simulate` what a month would have cost. Nobody is called: all three read recorded outcomes. Exit
code 1 where the honest answer is not to route.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilotfish.cli import options, output, route_encoder, route_live

if TYPE_CHECKING:
    from pilotfish.core.certificate import Certificate, Refusal
    from pilotfish.core.outcome import Outcome
    from pilotfish.evals.routed import Pair, Ranking
    from pilotfish.evals.routed_report import Report
    from pilotfish.evals.tables import Table
    from pilotfish.guarantees.route_attempt import Encoded, Finetuning, RouteAttempt
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
    from pilotfish.guarantees.route_attempt import Wanted, attempt_route
    from pilotfish.replay.month import spent_usd

    if flags["outcomes"]:
        found = _outcomes(flags["outcomes"], flags)
    else:
        found = route_live.logged(flags["config_path"], flags["home"])
    if flags["models"]:
        models = _named(flags)
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
    spent = number if made.verdict.delta_spent > 0 else number - 1
    written = {
        "workload": flags["workload"],
        "attempts": spent,
        "spent_usd": spent_usd(found, models),
        "route": made.route.to_json(),
        "verdict": made.verdict.to_json(),
    }
    route_encoder.keep(made.encoder, route_encoder.folder_of(out_path))
    _write(out_path, json.dumps(written, indent=1) + "\n")
    shutil.rmtree(route_encoder.unfinished(out_path), ignore_errors=True)
    by = Counter(one.tags["graded_by"] for one in found if "graded_by" in one.tags)
    tables = _of_attempt(made)
    sentence = _verdict(made)
    if by:
        sentence += f" Graded by: {'; '.join(f'{name} ({n:,})' for name, n in by.most_common())}."
    _show(sentence, tables, {"sentence": sentence, **written, "graded_by": by, "learnt": _learnt_json(made)}, flags)
    return 0 if isinstance(made.verdict, Certificate) else 1


@command.command("evaluate", help="What is a route, or any way of choosing, worth on these outcomes?")
@click.argument("route_path", metavar="[ROUTE]", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--on", "outcomes", multiple=True, required=True, help="Outcomes: a file or a folder.")
@click.option("--models", help="In place of ROUTE: learn this cascade from 40 % and judge it on the others.")
@_small
@_reference
@_margin
@_data_options
def evaluate(route_path: Path | None, **flags: Any) -> int:  # noqa: ANN401
    from pilotfish.evals import routed
    from pilotfish.evals.routed_report import report, tables
    from pilotfish.replay.routed import cascade, reached

    found = _outcomes(flags["outcomes"], flags)
    rankings: list[Ranking]
    at_threshold, verdict, whole = None, None, None
    if route_path is None and not flags["models"]:
        pair = routed.pair(found, flags["small"], flags["reference"])
        rankings = _cross_validated(pair, flags)
    else:
        route, verdict, found = _learnt(found, flags) if route_path is None else (*_load(route_path), found)
        found = [outcome for outcome in found if _answers(route, outcome)]
        pair = routed.pair(found, route.steps[0].model, route.reference)
        rows = _trails(route, found, route_path, flags)
        name = "the route" if len(route.steps) == 1 else "the route's first step"
        needs = [row.needs[0] for row in rows]
        rankings = [routed.Ranking(name=name, needs=needs, reads_answer=route.steps[0].reads_answer, is_control=False)]
        at_threshold = reached(pair, route, rows)
        if len(route.steps) > 1:
            whole = cascade([*(step.model for step in route.steps), route.reference], rows)
    said = report(pair, rankings, margin=flags["margin"], reached=at_threshold, verdict=verdict)
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
def simulate(route_path: Path, **flags: Any) -> int:  # noqa: ANN401
    from pilotfish.replay.month import simulate as month_of

    route, _ = _load(route_path)
    every = [outcome for outcome in _outcomes(flags["outcomes"], flags) if _answers(route, outcome)]
    month = month_of(
        route,
        _trails(route, every, route_path, flags),
        requests=flags["requests"],
        audit_rate=flags["audit_rate"],
        budget_usd_per_day=flags["budget"],
        learning_usd=json.loads(route_path.read_text("utf-8")).get("spent_usd"),
    )
    _show(month.sentence, [month.table()], month.to_json(), flags)
    return 0 if route.threshold is not None else 1


def _outcomes(sources: Sequence[str], flags: dict[str, Any]) -> list[Outcome]:
    from pilotfish.evals.money import read_price
    from pilotfish.evals.outcomes import priced, read_outcomes

    found = read_outcomes(sources, split=flags["split"])
    named = [text.partition("=") for text in flags["prices"]]
    return priced(found, {name: read_price(name, text) for name, _, text in named}) if named else found


def _load(path: Path) -> tuple[Route, Certificate | Refusal | None]:
    from pilotfish.core.certificate import Certificate, Refusal
    from pilotfish.routing.route import Route

    route = Route.load(path)
    verdict = json.loads(path.read_text("utf-8")).get("verdict")
    if verdict is None:
        return route, None
    return route, (Certificate if "bound" in verdict else Refusal).from_json(verdict)


def _named(flags: dict[str, Any]) -> list[str]:
    return [name.strip() for name in flags["models"].split(">")]


def _learnt(found: Sequence[Outcome], flags: dict[str, Any]) -> tuple[Route, None, list[Outcome]]:
    """A route that some of the outcomes teach, and the others; nothing is promised, so no attempt is spent."""
    from pilotfish.core.certificate import Claim
    from pilotfish.guarantees.route_attempt import Wanted, attempt_route

    wanted = Wanted(models=tuple(_named(flags)), claim=Claim(max_risk=flags["margin"], per="loss"))
    with output.Progress() as progress:
        made = attempt_route(found, wanted, encoder=route_encoder.named(flags["encoder"]), progress=progress)
    return replace(made.route, threshold=None), None, list(made.calibration)


def _attempts(path: Path, workload: str, models: Sequence[str]) -> int:
    """How many attempts at this workload the file that will be written over has seen."""
    if not path.is_file():
        return 0
    route, _ = _load(path)
    row = json.loads(path.read_text("utf-8"))
    is_same = [*(step.model for step in route.steps), route.reference] == list(models)
    return int(row.get("attempts", 0)) if is_same and row.get("workload", "") == workload else 0


def _write(path: Path, text: str) -> None:
    """The whole file or none of it."""
    temporary = path.with_name(f".{path.name}.writing")
    try:
        temporary.write_text(text, "utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _answers(route: Route, outcome: Outcome) -> bool:
    return all(name in outcome.tried for name in (*(step.model for step in route.steps), route.reference))


def _trails(route: Route, found: Sequence[Outcome], route_path: Path | None, flags: dict[str, Any]) -> list[Trail]:
    from pilotfish.core.errors import DataError
    from pilotfish.guarantees.route_attempt import trails

    if not found:
        models = ", ".join((*(step.model for step in route.steps), route.reference))
        raise DataError(f"No outcome has answers of all models of the route: {models}.")
    return trails(route, found, route_encoder.of_route(route, route_path, flags["encoder"]))


def _cross_validated(pair: Pair, flags: dict[str, Any]) -> list[Ranking]:
    """What a route learnt from these very outcomes would be worth, out of fold; none where there are too few."""
    from pilotfish.evals.routed import Ranking
    from pilotfish.routing.learn import Material, learn
    from pilotfish.routing.reader import Frozen

    encoded = route_encoder.named(flags["encoder"])
    reader = None
    if encoded is not None:
        embeddings = encoded.embed([outcome.prompt for outcome in pair.outcomes])
        reader = Frozen(pair.outcomes, embeddings, encoded.sha256)
    material = Material(outcomes=pair.outcomes, smaller=pair.small, larger=pair.reference, reader=reader)
    with output.Progress() as progress:
        learnt = learn(material, progress=progress)
    if not learnt.needs:
        return []
    name = f"learnt from the {learnt.kind}, cross-validated"
    return [Ranking(name=name, needs=learnt.needs, reads_answer=learnt.kind != "prompt", is_control=False)]


def _verdict(made: RouteAttempt) -> str:
    from pilotfish.core.certificate import Certificate

    if isinstance(made.verdict, Certificate):
        claim = made.verdict.claim
        return (
            f"Certified: {100 * made.verdict.coverage:.1f} % of requests stay with the smaller model, and the loss "
            f"against always {made.route.reference} is at most {100 * claim.max_risk:g} points with "
            f"{100 * claim.confidence:g} % confidence (n = {made.verdict.n:,}, attempt {made.verdict.attempt})."
        )
    passing = made.verdict.passing_risk
    beside = "" if passing is None else f" A loss of {100 * passing:g} points could be proven with these."
    return f"Not certified, so everything goes to {made.route.reference}. {made.verdict.message}{beside}"


def _of_attempt(made: RouteAttempt) -> list[Table]:
    """Which signals are used at each step, and why the others are not."""
    from pilotfish.evals.tables import Table

    found = []
    for step, learnt in zip(made.route.steps, made.learnt, strict=True):
        rows = [
            [
                worth.name,
                worth.cost,
                "-" if worth.apgr is None else f"{worth.apgr:.3f}",
                "-" if worth.p is None else f"{worth.p:.2g}",
                "yes" if worth.is_used else worth.why_not,
            ]
            for worth in learnt.worths
        ]
        apgr = "-" if learnt.apgr is None else f"{learnt.apgr:.3f}"
        note = learnt.why_none or f"Learnt from the {learnt.kind}; out of fold APGR {apgr}, p = {learnt.p:.2g}."
        if step.reads_answer:
            read = f"The first {step.prefix} tokens of an answer decide" if step.prefix else "The whole answer decides"
            note += f" {read}."
        found.append(
            Table(
                title=f"{step.model}: signals on {made.n_fit:,} outcomes",
                columns=["signal", "cost", "APGR", "p (Holm)", "used"],
                rows=rows,
                notes=[note],
            )
        )
    return found


def _learnt_json(made: RouteAttempt) -> list[dict[str, Any]]:
    return [
        {
            "model": step.model,
            "kind": learnt.kind,
            "prefix": step.prefix,
            "apgr": learnt.apgr,
            "p": learnt.p,
            "why_none": learnt.why_none,
            "signals": [
                {
                    "name": worth.name,
                    "apgr": worth.apgr,
                    "p": worth.p,
                    "is_used": worth.is_used,
                    "why_not": worth.why_not,
                }
                for worth in learnt.worths
            ],
        }
        for step, learnt in zip(made.route.steps, made.learnt, strict=True)
    ]


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
