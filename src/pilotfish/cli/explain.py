"""`pilotfish explain REQUEST`: the receipt of one request, in words.

Everything comes from the log and the registry as they were written then; nothing is decided again, so an explanation
stays true after the task has moved on.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.core.certificate import Certificate
from pilotfish.core.errors import TaskError
from pilotfish.core.log_row import AuditRow, RepeatRow, RequestRow
from pilotfish.core.receipt import REASONS, TIERS


@click.command("explain", help="Why did this model answer REQUEST (an x-pilotfish-request-id)?")
@click.argument("request")
@options.place_options
@options.json_option
def command(request: str, config_path: Path | None, home: Path | None, as_json: bool) -> None:
    place = options.home_from(config_path, home)
    row = place.log.row(request)
    if row is None:
        raise TaskError(f"The log holds no request {request!r}.", hint="`pilotfish log list` shows the newest ids.")
    audit, again = place.log.audit(request), place.log.repeats(request)
    tried, grades = place.log.tried(request), place.log.grades(request)
    certificate = place.registry.certificate(row.certificate_id) if row.certificate_id else None
    if as_json:
        output.print_json(
            {
                "request": dataclasses.asdict(row),
                "why": REASONS[row.reason],
                "audit": dataclasses.asdict(audit) if audit else None,
                "repeats": [dataclasses.asdict(item) for item in again],
                "tried": [dataclasses.asdict(item) for item in tried],
                "grades": [dataclasses.asdict(item) for item in grades],
                "certificate": certificate.to_json() if certificate else None,
            }
        )
        return
    record = place.registry.task(row.task_id) if row.task_id else None
    for line in _lines(row, record.name if record else row.task_id, audit, certificate):
        click.echo(line)
    for item in again:
        click.echo(_repeat(item))
    for grade in grades:
        said = ", ".join(f"{model} {score:g}" for model, score in json.loads(grade.scores).items())
        click.echo(f"graded by {grade.source}: {said}")


def _lines(row: RequestRow, task: str, audit: AuditRow | None, certificate: Certificate | None) -> list[str]:
    lines = [
        f"{row.request_id} at {output.moment(row.time_s)} UTC, HTTP {row.status}, {1000 * row.latency_s:.1f} ms",
        f"answered by {row.model}: {row.reason} ({REASONS[row.reason]})",
    ]
    lines += _server(row)
    lines += _route(row)
    if row.key_id is not None:
        lines.append(f"key: {row.key_id}")
    if row.error:
        lines.append(f"error: {row.error}")
    if task:
        lines.append(f"task: {task}, mode {row.mode}")
    if row.certainty is not None and row.scope is not None:
        tier = row.tier or 2
        gates = ""
        if certificate is not None:
            needs = certificate.first if tier == 1 and certificate.first is not None else certificate
            gates = f" (needs certainty >= {needs.min_certainty:.4f} and scope >= {needs.min_scope:.4f})"
        lines.append(f"specialist: tier {tier} ({TIERS[tier]})")
        lines.append(f"specialist: certainty {row.certainty:.4f}, scope {row.scope:.4f}{gates}")
    if row.local_answer is not None:
        lines.append(f"specialist said: {output.shorten(row.local_answer, 100)}")
    if row.reference_answer is not None:
        lines.append(f"reference said: {output.shorten(row.reference_answer, 100)}")
    if certificate is not None:
        lines.append(output.promise(certificate))
    chance = f" (chosen with probability {row.probability:g})" if row.sampling == "audit" else ""
    lines.append(f"sampling: {row.sampling}{chance}" + (", audited afterwards" if audit is not None else ""))
    lines.append(_cost(row))
    lines.append(f"input: {output.shorten(row.input, 100) if row.input is not None else '(not kept)'}")
    lines.append(f"answer: {output.shorten(row.answer, 100) if row.answer is not None else '(not kept or no text)'}")
    return lines


def _route(row: RequestRow) -> list[str]:
    """What a route decided by, whom it asked, and what that cost; nothing where none did."""
    if not row.route:
        return []
    said = json.loads(row.route)
    lines = []
    if said["why"]:
        need = "unknown" if said["need"] is None else f"{said['need']:.4f}"
        lines.append(f"route {said['route']}: {said['why']}; need {need}, kept up to {said['threshold']:.4f}")
    used = [f"{name} {'unknown' if value is None else f'{value:.4f}'}" for name, value in said["signals"].items()]
    if used:
        lines.append(f"signals: {', '.join(used)}; not used: {', '.join(said['not_used'])}")
    if said.get("prefix"):
        lines.append(f"decided on the first {said['prefix']} tokens")
    for late in said.get("late", ()):
        lines.append(f"gave up {late['model']} after {late['waited_s']:.3g} s: nothing had come of its answer")
    if said.get("left_alone"):
        lines.append(f"did not ask {said['left_alone']}: it had been given up several times in a row")
    for asked in said["asked"]:
        cost = "unknown" if asked["cost_usd"] is None else f"${asked['cost_usd']:.6f}"
        ended = "" if asked.get("is_whole", True) else ", ended before its answer was whole"
        lines.append(f"asked {asked['model']}: {1000 * asked['latency_s']:.1f} ms, cost {cost}{ended}")
    return lines


def _server(row: RequestRow) -> list[str]:
    """Which server answered, at which try; nothing where none was asked."""
    if not row.tries:
        return []
    tries = "at the first try" if row.tries == 1 else f"after {row.tries} tries"
    return [f"server: {row.server}, {tries}" if row.status == 200 else f"server asked last: {row.server}, {tries}"]


def _cost(row: RequestRow) -> str:
    tokens = "unknown" if row.prompt_tokens is None else f"{row.prompt_tokens:,} in, {row.completion_tokens:,} out"
    cost = "unknown" if row.cost_usd is None else f"${row.cost_usd:.6f}"
    if row.cost_usd:
        cost += f" (price: {output.shorten(row.price_source, 100) or 'its source was not stated'})"
    return f"tokens: {tokens}; cost {cost}"


def _repeat(item: RepeatRow) -> str:
    asker = "the sample" if item.is_sampled else "the audit"
    said = output.shorten(item.reference_answer, 100) if item.is_answered else item.error or "no answer has come"
    return f"asked again for {asker}: {said}"
