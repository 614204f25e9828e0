"""`pilotfish certify TASK`: show what is promised, recompute it, write it as a page, or plan a promise.

It prints what `guarantees/` finds and judges nothing itself. Only recomputing and planning need the numerical
libraries, so a certificate can be read where they are not installed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotfish.cli import options, output
from pilotfish.config.settings import Settings
from pilotfish.core.certificate import RISK_KINDS, WHOLE_KINDS, Certificate, Claim, Refusal
from pilotfish.core.errors import TaskError
from pilotfish.guarantees.consistency import from_json
from pilotfish.store.base import TaskRecord
from pilotfish.store.home import Home

if TYPE_CHECKING:
    from pilotfish.guarantees.plan import Plan
    from pilotfish.guarantees.verify import Recomputed

PLANNED_RISKS = (0.01, 0.02, 0.05, 0.1)


@click.command("certify", help="Show what is promised for TASK, recompute it, or say what a promise would need.")
@click.argument("task")
@click.option("--verify", "is_verified", is_flag=True, help="Recompute it from the log; exit 1 on any difference.")
@click.option(
    "--html",
    "html_path",
    type=options.NewFile(),
    help="Recompute it and, where nothing differs, write it as a page to FILE.",
)
@click.option("--certificate", "certificate_id", default="", help="An older certificate instead of the one in force.")
@click.option("--plan", "is_plan", is_flag=True, help="How many answers would promises need? Spends nothing.")
@options.promise_options
@options.place_options
@options.json_option
def command(
    task: str,
    is_verified: bool,
    html_path: Path | None,
    certificate_id: str,
    is_plan: bool,
    max_risk: float | None,
    confidence: float | None,
    per: str | None,
    config_path: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    flags = options.promise_flags(max_risk, confidence, per)
    if not is_plan and any(value is not None for value in flags.values()):
        raise click.UsageError("--max-risk, --confidence and --per go with --plan; a certificate has its own promise.")
    settings = options.settings_from(config_path, home, flags)
    place = options.home_from(config_path, home)
    if is_plan:
        return _plan(place, task, settings, as_json)
    record = options.find_task(place.registry, task)
    certificate = _certificate(place, record, certificate_id)
    if certificate is None:
        return _refused(place, record, as_json)
    found = (
        _recomputed(place, certificate_id or record.certificate_id, settings)
        if is_verified or html_path is not None
        else None
    )
    if html_path is not None and found is not None and found.rows is not None and not found.differences:
        from pilotfish.guarantees.page import render

        html_path.write_text(render(certificate, found.rows, settings.quality.audit_rate), "utf-8")
    _print(record, certificate, found, as_json)
    if found is not None and found.differences:
        return 1
    if html_path is not None and not as_json:
        click.echo(f"As a page: {html_path}")
    return 0


def _certificate(place: Home, record: TaskRecord, certificate_id: str) -> Certificate | None:
    wanted = certificate_id or record.certificate_id
    if not wanted:
        return None
    certificate = place.registry.certificate(wanted)
    if certificate is None or certificate.task_id != record.task_id:
        raise TaskError(f"Task {record.name!r} has no certificate {wanted!r}.")
    return certificate


def _recomputed(place: Home, certificate_id: str, settings: Settings) -> Recomputed:
    from pilotfish.guarantees.verify import recompute

    return recompute(place, certificate_id, options.encoder_from(settings))


def _print(record: TaskRecord, certificate: Certificate, found: Recomputed | None, as_json: bool) -> None:
    differences = [str(difference) for difference in found.differences] if found else []
    if as_json:
        shown = {"certificate": certificate.to_json(), "verified": found is not None and not differences}
        output.print_json({**shown, "differences": differences} if found else shown)
        return
    click.echo(f"{record.name}: {output.promise(certificate)}")
    click.echo(f"procedure: {certificate.procedure}\nsplit: {certificate.split_rule}\nagreement: {certificate.scorer}")
    for name, one in certificate.details.get("fields", {}).items():
        base = f"{certificate.n_served:,}"
        click.echo(f"field {name}: {one['errors']:g} of {base} differed, bound {output.percent(one['bound'], 2)}")
    if (repeated := from_json(certificate.details.get("consistency"))) is not None:
        click.echo(f"consistency: {repeated}")
    click.echo("it assumes: " + "\n            ".join(certificate.assumptions))
    for difference in differences:
        click.echo(f"DIFFERS: {difference}", err=True)
    if found and not differences:
        click.echo(f"Recomputed from the log and specialist {certificate.artefact_sha256[:16]}: no difference.")


def _refused(place: Home, record: TaskRecord, as_json: bool) -> int:
    verdicts = place.registry.verdicts(record.task_id)
    last = verdicts[-1] if verdicts else None
    if as_json:
        output.print_json({"certificate": None, "refusal": last.to_json() if isinstance(last, Refusal) else None})
    elif isinstance(last, Refusal):
        click.echo(f"{record.name}: not certified. {last.message}")
    elif last is not None:
        click.echo(f"{record.name}: nothing is promised now. Its last certificate, {last.id}, is no longer in force.")
    else:
        click.echo(f"{record.name}: never attempted. `pilotfish distil {record.name} --max-risk 0.02` tries.")
    return 1


def _plan(place: Home, task: str, settings: Settings, as_json: bool) -> int:
    from pilotfish.guarantees.known import known_examples
    from pilotfish.guarantees.plan import plan
    from pilotfish.tasks.find import find_tasks

    tasks = {found.id: found for found in find_tasks(place)}
    record = options.find_task(place.registry, task)
    if record.task_id not in tasks:
        raise TaskError(f"Task {record.name!r} no longer recurs in the log.")
    quality = settings.quality
    risks = sorted({*PLANNED_RISKS, *([] if quality.max_risk is None else [quality.max_risk])})
    kinds = RISK_KINDS if len(record.shape.fields) > 1 else WHOLE_KINDS
    claims = [Claim(max_risk=risk, confidence=quality.confidence, per=per) for risk in risks for per in kinds]
    with output.Progress() as bar:
        found = plan(
            tasks[record.task_id],
            known_examples(place, settings.consistency.n_votes).get(record.task_id, []),
            claims,
            number=place.registry.n_attempts(record.task_id) + 1,
            encoder=options.encoder_from(settings),
            fresh_since_s=(record.pace or {}).get("fresh_since_s"),
            progress=bar,
        )
    if as_json:
        output.print_json(
            {"task": record.name, **dataclasses.asdict(found), "consistency": found.consistency.to_json()}
        )
    else:
        _print_plan(record, found)
    return 0


def _print_plan(record: TaskRecord, found: Plan) -> None:
    click.echo(
        f"{record.name}: a student of today's answers agrees with the large model on {output.percent(found.agreement)} "
        f"of {found.n_scored:,} answers it did not learn from. Planned for attempt {found.attempt}; nothing spent.\n"
        f"Before any promise: {found.consistency}.\n"
    )
    output.print_table(
        ["max risk", "per", "answers needed", "coverage then", "answers now", "coverage now"],
        [
            [
                output.percent(need.claim.max_risk),
                need.claim.per,
                need.n_answers,
                output.percent(need.coverage if need.n_answers else None, 0),
                found.n_now,
                output.percent(need.coverage_now, 0),
            ]
            for need in found.needs
        ],
    )
    if any(need.n_answers is None for need in found.needs):
        click.echo(
            "\n-: at today's agreement no number of answers would do. The student learns from more of them, too."
        )
