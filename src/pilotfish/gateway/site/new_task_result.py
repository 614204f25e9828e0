"""What became of a new task: how far it is, then its held-out score, its certificate or what it is short of, and code.

Figures come from the registry, as on the task's own page; a specialist that was refused is told of by what its learning
said. Without a script the page is reloaded by hand, with one it keeps itself up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilotfish.config.catalogue import TASK_PREFIX
from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.errors import StoreError
from pilotfish.gateway.new_tasks import NewTask
from pilotfish.gateway.site import words
from pilotfish.gateway.site.page import Page, Seen, form, task_path
from pilotfish.gateway.site.snippets import PLACEHOLDER, snippets
from pilotfish.guarantees import kept_curve
from pilotfish.guarantees.certify import promise
from pilotfish.pages.elements import Child, Html, element
from pilotfish.stats.binomial import wilson
from pilotfish.store.base import LogFilter, TaskRecord

EVENTS = "/new/events"
_STATES = {
    "uploaded": "Uploaded. Somebody who is signed in can say which column is which.",
    "waiting": "It waits for its turn: new tasks are learnt one after the other.",
    "running": "It is being learnt.",
    "failed": "It failed. Nothing serves because of it; it can be started again.",
    "cancelled": "It was cancelled. Nothing of it runs; it can be started again.",
    "interrupted": "The gateway ended while it was learnt. It can be started again; what is in the log stays.",
}
_STAGES = {"encode": "reading the texts", "fit": "fitting"}


def result(seen: Seen, task: NewTask, path: str) -> Page:
    """The page."""
    parts: list[Child] = [element("p", f"From {seen.text(task.file)}, {task.n_examples:,} examples.", class_="soft")]
    if task.state == "done":
        parts = [*_done(seen, task), *parts]
    else:
        parts = [element("p", _STATES[task.state], class_="claim"), _progress(task), *parts]
        said = element("pre", seen.text(task.message), tabindex=0, role="group", aria_label="What it said")
        parts += [said if task.message else None, _buttons(seen, task, path)]
    if not task.is_under_way:
        parts.append(discard(seen, path))
    scripts = ("new.js",) if task.is_under_way or task.state == "done" else ()
    return Page(path=path, title="New task", parts=tuple(parts), scripts=scripts)


def told(task: NewTask) -> dict[str, Any]:
    """What the page's script is told of it: its state, its stage, and how much of that is done."""
    shown = task.told if task.state == "running" else {}
    return {"state": task.state, "stage": stage(task), "done": shown.get("done", 0), "total": shown.get("total", 0)}


def stage(task: NewTask) -> str:
    """What it is at, in words."""
    name = task.told.get("stage") if task.state == "running" else None
    return _STAGES.get(name, name) if isinstance(name, str) else task.state


def discard(seen: Seen, path: str) -> Html | None:
    """The button that forgets the upload, for who may."""
    if not seen.is_admin:
        return None
    note = element(
        "p",
        "Discarding deletes what was uploaded. Examples that were learnt from stand in the log, and specialists stay.",
        class_="soft",
    )
    return element(
        "section", form(f"{path}/discard", seen, element("button", "Discard", type="submit", class_="plain")), note
    )


def _progress(task: NewTask) -> Html | None:
    if not task.is_under_way:
        return None
    said = told(task)
    is_known = bool(said["total"])
    bar = element(
        "progress",
        value=said["done"] if is_known else None,
        max=said["total"] if is_known else None,
        aria_label="Progress",
        data_bar=True,
    )
    text = element("span", said["stage"], data_stage=True)
    here = element("p", bar, " ", text, role="status", data_new_task=task.id, data_was=task.state, data_events=EVENTS)
    return element("section", here, element("p", element("a", "Reload", href=f"/new/{task.id}"), class_="data"))


def _buttons(seen: Seen, task: NewTask, path: str) -> Html | None:
    if not seen.is_admin:
        return None
    if task.is_under_way:
        return form(f"{path}/cancel", seen, element("button", "Cancel", type="submit"))
    if task.may_start and task.claim is not None:
        again = form(f"{path}/again", seen, element("button", "Start again", type="submit"))
        return element("section", again, form(f"{path}/change", seen, element("button", "Change it", type="submit")))
    return None


