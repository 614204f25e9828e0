"""Learning a task anew: the page that asks again, since an attempt spends of what the promise may be wrong by."""

from __future__ import annotations

from pilotfish.gateway.live_tasks import LiveTask
from pilotfish.gateway.site import words
from pilotfish.gateway.site.page import Page, Seen, form, task_path
from pilotfish.guarantees import by_hand
from pilotfish.pages.elements import Child, Html, element
from pilotfish.stats import spending

BUTTON = "Learn it anew"


def read(name: str) -> str:
    """The task that the rest of a path behind `/tasks/` names, empty where it is no such path."""
    task, _, last = name.rpartition("/")
    return task if last == "retrain" else ""


def link(live: LiveTask) -> Html:
    """To the page that asks again."""
    return element("a", BUTTON, href=f"{task_path(live.record.name)}/retrain", class_="button")


def state(seen: Seen, live: LiveTask) -> str:
    """What is said of it on the task's page, empty where nothing was asked for."""
    asked_s, failed = live.record.asked_s, seen.running.learner.status["last_error"]
    if asked_s is None:
        return ""
    return f"Asked for to be learnt anew at {words.moment(asked_s)} UTC; it waits for the learner." + (
        f" Learning failed last: {failed}" if failed else ""
    )


def confirm(seen: Seen, task: str) -> Page | None:
    """The page that asks again; None where there is no such task."""
    live = seen.running.tasks.find(task)
    if live is None:
        return None
    record, path = live.record, task_path(live.record.name)
    why_not = by_hand.why_not_retrain(record, seen.running.settings.quality.claim)
    parts: list[Child] = [
        element(
            "p",
            "A new specialist is learnt from all answers known now, and certified or refused, due or not. "
            "The gateway does it in the background, at low priority, when it is not learning anything else.",
            class_="claim",
        ),
        element("h2", "What it costs"),
        [element("p", sentence) for sentence in _costs(seen, live)],
    ]
    if why_not:
        parts.append(element("p", f"Not now: {why_not}.", role="note"))
    elif seen.is_admin:
        parts.append(form(f"{path}/retrain", seen, element("button", f"{BUTTON}, and spend that", type="submit")))
    else:
        parts.append(element("p", element("a", "Sign in", href="/login"), " with the admin key to decide this."))
    parts.append(element("p", element("a", "Leave it as it is", href=path)))
    return Page(path=path, title=f"{BUTTON}: {record.name}", parts=tuple(parts))


def carry_out(seen: Seen, task: str) -> str | None:
    """Ask for it, where it is of use; the path of the task's page, None where there is no such task."""
    live = seen.running.tasks.find(task)
    record = seen.running.registry.task(live.record.task_id) if live else None
    if record is None:
        return None
    if not by_hand.why_not_retrain(record, seen.running.settings.quality.claim):
        by_hand.retrain(seen.running.registry, record)
    return task_path(record.name)


def _costs(seen: Seen, live: LiveTask) -> list[str]:
    claim, task_id = seen.running.settings.quality.claim, live.record.task_id
    known = sum(count.n_reference_known for count in seen.running.log.task_counts() if count.task_id == task_id)
    said = [f"{known:,} answers of the large model are known. No model is asked."]
    if claim is None:
        return said
    number = seen.running.registry.n_attempts(task_id) + 1
    share = [spending.share(claim.delta, attempt) for attempt in (number, number + 1)]
    said.append(
        f"All promises about this task together may be wrong with a probability of {words.percent(claim.delta)}. "
        f"Attempt {number:,} may spend {words.percent(share[0], 3)} of it, which is gone whatever comes of it. The "
        f"one after it could spend {words.percent(share[1], 3)}, and so needs more answers. "
        "An attempt that is refused before it has looked at calibration answers spends nothing."
    )
    if live.mode == "serve":
        said.append(
            "The specialist in force goes on answering. A better one is first fitted; where it is expected to answer "
            "more, later requests are audited more often, and only the attempt on those spends."
        )
    return said
