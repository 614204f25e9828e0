"""The receipt of one request as a picture: what was decided step by step, with which scores, what it took and cost.

Everything comes from the log and the registry as they were written then; nothing is decided again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pilotfish.core.certificate import Certificate
from pilotfish.core.log_row import AuditRow, RepeatRow, RequestRow
from pilotfish.core.messages import Message
from pilotfish.core.receipt import REASONS, TIERS
from pilotfish.gateway.site import charts, routed, words
from pilotfish.gateway.site.page import NOT_KEPT, Page, Seen, task_path
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.pages.elements import Child, Html, element

MOST_MESSAGES = 50
MOST_CHARACTERS = 20_000
"""Of one text on the page; all of it is in the data."""

_messages = msgspec.json.Decoder(dict[str, Any])


def request(seen: Seen, request_id: str) -> Page | None:
    """The page, None where the log holds no such request."""
    running = seen.running
    row = running.log.row(request_id)
    if row is None:
        return None
    audit, again = running.log.audit(request_id), running.log.repeats(request_id)
    certificate = running.registry.certificate(row.certificate_id) if row.certificate_id else None
    needed = _needed(row, certificate)
    table = _table(seen, row, audit, again, needed)
    parts: tuple[Child, ...] = (
        element("p", f"{words.moment(row.time_s)} UTC. {REASONS[row.reason].capitalize()}.", class_="claim"),
        element("h2", "What was decided"),
        element("ol", _steps(seen, row, audit, certificate), class_="steps"),
        _gates(row, needed),
        element("h2", "How long it took"),
        charts.spans(_times(row)),
        _conversation(seen, row, again),
        table.html(f"/requests/{row.request_id}"),
    )
    return Page(path=f"/requests/{row.request_id}", title=f"Request {row.request_id}", parts=parts, tables=(table,))


def _needed(row: RequestRow, certificate: Certificate | None) -> tuple[float, float] | None:
    """The thresholds that the scores were held against: certainty, scope."""
    if certificate is None:
        return None
    gates = certificate.first if row.tier == 1 and certificate.first is not None else certificate
    return gates.min_certainty, gates.min_scope


def _steps(seen: Seen, row: RequestRow, audit: AuditRow | None, certificate: Certificate | None) -> list[Html]:
    live = seen.running.tasks.get(row.task_id)
    key = f", with the key {row.key_id}" if row.key_id is not None else ""
    steps = [_step("It came", f"{'as a stream' if row.is_stream else 'as a whole'}{key}")]
    if not row.task_id:
        steps.append(_step("No task was recognised", "the instructions are not those of a known task", is_yes=False))
    else:
        name: Child = element("a", live.record.name, href=task_path(live.record.name)) if live else row.task_id
        steps.append(_step("Its task was recognised", [name, f", in mode {row.mode}"]))
    if row.certainty is not None:
        tier = row.tier or 2
        took = f" in {words.duration(row.local_s)}" if row.local_s is not None else ""
        steps.append(_step("The specialist read it", f"{TIERS[tier]}{took}"))
        steps += _gate_steps(row, _needed(row, certificate))
    steps += [_step(step.head, step.said, is_yes=step.is_yes) for step in routed.steps(row)]
    is_answered = row.status == 200 and not row.error
    who = f"{row.model or 'Nobody'} {'answered' if is_answered else 'failed'}"
    server = f" Server: {row.server}, tries: {row.tries}." if row.tries else ""
    steps.append(_step(who, f"{row.reason}: {REASONS[row.reason]}.{server}", is_yes=is_answered))
    if not is_answered:
        steps.append(_step(f"HTTP {row.status}", row.error or "no words about it", is_yes=False))
    if audit is not None:
        steps.append(_step("It was audited", _audit(audit), is_yes=audit.loss == 0))
    return steps


def _gate_steps(row: RequestRow, needed: tuple[float, float] | None) -> list[Html]:
    if needed is None:
        return [_step("The gates", "no certificate was in force, so no threshold was to be passed", is_yes=False)]
    found = []
    pairs = (("Scope gate", row.scope, needed[1]), ("Certainty gate", row.certainty, needed[0]))
    for name, value, threshold in pairs:
        if value is not None:
            passes = value >= threshold
            said = f"{words.score(value)}, where at least {words.score(threshold)} is needed"
            found.append(_step(f"{name}: {'passed' if passes else 'not passed'}", said, is_yes=passes))
    return found


def _step(head: str, *said: Child, is_yes: bool = True) -> Html:
    return element("li", element("strong", head), said, class_=None if is_yes else "no")


def _audit(audit: AuditRow) -> str:
    took = f"after the reply, in {words.duration(audit.latency_s)}, for {words.money(audit.cost_usd)}"
    if audit.status != 200 or audit.error:
        return f"{took}: no answer came ({audit.error or audit.status})"
    if audit.loss is None:
        return f"{took}: the comparison was not kept"
    return f"{took}: the large model {'said the same' if audit.loss == 0 else f'differed (loss {audit.loss:g})'}"


def _gates(row: RequestRow, needed: tuple[float, float] | None) -> Html | None:
    if row.certainty is None or row.scope is None:
        return None
    certainty, scope = needed or (None, None)
    drawn = charts.gates([("scope", row.scope, scope), ("certainty", row.certainty, certainty)])
    return element("section", element("h2", "Scores"), drawn)


def _times(row: RequestRow) -> list[tuple[str, float]]:
    local_s = row.local_s or 0.0
    rest = max(0.0, row.latency_s - local_s)
    name = f"{row.model}, network and gateway" if row.tries else "gateway"
    return ([("specialist", local_s)] if row.local_s is not None else []) + [(name, rest)]


def _conversation(seen: Seen, row: RequestRow, again: list[RepeatRow]) -> Html:
    head = element("h2", "Conversation")
    if not seen.keeps_text or row.input is None:
        why = "the settings keep no text" if not seen.keeps_text else "privacy kept it out of the log, or it had none"
        return element("section", head, element("p", f"Not shown: {why}.", class_="soft"))
    parts = [_said(role, text) for role, text in _shared(seen, row)]
    parts.append(_said("user", row.input))
    answers: list[Child] = [_said(f"answer the client got, of {row.model}", row.answer)]
    if row.local_answer is not None:
        answers.append(_said("what the specialist said", row.local_answer))
    if row.reference_answer is not None:
        answers.append(_said("what the large model said", row.reference_answer))
    answers += [_said(f"what it said when asked again, {item.number}", item.reference_answer) for item in again]
    return element("section", head, parts, element("div", answers, class_="pair"))


def _shared(seen: Seen, row: RequestRow) -> list[tuple[str, str]]:
    """The messages before the last one of the user, as they stand in the log."""
    found = seen.running.log.instructions(row.instructions_id)
    if found is None:
        return []
    messages = _messages.decode(found.body.encode()).get("messages") or []
    read = []
    for message in messages[:MOST_MESSAGES]:
        if isinstance(message, dict):
            text = Message(role="", content=message.get("content")).text
            read.append((str(message.get("role", "")), text if text is not None else "(no plain text)"))
    return read


def _said(who: str, text: str | None) -> Html:
    shown = NOT_KEPT if text is None else text
    if len(shown) > MOST_CHARACTERS:
        shown = shown[:MOST_CHARACTERS] + f"\n… {len(shown) - MOST_CHARACTERS:,} more characters: see the data."
    return element(
        "div", element("p", who, class_="soft"), element("pre", shown, tabindex=0, role="group", aria_label=who)
    )


def _table(
    seen: Seen, row: RequestRow, audit: AuditRow | None, again: list[RepeatRow], needed: tuple[float, float] | None
) -> Table:
    texts = {"input", "answer", "reference_answer", "local_answer"}
    values: dict[str, Any] = {}
    for name in RequestRow.__slots__:
        value = getattr(row, name)
        values[name] = seen.data(value) if name in texts else value
    values |= {"needed_certainty": needed[0] if needed else None, "needed_scope": needed[1] if needed else None}
    if audit is not None:
        values |= {
            "audit_answer": seen.data(audit.reference_answer),
            "audit_loss": audit.loss,
            "audit_cost_usd": audit.cost_usd,
            "audit_latency_s": audit.latency_s,
        }
    for item in again:
        values[f"repeat_{item.number}_answer"] = seen.data(item.reference_answer)
        values[f"repeat_{item.number}_cost_usd"] = item.cost_usd
    columns = (Column(key="field", head="Field"), Column(key="value", head="Value", show=_shown))
    rows = [{"field": name, "value": value} for name, value in values.items()]
    return Table(name="", caption="Receipt", columns=columns, rows=rows, none="")


def _shown(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text if len(text) <= 300 else text[:299] + "…"