def _done(seen: Seen, task: NewTask) -> list[Child]:
    record = seen.running.registry.task(str(task.told.get("task_id", "")))
    outcome = next(iter(task.told.get("outcomes", ())), None)
    if record is None:
        return [element("p", "It was learnt, and its task is no longer known here.", class_="claim")]
    named = element("a", record.name, href=task_path(record.name))
    if outcome is None:
        said = (
            "The task serves already. Its new examples stand in the log; a better specialist is proven on later ones."
        )
        return [element("p", named, ": ", said, class_="claim"), *_code(seen, record)]
    certificate = seen.running.registry.certificate(str(outcome.get("id", "")))
    if certificate is not None:
        verdict = _certified(seen, record, certificate, is_adopted=bool(outcome.get("adopted")))
    else:
        verdict = _refused(Refusal.from_json(outcome), outcome)
    return [element("p", "Task ", named, class_="claim"), *verdict, *_code(seen, record)]


def _certified(seen: Seen, record: TaskRecord, certificate: Certificate, *, is_adopted: bool) -> list[Child]:
    agreed = certificate.n_served - certificate.errors
    low, high = wilson(agreed, certificate.n_served)
    live = seen.running.tasks.get(record.task_id)
    serves = live is not None and live.mode == "serve"
    mode = (
        "It answers from now on." if serves else f"Its mode is {record.mode}; this gateway lets it answer nothing yet."
    )
    if is_adopted and not serves:
        mode += " State the tolerated risk in [quality] max_risk, or see the task's page."
    return [
        element("h2", "Certified"),
        element("p", f"{promise(certificate.claim).capitalize()}. {mode}"),
        element(
            "p",
            f"Held-out score: of {certificate.n:,} examples that it did not learn from it would answer "
            f"{certificate.n_served:,} ({words.percent(certificate.coverage)}), and {agreed:,.0f} of these as you do: "
            f"{words.percent(agreed / certificate.n_served)} ({words.percent(low)} to {words.percent(high)}).",
        ),
        _if_all(certificate),
        element("p", f"Specialist {certificate.artefact_sha256[:16]}, certificate {certificate.id}.", class_="soft"),
    ]


def _if_all(certificate: Certificate) -> Html | None:
    """What it would score if it answered all that is in its scope."""
    curve = kept_curve.of(certificate)
    if curve is None or not curve.points:
        return None
    last = curve.points[-1]
    share = 1 - last.errors / last.n_served
    return element("p", f"Were it to answer {last.n_served:,} of them, {words.percent(share)} would be as yours.")


def _refused(refusal: Refusal, outcome: Mapping[str, Any]) -> list[Child]:
    scores = outcome.get("scores") or {}
    agreement, n_taught = scores.get("out_of_fold_agreement"), outcome.get("n_taught")
    score = (
        f"Held-out score: {words.percent(agreement)} of {words.count(n_taught)} examples were answered as yours by "
        "students that had not learnt from them."
        if isinstance(agreement, float)
        else "Nothing was fitted, so there is no score."
    )
    short = f"About {refusal.examples_short:,} more examples are needed." if refusal.examples_short else None
    passing = (
        f"Today a tolerated risk of {100 * refusal.passing_risk:.3g} % would pass." if refusal.passing_risk else None
    )
    kept = outcome.get("specialist_sha256")
    return [
        element("h2", "Not certified"),
        element("p", refusal.message),
        element("p", short, " ", passing) if short or passing else None,
        element("p", score),
        element("p", f"Specialist {str(kept)[:16]} is kept and answers nothing.", class_="soft") if kept else None,
        element("p", "Until it is certified the large model answers. Upload more examples, or let requests come in."),
    ]


def _code(seen: Seen, record: TaskRecord) -> list[Child]:
    """How a program asks for it. A block with what copies it, where scripts run."""
    model = TASK_PREFIX + record.name
    blocks: list[Child] = []
    for language, code in snippets(f"{seen.origin}/v1", model, _messages(seen, record)):
        name = f"code-{language.lower()}"
        copy = element("button", f"Copy {language}", type="button", hidden=True, data_copy=name, class_="plain")
        shown = element("pre", code, id=name, tabindex=0, role="group", aria_label=f"{language} code")
        blocks.append([element("h3", language), shown, copy])
    return [
        element("h2", "Use it"),
        element("p", "Name the task as the model, ", element("code", model), ", and send its instructions with it."),
        *blocks,
    ]


def _messages(seen: Seen, record: TaskRecord) -> list[dict[str, Any]]:
    """The messages of a request of the task: those of its newest one, the text of which is left open."""
    newest = next(iter(seen.running.log.rows(LogFilter(task_id=record.task_id, newest_first=True, limit=1))), None)
    found = seen.running.log.instructions(record.instructions_id) if seen.keeps_text else None
    try:
        messages = json.loads(found.body)["messages"] if found else []
    except (ValueError, KeyError) as error:
        raise StoreError(f"The instructions of {record.name!r} cannot be read: {error}.") from error
    asked = newest.input if newest is not None and seen.keeps_text else None
    return [*messages, {"role": "user", "content": asked or PLACEHOLDER}]
