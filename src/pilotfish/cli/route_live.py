"""`pilotfish route adopt`, `outcomes` and `withdraw`: from what the gateway has collected to a route that decides live.

`outcomes` grades the pairs of the log and writes them where `route train` reads them; `adopt` lets a certified route
decide in a home's gateway, `withdraw` ends it. The judge is asked, and so costs money, only where it is called for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.cli import options, output, route_encoder

if TYPE_CHECKING:
    from pilotfish.config.settings import Settings
    from pilotfish.core.outcome import Outcome
    from pilotfish.evals.logged_outcomes import Pair, Scores
    from pilotfish.store.base import LogWriter


@click.command("adopt", help="Let the certified route in ROUTE decide in the gateway of this home.")
@click.argument("route_path", metavar="ROUTE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@options.place_options
@options.json_option
def adopt(route_path: Path, config_path: Path | None, home: Path | None, as_json: bool) -> int:
    from pilotfish.config import load
    from pilotfish.core.certificate import Certificate
    from pilotfish.core.errors import SpecialistError
    from pilotfish.gateway.live_route import LiveRoute
    from pilotfish.guarantees.loss import threshold_of
    from pilotfish.guarantees.route_file import RouteFile
    from pilotfish.store.build import adopting, open_routes

    settings = options.settings_from(config_path, home)
    kept = RouteFile.load(route_path)
    route, certificate = kept.route, kept.verdict
    if not isinstance(certificate, Certificate):
        why = "" if certificate is None else f" {certificate.message}"
        click.echo(f"{route_path.name} is not certified, so it decides nothing.{why}")
        return 1
    if certificate.artefact_sha256 != route.id or threshold_of(certificate) != route.threshold:
        raise SpecialistError(f"The certificate in {route_path.name} is about another route.")
    home_folder = load.home(settings)
    routes = open_routes(home_folder)
    try:
        with adopting(home_folder):
            try:
                route_encoder.take(route, route_path, home_folder, settings)
                routes.adopt(certificate, route.to_json())
            finally:
                # That of a route that was refused goes as well.
                n_dropped = route_encoder.drop_unused(home_folder, routes.newest())
        why_none = LiveRoute(routes, settings.routing, reference=settings.large.model, models=settings.models).why_none
    finally:
        routes.close()
    models = [step.model for step in route.steps]
    said = {
        "route": route.id,
        "certificate": certificate.id,
        "models": models,
        "reference": route.reference,
        "why_none": why_none or None,
        "encoders_deleted": n_dropped,
    }
    if as_json:
        output.print_json(said)
        return 0
    click.echo(f"Adopted: {' > '.join([*models, route.reference])} under certificate {certificate.id}.")
    if n_dropped:
        click.echo("The encoder of the earlier route is deleted from the home: that route never comes back.")
    if why_none:
        click.echo(f"It decides nothing with these settings: {why_none}.")
    return 0


@click.command("withdraw", help="End the route that decides in the gateway of this home, for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.place_options
def withdraw(yes: bool, config_path: Path | None, home: Path | None) -> int:
    from pilotfish.config import load
    from pilotfish.store.build import open_routes

    routes = open_routes(load.home(options.settings_from(config_path, home)))
    try:
        newest = routes.newest()
        if newest is None or newest.withdrawn_s is not None:
            click.echo("No route is in force.")
            return 1
        name = newest.certificate.task_name
        if not yes:
            click.confirm(f"End the route {name}? Its certificate cannot be used again.", abort=True)
        routes.withdraw(newest.certificate.id, "Withdrawn by hand.")
    finally:
        routes.close()
    click.echo(f"The route {name} is withdrawn; everything goes to the large model.")
    return 0


@click.command("outcomes", help="Grade the pairs that the gateway has collected, and write them for `route train`.")
@click.option("--out", "out_path", required=True, type=options.NewFile(), help="Write the outcomes to FILE (JSONL).")
@click.option("--judge", is_flag=True, help="Ask [routing] judge about pairs it has not graded; two calls each.")
@click.option("--clients", type=click.IntRange(1), default=8, show_default=True, help="Pairs judged at a time.")
@click.option("--scorer", "scorer_name", help="Grade by this scorer, which takes the large model's answer for right.")
@click.option("--ignore-marks", is_flag=True, help="Grade as if no user had marked an answer.")
@options.place_options
@options.json_option
def outcomes(**flags: Any) -> int:  # noqa: ANN401
    from pilotfish.config import load
    from pilotfish.core.errors import UserError
    from pilotfish.evals import logged_outcomes
    from pilotfish.evals.outcomes import to_row
    from pilotfish.store.build import open_log, open_writer

    out_path: Path = flags["out_path"]
    judge: bool = flags["judge"]
    scorer_name: str | None = flags["scorer_name"]
    settings = options.settings_from(flags["config_path"], flags["home"])
    folder, models = load.home(settings), settings.routing.models
    if judge and scorer_name:
        raise UserError("Pairs are graded by the judge or by a scorer, not by both.")
    if not models:
        raise UserError("[routing] models names no smaller model, so there are no pairs.")
    found = logged_outcomes.pairs(open_log(folder), models, settings.large.model)
    if scorer_name:
        scores = _scored(found, scorer_name)
    elif judge:
        writer = open_writer(folder)
        try:
            scores = asyncio.run(_judged(found, settings, writer, flags["clients"]))
        finally:
            writer.close()
        found = logged_outcomes.pairs(open_log(folder), models, settings.large.model)
    else:
        scores = logged_outcomes.judged(found)
    by = f"scorer {scorer_name}" if scorer_name else "judge"
    graded = logged_outcomes.outcomes(found, scores, by, heeds_marks=not flags["ignore_marks"])
    if graded:
        # An earlier file is not written over with nothing.
        out_path.write_text("".join(json.dumps(to_row(one)) + "\n" for one in graded), "utf-8")
    same, n_marked = logged_outcomes.agreement(found, scores)
    said = {
        "outcomes": len(graded),
        "not_graded": len(found) - len(graded),
        "collected_usd": _total([pair.collected_usd for pair in found]),
        "judged_usd": _total([pair.graded_usd for pair in found]),
        "marked_by_users": n_marked,
        "agreeing_with_users": same,
        "changed_by_users": sum(one.tags[logged_outcomes.GRADED_BY] != by for one in graded),
    }
    if flags["as_json"]:
        output.print_json(said)
    else:
        _tell(said, out_path)
    return 0 if graded else 1


def logged(config_path: Path | None, home: Path | None) -> list[Outcome]:
    """What a home's judge and users have graded, for `route train`. Raises `UserError` where that is nothing."""
    from pilotfish.config import load
    from pilotfish.core.errors import UserError
    from pilotfish.evals import logged_outcomes
    from pilotfish.store.build import open_log

    settings = options.settings_from(config_path, home)
    if not settings.routing.models:
        raise UserError("[routing] models names no smaller model, so there are no pairs.", hint="Or name a file.")
    found = logged_outcomes.pairs(open_log(load.home(settings)), settings.routing.models, settings.large.model)
    graded = logged_outcomes.outcomes(found, logged_outcomes.judged(found), "judge")
    if not graded:
        raise UserError(
            f"Of {len(found):,} pairs in the log none is graded.",
            hint="Let the judge grade them: pilotfish route outcomes --judge --out FILE.",
        )
    return graded


