"""The buttons of a task: what a person may decide about it, each asked for again on a page that says what it does."""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.gateway.live_tasks import LiveTask
from pilotfish.gateway.site import retrain, words
from pilotfish.gateway.site.page import Page, Seen, form, task_path
from pilotfish.guarantees import by_hand
from pilotfish.guarantees.by_hand import Decision
from pilotfish.guarantees.certify import promise
from pilotfish.pages.elements import Child, Html, element

_BUTTONS: dict[Decision, str] = {
    "promote": "Let it answer",
    "shadow": "Run it unseen",
    "demote": "Back to the large model",
}
_MEANINGS: dict[Decision, str] = {
    "promote": "Its specialist answers from now on what both gates let pass, under its certificate.",
    "shadow": "Its specialist runs beside the large model, which answers everything. It stays so until promoted.",
    "demote": "The large model answers everything at once. The task is held back until promoted.",
}


def read(name: str) -> tuple[str, Decision] | None:
    """The task and the decision that the rest of a path behind `/tasks/` names; None where it names none."""
    task, _, last = name.rpartition("/")
    decision = next((known for known in by_hand.DECISIONS if known == last), None)
    return (task, decision) if task and decision else None


def buttons(seen: Seen, live: LiveTask) -> Html | None:
    """Links to what may be decided now; nothing for who may change nothing."""
    open_to: Sequence[Decision] = by_hand.DECISIONS if live.record.certificate_id else ("demote",)
    if not seen.is_admin:
        return None
    links = [
        element("a", _BUTTONS[decision], href=f"{task_path(live.record.name)}/{decision}", class_="button")
        for decision in open_to
    ]
    links.append(retrain.link(live))
    return element("nav", links, class_="actions", aria_label="Decide about this task")


def confirm(seen: Seen, task: str, decision: Decision) -> Page | None:
    """The page that asks again; None where there is no such task."""
    live = seen.running.tasks.find(task)
    if live is None:
        return None
    record, path = live.record, task_path(live.record.name)
    certificate = live.certificate or seen.running.registry.certificate(record.certificate_id)
    parts: list[Child] = [
        element("p", _MEANINGS[decision], class_="claim"),
        element("p", f"Now: mode {record.mode}{', held by a person' if record.is_held else ''}."),
    ]
    if decision != "demote":
        said = "It has no certificate, so it can only be learnt anew."
        if certificate is not None:
            coverage = words.percent(certificate.coverage)
            said = f"Certificate {record.certificate_id}: {promise(certificate.claim)}, at a coverage of {coverage}."
        parts.append(element("p", said))
    if decision == "promote" and by_hand.falls_short(
        seen.running.registry, record, seen.running.settings.quality.claim
    ):
        parts.append(
            element("p", "It will not serve under these settings, which ask for a stricter promise.", role="note")
        )
    asked: Child = element("p", element("a", "Sign in", href="/login"), " with the admin key to decide this.")
    if seen.is_admin:
        asked = form(f"{path}/{decision}", seen, element("button", _BUTTONS[decision], type="submit"))
    parts += [asked, element("p", element("a", "Leave it as it is", href=path))]
    return Page(path=path, title=f"{_BUTTONS[decision]}: {record.name}", parts=tuple(parts))


def carry_out(seen: Seen, task: str, decision: Decision) -> str | None:
    """Decide it; the path of the task's page, None where there is no such task."""
    live = seen.running.tasks.find(task)
    record = seen.running.registry.task(live.record.task_id) if live else None
    if record is None:
        return None
    by_hand.decide(seen.running.registry, record, decision)
    return task_path(record.name)
