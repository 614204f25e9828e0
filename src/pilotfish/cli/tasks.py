"""`pilotfish tasks`: what recurs in my log, and what is decided about it. Looking changes no promise."""

from __future__ import annotations

from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.guarantees.audit import Audit
from pilotfish.guarantees.consistency import asked_again, from_json
from pilotfish.guarantees.drift import Drift
from pilotfish.guarantees.known import known_examples
from pilotfish.guarantees.new_answers import NewAnswers, new_since
from pilotfish.guarantees.pace import Pace
from pilotfish.stats import binomial
from pilotfish.store.base import Registry, TaskCount, TaskRecord
from pilotfish.store.home import open_home
from pilotfish.tasks.find import MAX_ROWS, find_tasks


@click.command("tasks", help="What recurs in my log: name, share, answer shape, mode, coverage, certificate.")
@options.place_options
@options.json_option
def command(config_path: Path | None, home: Path | None, as_json: bool) -> int:
    settings = options.settings_from(config_path, home)
    place = open_home(load.home(settings), settings.learning)
    # Rows logged before a template was known carry another task's id, so requests are counted by the survey.
    n_requests = {task.id: task.n_requests for task in find_tasks(place)}
    counts = place.log.task_counts()
    total = min(MAX_ROWS, sum(count.n_requests for count in counts))
    counted = {count.task_id: count for count in counts}
    records = place.registry.tasks()
    known = known_examples(place)
    found = [
        {
            **_task(place.registry, record, n_requests.get(record.task_id, 0), counted.get(record.task_id), total),
            **_watched(place.registry, record, settings.quality.audit_rate),
            "new_answers": _new_answers(new_since(record, known.get(record.task_id, []))),
            "consistency": asked_again(known.get(record.task_id, [])).to_json() if record.shape.is_closed else None,
        }
        for record in records
    ]
    found.sort(key=lambda task: -int(str(task["requests"])))
    if as_json:
        output.print_json({"requests": total, "tasks": found})
    elif not total:
        click.echo("The log is empty. Send requests through `pilotfish serve`, then look again.")
    elif not found:
        click.echo(f"{total:,} requests, but none of their instructions recurs often enough to be a task yet.")
    else:
        _print(found)
        _print_watched(found)
        _print_new_answers(found)
    return 0 if found else 1


def _task(registry: Registry, record: TaskRecord, n: int, count: TaskCount | None, total: int) -> dict[str, object]:
    certificate = registry.certificate(record.certificate_id) if record.certificate_id else None
    verdicts = registry.verdicts(record.task_id)
    last = verdicts[-1] if verdicts else None
    return {
        "name": record.name,
        "id": record.task_id,
        "requests": n,
        "share": n / total if total else 0.0,
        "answer_shape": record.shape.kind,
        "question": record.shape.question,
        "fields": [field.summary for field in record.shape.fields],
        "why_open": record.shape.why_open or None,
        "mode": record.mode,
        "is_held": record.is_held,
        "answered_locally": count.n_local if count else 0,
        "answered_by_first_tier": count.n_first if count else 0,
        "certified_coverage": certificate.coverage if certificate is not None else None,
        "certificate": certificate.to_json() if isinstance(certificate, Certificate) else None,
        "refusal": last.to_json() if isinstance(last, Refusal) and certificate is None else None,
    }


def _watched(registry: Registry, record: TaskRecord, audit_rate: float | None) -> dict[str, object]:
    """What audits and scores say about the promise of a task that serves."""
    certificate = registry.certificate(record.certificate_id) if record.mode == "serve" else None
    if certificate is None:
        return {"audits": None, "drift": None}
    audit = Audit.from_json(record.audit_state) if record.audit_state else Audit.start(certificate)
    drift = Drift(certificate, audit_rate).take_over(record.drift_state)
    pace = Pace.from_json(record.pace or {})
    audits = {"n": audit.n, "differed": audit.losses, "rate": pace.coin(drift.coin)}
    return {
        "audits": {**audits, "message": audit.evidence(drift.rate)},
        "drift": {**drift.details(), "message": drift.sentence()},
    }


def _new_answers(new: NewAnswers) -> list[dict[str, object]]:
    """The values that the task's specialist does not know, seen at least twice since it was taught."""
    return [
        {"field": field, "value": value, "answers": n, "share": n / new.n_known} for field, value, n in new.listed()
    ]


def _print(found: list[dict[str, object]]) -> None:
    rows = []
    for task in found:
        share, coverage = task["share"], task["certified_coverage"]
        certificate, refusal = task["certificate"], task["refusal"]
        said = "-"
        if isinstance(certificate, dict):
            said = (
                f"{certificate['id']}: risk per {certificate['claim']['per']} <= {certificate['claim']['max_risk']:g}"
            )
            if "first" in certificate:
                said += f", first tier {output.percent(certificate['first']['n_served'] / certificate['n'], 0)}"
        elif isinstance(refusal, dict):
            said = str(refusal["message"])
        elif task["why_open"]:
            said = f"only observed: {task['why_open']}"
        rows.append(
            [
                task["name"],
                task["requests"],
                output.percent(share if isinstance(share, float) else None),
                task["answer_shape"],
                f"{task['mode']} (held)" if task["is_held"] else task["mode"],
                output.percent(coverage if isinstance(coverage, float) else None),
                _self(task["consistency"]),
                output.shorten(said, 80),
            ]
        )
    output.print_table(
        ["task", "requests", "share", "answers", "mode", "coverage", "differs from itself", "certificate"], rows
    )


def _self(consistency: object) -> str | None:
    """How often the large model differs from itself, with the exact interval and how many requests were asked twice."""
    repeated = from_json(consistency) if isinstance(consistency, dict) else None
    if repeated is None or not repeated.asked:
        return None
    low, high = binomial.clopper_pearson(repeated.differed, repeated.asked)
    return f"{output.percent(repeated.share)} ({100 * low:.1f} to {100 * high:.1f}), n = {repeated.asked:,}"


def _print_watched(found: list[dict[str, object]]) -> None:
    """Two lines a task that serves."""
    for task in found:
        for what in ("audits", "drift"):
            said = task[what]
            if isinstance(said, dict):
                click.echo(f"{task['name']}, {what}: {said['message']}")


def _print_new_answers(found: list[dict[str, object]]) -> None:
    """One line a task that has any, the most frequent three."""
    for task in found:
        new = task["new_answers"]
        if isinstance(new, list) and new:
            named = ", ".join(
                f"{item['field']}{' = ' * bool(item['field'])}{item['value']} "
                f"({item['answers']:,}, {output.percent(item['share'])})"
                for item in new[:3]
            )
            more = f" and {len(new) - 3:,} more" if len(new) > 3 else ""
            click.echo(f"New answers since {task['name']} was taught: {named}{more}.")
