"""The recognised tasks, and the page of one: what it is, what is promised or missing, what the audits say, what was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pilotfish.core.by_hand import Verdict
from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.log_row import RequestRow
from pilotfish.gateway.live_tasks import LiveTask
from pilotfish.gateway.site import charts, decisions, marks, requests, retrain, words
from pilotfish.gateway.site.figures import DEFAULT_DAYS
from pilotfish.gateway.site.page import Page, Seen, task_path
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.gateway.site.times import times
from pilotfish.guarantees import kept_curve
from pilotfish.guarantees import page as certificate_page
from pilotfish.guarantees.audit import Audit
from pilotfish.guarantees.certify import promise
from pilotfish.pages.elements import Child, Html, element
from pilotfish.stats.sequence import Curve
from pilotfish.store.base import LogFilter
from pilotfish.store.periods import PeriodFilter

MOST_TASKS = 500
N_EXAMPLES = 8
N_DIFFERING = 20
MOST_DIFFERING = 200
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
    counted = Counted(seen)
    lives = sorted(seen.running.tasks.all(), key=lambda live: -counted.of(live)[0])
    rows = [data(seen, live, counted) for live in lives[:MOST_TASKS]]
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


class Counted:
    """How many requests the log holds of each task, and of all."""

    def __init__(self, seen: Seen) -> None:
        self._of: dict[str, tuple[int, int]] = {}
        for row in seen.running.log.task_counts():
            n, n_local = self._of.get(row.task_id, (0, 0))
            self._of[row.task_id] = (n + row.n_requests, n_local + row.n_local)
        self.total = sum(n for n, _ in self._of.values())

    def of(self, live: LiveTask) -> tuple[int, int]:
        """All of a task, and those answered locally."""
        return self._of.get(live.record.task_id, (0, 0))


def data(seen: Seen, live: LiveTask, counted: Counted) -> dict[str, Any]:
    """What the list tells of a task."""
    record, (n, n_local) = live.record, counted.of(live)
    certificate = _certificate(seen, live)
    return {
        "task": record.name,
        "task_id": record.task_id,
        "mode": f"{live.mode} (held)" if record.is_held else live.mode,
        "answers": record.shape.kind,
        "requests": n,
        "share": n / counted.total if counted.total else None,
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
    periods = running.log.periods(PeriodFilter(since_s=since_s, step_s=_DAY_S, task_id=record.task_id))
    newest = running.log.rows(LogFilter(task_id=record.task_id, newest_first=True, limit=N_EXAMPLES))
    examples = requests.of(seen, list(newest), name="examples", caption="The newest requests")
    differing, further = _differing(seen, live)
    marked, tally = marks.said(seen, live)
    history = marks.history(seen, live)
    evidence = times(periods, name="evidence", caption="By day")
    verdicts, events = _verdicts(seen, live), _events(seen, live)
    charted = charts.agreement(periods, since_s, until_s, _DAY_S, certificate.claim.max_risk if certificate else None)
    parts: list[Child] = [
        element("p", _WORDS[live.mode], " Held by a person." if record.is_held else None, class_="claim"),
        decisions.buttons(seen, live),
        element("p", said, role="status") if (said := retrain.state(seen, live)) else None,
        _facts(seen, live),
        element("h2", "Promise"),
        _promise(seen, live, certificate),
        element("h2", "Requests"),
        charts.traffic(periods, since_s, until_s, _DAY_S),
        element("h2", "What audits found"),
        _audits(live, certificate),
        charted,
        differing.html(path),
        further,
        marked,
        history.html(path),
        examples.html(path),
        verdicts.html(path),
        events.html(path),
        evidence.html(path),
    ]
    tables = (evidence, differing, tally, history, examples, verdicts, events)
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


def _differing(seen: Seen, live: LiveTask) -> tuple[Table, Html | None]:
    """A page of the newest disagreements, and links to the pages beside it."""
    asked = seen.query.get("differing", "")
    number = min(int(asked), MOST_DIFFERING // N_DIFFERING) if asked.isdecimal() and asked.isascii() else 1
    end = max(1, number) * N_DIFFERING
    found = seen.running.log.differing(live.record.task_id, end + 1)
    rows = found[end - N_DIFFERING : end]
    marked = marks.of(seen, live.record.task_id, [row.request_id for row in rows])
    path = task_path(live.record.name)
    links: list[Child] = []
    if number > 1:
        links += [element("a", "Newer disagreements", href=f"{path}?differing={number - 1}"), " "]
    if len(found) > end and end < MOST_DIFFERING:
        links.append(element("a", "Older disagreements", href=f"{path}?differing={number + 1}"))
    query = f"?differing={number}" if number > 1 else ""
    return _side_by_side(seen, live, rows, marked, query), element("p", links) if links else None


def _side_by_side(
    seen: Seen, live: LiveTask, rows: list[RequestRow], marked: Mapping[str, Verdict], query: str
) -> Table:
    columns = (
        Column(key="request_id", head="Request", show=requests.request_link),
        marks.column(seen, live, marked),
        Column(key="input", head="Asked", show=requests.short, is_text=True),
        Column(key="local_answer", head="The specialist said", show=requests.short, is_text=True),
        Column(key="reference_answer", head="The large model said", show=requests.short, is_text=True),
        Column(key="time", head="Time (UTC)"),
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
            "marked": marked.get(row.request_id),
        }
        for row in rows
    ]
    none = "No audited answer differed, as far as comparisons are kept."
    return Table(name="differing", caption="Disagreements", columns=columns, rows=written, none=none, query=query)


def _verdicts(seen: Seen, live: LiveTask) -> Table:
    found = seen.running.registry.verdict_page(live.record.task_id, limit=N_VERDICTS)
    rows = [told(verdict) for _, verdict in found]
    columns = (
        Column(key="verdict", head="Verdict"),
        Column(key="made", head="Made"),
        Column(key="attempt", head="Attempt", show=words.count, is_number=True),
        Column(key="coverage", head="Coverage", show=words.percent, is_number=True),
        Column(key="said", head="What it says", show=requests.short, is_text=True),
    )
    return Table(name="verdicts", caption="Certificates and refusals", columns=columns, rows=rows, none="None yet.")


def told(verdict: Certificate | Refusal) -> dict[str, Any]:
    """A certificate or a refusal as data; what only the other has is null."""
    certificate = verdict if isinstance(verdict, Certificate) else None
    refusal = verdict if isinstance(verdict, Refusal) else None
    return {
        "verdict": "certificate" if certificate else "refusal",
        "certificate_id": certificate.id if certificate else None,
        "task": verdict.task_name,
        "task_id": verdict.task_id,
        "made": verdict.created_at,
        "attempt": verdict.attempt,
        "max_risk": verdict.claim.max_risk,
        "confidence": verdict.claim.confidence,
        "per": verdict.claim.per,
        "said": verdict.message if isinstance(verdict, Refusal) else promise(verdict.claim),
        "coverage": certificate.coverage if certificate else None,
        "bound": certificate.bound if certificate else None,
        "n": verdict.n,
        "n_served": certificate.n_served if certificate else None,
        "errors": certificate.errors if certificate else None,
        "examples_short": refusal.examples_short if refusal else None,
        "passing_risk": refusal.passing_risk if refusal else None,
        "specialist_sha256": certificate.artefact_sha256 if certificate else None,
    }


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