async def _judged(found: Sequence[Pair], settings: Settings, writer: LogWriter, clients: int) -> Scores:
    """The judge's scores, those of the log first; what is new is written to the log as it comes.

    Where the judge fails, what others have asked it is heard to its end before that is raised: it is paid for.
    """
    from pilotfish.core.errors import ConfigError, ModelError
    from pilotfish.core.log_row import GradeRow
    from pilotfish.evals.load_shape import LoadShape, drive
    from pilotfish.evals.pair_judge import REFERENCE, grade
    from pilotfish.models.build import further_models, large_model

    name = settings.routing.judge
    if not name:
        raise ConfigError("[routing] judge is missing: which model grades?")
    model = large_model(settings.large) if name == settings.large.model else further_models(settings)[name]
    scores: dict[str, Mapping[str, float]] = {
        pair.request_id: known for pair in found if (known := pair.grades.get("judge", {})).keys() >= pair.tried.keys()
    }
    failed: list[ModelError] = []

    async def work(pair: Pair, _due_s: float) -> None:
        if failed:
            return
        reference = pair.tried[pair.reference].text or ""
        try:
            given = {
                smaller: await grade(model, pair.prompt, tried.text, reference)
                for smaller, tried in pair.smaller().items()
            }
        except ModelError as error:
            failed.append(error)
            return
        own = {**{smaller: graded.value for smaller, graded in given.items()}, pair.reference: REFERENCE}
        row = GradeRow(
            request_id=pair.request_id,
            source="judge",
            time_s=time.time(),
            scores=json.dumps(own),
            cost_usd=_total([graded.cost_usd for graded in given.values()]),
        )
        writer.append(row)
        scores[pair.request_id] = own
        progress("judging", len(scores), len(found))

    waiting = [pair for pair in found if pair.request_id not in scores]
    async with contextlib.aclosing(model):
        with output.Progress() as progress:
            progress("judging", len(scores), len(found))
            await drive(waiting, work, LoadShape(clients=clients))
    if failed:
        raise failed[0]
    return scores


def _scored(found: Sequence[Pair], name: str) -> Scores:
    from pilotfish.core.item import Item
    from pilotfish.scoring.scorers import scorer

    score = scorer(name)
    scores: dict[str, dict[str, float]] = {}
    for pair in found:
        expected = pair.tried[pair.reference].text or ""
        item = Item(id=pair.request_id, messages=[], expected=expected, tags={})
        scores[pair.request_id] = {one: score(item, tried.text or "").value for one, tried in pair.smaller().items()}
        scores[pair.request_id][pair.reference] = 1.0
    return scores


def _total(costs: Sequence[float | None]) -> float | None:
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def _tell(said: dict[str, Any], path: Path) -> None:
    def usd(value: float | None) -> str:
        return "unknown" if value is None else f"${value:.6f}"

    ask = " Let the judge grade them: --judge." if said["not_graded"] else ""
    if said["outcomes"]:
        click.echo(
            f"{said['outcomes']:,} outcomes written to {path}; {said['not_graded']:,} pairs are not graded.{ask}"
        )
    elif said["not_graded"]:
        click.echo(f"Nothing written: none of {said['not_graded']:,} pairs is graded.{ask}")
    else:
        click.echo("Nothing written: no smaller model has answered a request yet ([routing] collect, or audits).")
    click.echo(f"Cost of finding out: collecting {usd(said['collected_usd'])}, judging {usd(said['judged_usd'])}.")
    if said["marked_by_users"]:
        click.echo(
            f"Of {said['marked_by_users']:,} answers that users marked, {said['agreeing_with_users']:,} agree with the "
            f"grades; {said['changed_by_users']:,} outcomes were changed to what the marks leave possible."
        )
