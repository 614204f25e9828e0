"""The recognised tasks, and the page of one: what it is, what is promised or missing, what the audits say, what was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.log_row import RequestRow
from pilotfish.gateway.live_tasks import LiveTask
from pilotfish.gateway.site import charts, decisions, requests, savings, words
from pilotfish.gateway.site.figures import DEFAULT_DAYS
from pilotfish.gateway.site.page import Page, Seen, task_path
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.guarantees import kept_curve
from pilotfish.guarantees import page as certificate_page
from pilotfish.guarantees.audit import Audit
from pilotfish.guarantees.certify import promise
from pilotfish.pages.elements import Child, Html, element
from pilotfish.stats.sequence import Curve
from pilotfish.store.base import LogFilter, Period

MOST_TASKS = 500
N_EXAMPLES = 8
N_DIFFERING = 20
N_EVENTS = 50
N_VERDICTS = 20
_DAY_S = 86400
_WORDS = {
    "observe": "The large model answers everything; its answers are collected.",
    "shadow": "The specialist runs beside the large model, unseen.",
    "serve": "The specialist answers what both gates let pass, under its certificate.",
}


def tasks(seen: Seen) -> Page:
    """The list."""
    counted: dict[str, tuple[int, int]] = {}
    for row in seen.running.log.task_counts():
        n, n_local = counted.get(row.task_id, (0, 0))
        counted[row.task_id] = (n + row.n_requests, n_local + row.n_local)
    total = sum(n for n, _ in counted.values())
    lives = sorted(seen.running.tasks.all(), key=lambda live: -counted.get(live.record.task_id, (0, 0))[0])
    rows = [_row(seen, live, counted.get(live.record.task_id, (0, 0)), total) for live in lives[:MOST_TASKS]]
    columns = (
        Column(key="task", head="Task", show=lambda name: element("a", name, href=task_path(name))),
        Column(key="mode", head="Mode"),
        Column(key="answers", head="Answers"),
        Column(key="requests", head="Requests", show=words.count, is_number=True),
        Column(key="share", head="Of all", show=words.percent, is_number=True),
        Column(key="locally", head="Locally", show=words.percent, is_number=True),
        Column(key="coverage", head="Certified", show=words.percent, is_number=True),
        Column(key="said", head="Certificate, or what is missing", show=requests.short, is_text=True),
    )
    none = "No instructions recur often enough yet to be a task."
    table = Table(name="", caption="Recognised tasks", columns=columns, rows=rows, none=none)
    return Page(path="/tasks", title="Tasks", parts=(table.html("/tasks"),), tables=(table,))


def _row(seen: Seen, live: LiveTask, counted: tuple[int, int], total: int) -> dict[str, Any]:
    record, (n, n_local) = live.record, counted
    certificate = _certificate(seen, live)
    return {
        "task": record.name,
        "task_id": record.task_id,
        "mode": f"{live.mode} (held)" if record.is_held else live.mode,
        "answers": record.shape.kind,
        "requests": n,
        "share": n / total if total else None,
        "answered_locally": n_local,
        "locally": n_local / n if n else None,
        "coverage": certificate.coverage if certificate else None,
        "certificate_id": live.record.certificate_id or None,
        "max_risk": certificate.claim.max_risk if certificate else None,
        "said": _said(seen, live, certificate),
    }


def task(seen: Seen, name: str) -> Page | None:
    """The page of one task, by name or id; None where there is none."""
    running = seen.running
    live = running.tasks.find(name)
    if live is None:
        return None
    record, certificate = live.record, _certificate(seen, live)
    path = task_path(record.name)
    since_s = seen.now_s // _DAY_S * _DAY_S - (DEFAULT_DAYS - 1) * _DAY_S
    until_s = since_s + DEFAULT_DAYS * _DAY_S
    periods = running.log.periods(since_s, step_s=_DAY_S, task_id=record.task_id)
    newest = running.log.rows(LogFilter(task_id=record.task_id, newest_first=True, limit=N_EXAMPLES))
    examples = requests.of(seen, list(newest), name="examples", caption="The newest requests")
    differing = _differing(seen, running.log.differing(record.task_id, N_DIFFERING))
    evidence, verdicts, events = _evidence(periods), _verdicts(seen, live), _events(seen, live)
    charted = charts.agreement(periods, since_s, until_s, _DAY_S, certificate.claim.max_risk if certificate else None)
    parts: list[Child] = [
        element("p", _WORDS[live.mode], " Held by a person." if record.is_held else None, class_="claim"),
        decisions.buttons(seen, live),
        _facts(seen, live),
        element("h2", "Promise"),
        _promise(seen, live, certificate),
        element("h2", "Requests"),
        charts.traffic(periods, since_s, until_s, _DAY_S),
        element("h2", "What audits found"),
        _audits(live, certificate),
        charted,
        differing.html(path),
        examples.html(path),
        verdicts.html(path),
        events.html(path),
        evidence.html(path),
    ]
    tables = (evidence, differing, examples, verdicts, events)
    return Page(path=path, title=f"Task {record.name}", parts=tuple(parts), tables=tables)


def _certificate(seen: Seen, live: LiveTask) -> Certificate | None:
    certificate_id = live.record.certificate_id
    return live.certificate or (seen.running.registry.certificate(certificate_id) if certificate_id else None)


def _refusal(seen: Seen, live: LiveTask) -> Refusal | None:
    verdicts = seen.running.registry.verdicts(live.record.task_id, newest=1)
    return verdicts[-1] if verdicts and isinstance(verdicts[-1], Refusal) else None


def _said(seen: Seen, live: LiveTask, certificate: Certificate | None) -> str:
    if certificate is not None:
        return promise(certificate.claim)
    refusal = _refusal(seen, live)
    if refusal is not None:
        return refusal.message
    return live.record.shape.why_open or "no attempt yet"


def _facts(seen: Seen, live: LiveTask) -> Html:
    record, shape = live.record, live.record.shape
    rows: list[tuple[str, Child]] = [("Answers", shape.kind)]
    if shape.why_open:
        rows.append(("Only observed, since", shape.why_open))
    for part in shape.fields:
        values = ", ".join(part.values[:20]) + (f" and {len(part.values) - 20:,} more" * (len(part.values) > 20))
        rows.append((f"Values of {part.name}" if part.name else "Values", seen.text(values)))
    rows.append(("Task id", record.task_id))
    rows.append(("Specialist", record.specialist_sha256[:16] or words.NONE))
    table = element(
        "table",
        element("caption", "About this task", class_="unseen"),
        element("tbody", [element("tr", element("th", name, scope="row"), element("td", said)) for name, said in rows]),
    )
    said = element("pre", seen.text(record.instructions)[:4000], tabindex=0, role="group", aria_label="Instructions")
    return element("section", table, element("h2", "Instructions"), said)


def _promise(seen: Seen, live: LiveTask, certificate: Certificate | None) -> list[Child]:
    if certificate is None:
        refusal = _refusal(seen, live)
        if refusal is None:
            return [element("p", f"None: {_said(seen, live, None)}.")]
        missing = f"About {refusal.examples_short:,} more answers are needed." if refusal.examples_short else None
        passing = (
            f"Today a tolerated risk of {100 * refusal.passing_risk:.3g} % would pass."
            if refusal.passing_risk
            else None
        )
        return [element("p", refusal.message), element("p", missing, " ", passing) if missing or passing else None]
    claim = certificate.claim
    base = certificate.n_served if claim.is_of_served else certificate.n
    said = (
        f"{promise(claim).capitalize()}. Certificate {live.record.certificate_id}, attempt {certificate.attempt}: of "
        f"{certificate.n:,} calibration rows {certificate.n_served:,} ({words.percent(certificate.coverage)}) would be "
        f"answered locally; {certificate.errors:g} of {base:,} differed, the upper bound is "
        f"{words.percent(certificate.bound, 2)}."
    )
    curve = kept_curve.of(certificate)
    if curve is None:
        shown: Html = element(
            "p",
            "This certificate is from before curves were kept: ",
            element("code", f"pilotfish certify {live.record.name} --html FILE"),
            " draws it from the log.",
            class_="soft",
        )
    else:
        shown = _drawn(_Kept(live.record.certificate_id, certificate, curve))
    return [element("p", said), element("h2", "Risk against coverage"), shown]


@dataclass(frozen=True)
class _Kept:
    """A certificate with its curve, known by its id: it never changes."""

    certificate_id: str
    certificate: Certificate = field(compare=False)
    curve: Curve = field(compare=False)


@lru_cache(maxsize=64)
def _drawn(kept: _Kept) -> Html:
    """Its chart; the exact intervals of all points take 75 ms."""
    return Html(certificate_page.chart(kept.certificate, kept.curve))


def _audits(live: LiveTask, certificate: Certificate | None) -> list[Child]:
    found: list[Child] = []
    if live.mode == "serve" and certificate is not None:
        state = live.record.audit_state
        audit = Audit.from_json(state) if state else Audit.start(certificate)
        found.append(element("p", audit.evidence(live.coin)))
        if live.drift is not None:
            found.append(element("p", live.drift.sentence()))
    return found


def _differing(seen: Seen, rows: list[RequestRow]) -> Table:
    columns = (
        Column(key="request_id", head="Request", show=requests.request_link),
        Column(key="time", head="Time (UTC)"),
        Column(key="input", head="Asked", show=requests.short, is_text=True),
        Column(key="local_answer", head="The specialist said", show=requests.short, is_text=True),
        Column(key="reference_answer", head="The large model said", show=requests.short, is_text=True),
    )
    written = [
        {
            "request_id": row.request_id,
            "time": words.moment(row.time_s),
            "certainty": row.certainty,
            "scope": row.scope,
            "input": seen.data(row.input),
            "local_answer": seen.data(row.local_answer),
            "reference_answer": seen.data(row.reference_answer),
        }
        for row in rows
    ]
    none = "No audited answer differed, as far as comparisons are kept."
    return Table(name="differing", caption="Disagreements", columns=columns, rows=written, none=none)


def _evidence(periods: Sequence[Period]) -> Table:
    rows = []
    for period in periods[::-1]:
        agreed = savings.agreement(period)
        rows.append(
            {
                "day": words.day(period.start_s),
                "requests": period.n_requests,
                "answered_locally": period.n_local,
                "audited": period.n_judged,
                "differed": period.losses,
                "agreement": agreed.value,
                "agreement_low": agreed.low,
                "agreement_high": agreed.high,
            }
        )
    columns = (
        Column(key="day", head="Day (UTC)"),
        Column(key="requests", head="Requests", show=words.count, is_number=True),
        Column(key="answered_locally", head="Locally", show=words.count, is_number=True),
        Column(key="audited", head="Audited", show=words.count, is_number=True),
        Column(key="differed", head="Differed", show=words.count, is_number=True),
    )
    return Table(name="evidence", caption="By day", columns=columns, rows=rows, none="No request in this time.")


def _verdicts(seen: Seen, live: LiveTask) -> Table:
    rows = []
    for verdict in reversed(seen.running.registry.verdicts(live.record.task_id, newest=N_VERDICTS)):
        is_certificate = isinstance(verdict, Certificate)
        rows.append(
            {
                "verdict": "certificate" if is_certificate else "refusal",
                "made": verdict.created_at,
                "attempt": verdict.attempt,
                "max_risk": verdict.claim.max_risk,
                "said": promise(verdict.claim) if isinstance(verdict, Certificate) else verdict.message,
                "coverage": verdict.coverage if isinstance(verdict, Certificate) else None,
            }
        )
    columns = (
        Column(key="verdict", head="Verdict"),
        Column(key="made", head="Made"),
        Column(key="attempt", head="Attempt", show=words.count, is_number=True),
        Column(key="coverage", head="Coverage", show=words.percent, is_number=True),
        Column(key="said", head="What it says", show=requests.short, is_text=True),
    )
    return Table(name="verdicts", caption="Certificates and refusals", columns=columns, rows=rows, none="None yet.")


def _events(seen: Seen, live: LiveTask) -> Table:
    rows = [
        {"time": words.moment(event.time_s), "event": event.kind, "said": event.message}
        for event in seen.running.registry.events(live.record.task_id, limit=N_EVENTS)
    ]
    columns = (
        Column(key="time", head="Time (UTC)"),
        Column(key="event", head="Event"),
        Column(key="said", head="What happened"),
    )
    return Table(name="events", caption="History", columns=columns, rows=rows, none="Nothing has happened yet.")
