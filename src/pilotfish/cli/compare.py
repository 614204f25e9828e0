"""`pilotfish compare MODEL... --on DATA`: measure models side by side on the user's own task, and say which is better.

The first model is the baseline. Flags in, a run and a `Report` out, as a table, JSON, Markdown or a page; what the
figures and verdicts mean is known to `evals/`. Exit code 1 where no candidate got a verdict: the data does not suffice.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.cli import options, output
from pilotfish.core.errors import ConfigError
from pilotfish.core.version import __version__

if TYPE_CHECKING:
    from pilotfish.core.item import Item
    from pilotfish.evals.candidates import Candidate, Place
    from pilotfish.evals.data import DataSet
    from pilotfish.evals.judge import Labels
    from pilotfish.evals.late_scores import LateScorer
    from pilotfish.evals.report import Report
    from pilotfish.evals.run import Options
    from pilotfish.evals.run_file import Head
    from pilotfish.evals.verdict import Rule
    from pilotfish.scoring.scorers import Scorer

RECORDED = "recorded"
AS_RECORDED = "as recorded"
VARIANTS = ("typos", "case", "names")


@click.command("compare", help="Which of these models is better on my data, and is the smaller one good enough?")
@click.argument("models", nargs=-1, required=True)
@click.option("--on", "source", required=True, help=f"The data: a file, a known set, or `{RECORDED}`.")
@click.option("--scorer", help="How answers are judged (default: what suits the data).")
@click.option(
    "--scorer-option", multiple=True, type=options.Named(), help="NAME=VALUE for the scorer, such as tolerance=0.1."
)
@click.option("--judge", help="Let this model judge each answer beside the expected one, in both orders.")
@click.option(
    "--human",
    "human_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="People's labels, to see how far to trust it.",
)
@options.items_options
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True, help="Ask every item so often.")
@options.margin_option
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.05,
    show_default=True,
    help="Chance of a wrong claim, over all candidates.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Say what these items can show, and ask nobody.")
@click.option("--discordance", type=click.FloatRange(0, 1, min_open=True), help="Expected share of differing items.")
@click.option("--clients", type=click.IntRange(1), default=1, show_default=True, help="Closed load: calls at a time.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Open load: calls per second, Poisson.")
@click.option("--warm-up", type=click.IntRange(0), default=1, show_default=True, help="Calls thrown away first.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds until a call counts as timed out.",
)
@click.option(
    "--slo", "limits", multiple=True, type=options.Named(), help="NAME=MS for ttft, tpot or end_to_end: goodput."
)
@click.option("--temperature", type=float, default=0.0, show_default=True, help="Sampling temperature of endpoints.")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest answer, in tokens.")
@click.option("--logprobs", is_flag=True, help="Ask endpoints how certain they are.")
@click.option("--key-env", default="", help="Environment variable with the key of URL#model endpoints.")
@click.option("--perturb", multiple=True, type=click.Choice(VARIANTS), help="Ask again with the text changed.")
@click.option(
    "--price", "prices", multiple=True, type=options.Named(), help="NAME=IN/OUT@SOURCE, USD per million tokens."
)
@click.option("--rent", "rents", multiple=True, type=options.Named(), help="NAME=USD an hour of its machine.")
@click.option("--estimate-energy", type=click.FloatRange(0, min_open=True), help="Watts; adds an estimate as such.")
@click.option("--run", "run_path", type=click.Path(path_type=Path, dir_okay=False), help="The run file.")
@click.option("--fresh", is_flag=True, help="Forget what the run file holds.")
@click.option("--seed", default=0, show_default=True, help="Seed of choices, resamples and arrival times.")
@click.option("--html", "html_path", type=options.NewFile(), help="Write a page to FILE.")
@click.option("--markdown", "markdown_path", type=options.NewFile(), help="Write Markdown to FILE.")
@options.place_options
@options.json_option
def command(models: tuple[str, ...], source: str, **flags: Any) -> int:  # noqa: ANN401
    flags["source"] = source
    from pilotfish.cli.compare_models import place_of
    from pilotfish.evals.candidates import candidate, distinct
    from pilotfish.evals.verdict import Rule

    settings = options.settings_from(flags["config_path"], flags["home"])
    rule = Rule(margin=flags["margin"], alpha=flags["alpha"], seed=flags["seed"])
    place = place_of(settings, flags)
    # Functions of the user's own are looked for beside the data, as `python -m` would.
    if "" not in sys.path:
        sys.path.insert(0, "")
    candidates = distinct([candidate(text, place) for text in models])
    data = _data(source, candidates, flags)
    items = [item for item in data.items if all(found.covers(item) for found in candidates)]
    if not items:
        raise ConfigError(
            f"No item of {data.name} is answered by every model.",
            hint="A recording answers by item id, or by the text that was asked.",
        )
    if flags["only_plan"]:
        return _plan(items, rule, len(candidates) - 1, flags)
    return _compare(data, items, candidates, rule, place, flags)


def _compare(
    data: DataSet,
    items: list[Item],
    candidates: list[Candidate],
    rule: Rule,
    place: Place,
    flags: dict[str, Any],
) -> int:
    from pilotfish.evals.kept_reports import keep
    from pilotfish.evals.latency import limits
    from pilotfish.evals.plan import plan
    from pilotfish.evals.report import Stated, report
    from pilotfish.evals.run import run
    from pilotfish.evals.run_file import RunFile, read_rows
    from pilotfish.scoring.scorers import scorer

    is_scored = all(found.kind == "recording" and found.recordings[0].is_scored for found in candidates)
    name, judged = (AS_RECORDED, scorer(data.default_scorer)) if is_scored else _scorer(data, place, flags)
    head = _head(data, items, name, flags)
    path = flags["run_path"] or place.home / "runs" / f"{Path(data.name).name}-{head.id}.jsonl"
    if flags["fresh"] and path.exists():
        read_rows(path)  # nothing but a run is forgotten
        path.unlink()
    stated = Stated(rents=_rents(flags), labels=_labels(flags), limits_s=limits(flags["limits"]))
    with RunFile(path, head) as file, output.Progress() as progress:
        if len(candidates) > 1:
            progress.say(plan(items, rule, n_candidates=len(candidates) - 1, repeats=flags["repeats"]).sentence)
        if file.n_found:
            progress.say(f"{file.n_found:,} answers are in {path} already; they are not asked again (--fresh does).")
        try:
            run(
                items,
                candidates,
                judged,
                file,
                _options(flags, rescores=not is_scored),
                progress,
            )
        except KeyboardInterrupt:
            progress.say(f"\n{len(file.answers):,} answers are kept in {path}; the same command goes on from there.")
            raise
        found = report(
            items,
            file,
            [model.name for model in candidates],
            rule,
            stated=stated,
            left_out=len(data.items) - len(items),
            command=shlex.join(["pilotfish", *sys.argv[1:]]),
        )
    found = replace(found, notes=[*found.notes, *data.notes])
    keep(found, place.home)
    return _show(found, flags)


def _scorer(data: DataSet, place: Place, flags: dict[str, Any]) -> tuple[str, Scorer | LateScorer]:
    """The scorer by its name and options: the one asked for, else what suits the data."""
    from pilotfish.cli.compare_models import judge_of
    from pilotfish.evals.late_scores import timely
    from pilotfish.scoring.scorers import scorer

    name = flags["scorer"] or data.default_scorer
    if flags["judge"]:
        if flags["scorer"] not in (None, "judge"):
            raise ConfigError(f"A judge was named, and the scorer {flags['scorer']!r}.", hint="Choose one of them.")
        return judge_of(flags["judge"], place)
    chosen = {option: _value(value) for option, value in flags["scorer_option"]}
    judged = timely(name, scorer(name, **chosen))
    return " ".join([name, *(f"{key}={value}" for key, value in chosen.items())]), judged


def _labels(flags: dict[str, Any]) -> Labels:
    from pilotfish.evals.judge import read_labels

    if flags["human_path"] is None:
        return {}
    if not flags["judge"]:
        raise ConfigError("--human is about a judge, and there is none.", hint="Name one: --judge MODEL.")
    return read_labels(flags["human_path"])


def _show(found: Report, flags: dict[str, Any]) -> int:
    from pilotfish.evals import markdown, page, tables

    if flags["html_path"] is not None:
        flags["html_path"].write_text(page.render(found), "utf-8")
    if flags["markdown_path"] is not None:
        flags["markdown_path"].write_text(markdown.render(found), "utf-8")
    if flags["as_json"]:
        output.print_json(found.to_json())
    else:
        for sentence in tables.headline(found):
            click.echo(sentence)
        for table in tables.tables(found):
            output.print_titled(table)
        click.echo(f"\nThe run: {found.run_path}")
    undecided = [comparison.verdict == "not enough data" for comparison in found.comparisons]
    return 1 if undecided and all(undecided) else 0


def _plan(items: list[Item], rule: Rule, n_candidates: int, flags: dict[str, Any]) -> int:
    from pilotfish.evals.plan import plan
    from pilotfish.evals.tables import plan_table

    found = plan(
        items, rule, n_candidates=max(1, n_candidates), repeats=flags["repeats"], discordance=flags["discordance"]
    )
    if flags["as_json"]:
        output.print_json(found.to_json())
    else:
        output.print_titled(plan_table(found))
    return 0 if any(row.is_enough for row in found.rows) else 1


def _data(source: str, candidates: list[Candidate], flags: dict[str, Any]) -> DataSet:
    from pilotfish.evals.data import load as load_data
    from pilotfish.evals.recordings import recorded_items

    if source == RECORDED:
        return recorded_items([recording for found in candidates for recording in found.recordings])
    return load_data(source, limit=flags["limit"], split=flags["split"] or "", seed=flags["seed"])


def _head(data: DataSet, items: list[Item], scorer: str, flags: dict[str, Any]) -> Head:
    from pilotfish.evals.perturb import prompts_sha
    from pilotfish.evals.run_file import Head

    longest = flags["max_tokens"] or "the server's"
    return Head(
        data=data.name,
        source=flags["source"],
        data_sha256=data.sha256,
        prompts_sha256=prompts_sha(items),
        scorer=scorer,
        n_items=len(items),
        sampling=f"temperature {flags['temperature']:g}, longest answer {longest}",
        environment={
            "pilotfish": __version__,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        },
    )


def _options(flags: dict[str, Any], *, rescores: bool) -> Options:
    from pilotfish.evals.load_shape import LoadShape
    from pilotfish.evals.run import Options

    shape = LoadShape(clients=flags["clients"], rate_per_s=flags["rate"], warm_up=flags["warm_up"], seed=flags["seed"])
    return Options(
        repeats=flags["repeats"],
        shape=shape,
        timeout_s=flags["timeout"],
        variants=flags["perturb"],
        estimate_watts=flags["estimate_energy"],
        seed=flags["seed"],
        rescores=rescores,
    )


def _value(text: str) -> object:
    """A number, a list or a truth value where it reads as JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _rents(flags: dict[str, Any]) -> dict[str, float]:
    try:
        return {model: float(usd) for model, usd in flags["rents"]}
    except ValueError as error:
        raise ConfigError(f"--rent expects NAME=USD an hour: {error}.") from error
