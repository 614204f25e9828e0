"""The overview: what passed, what of it was answered locally, what that saved, how well it agrees, what is wrong."""

from __future__ import annotations

import math
from typing import Any

from pilotfish.gateway.site import charts, figures, routed, savings, words
from pilotfish.gateway.site.net_saving import net_saving
from pilotfish.gateway.site.page import Page, Seen, task_path
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.gateway.site.times import times
from pilotfish.guarantees.pace import Pace
from pilotfish.pages.elements import Child, Html, element
from pilotfish.store.periods import PeriodFilter

STEPS_S = {1: 3600, 7: 6 * 3600, 30: 86400, 365: 7 * 86400}
"""By days shown: how much time each bar stands for."""

MOST_TASKS = 100


def overview(seen: Seen) -> Page:
    """The page."""
    asked = seen.query.get("days", "")
    days = int(asked) if asked.isdecimal() and int(asked) in STEPS_S else figures.DEFAULT_DAYS
    step_s = STEPS_S[days]
    until_s = math.floor(seen.now_s / step_s + 1) * step_s
    since_s = until_s - days * 86400
    running = seen.running
    found = figures.gather(running, since_s)
    periods = running.log.periods(PeriodFilter(since_s=since_s, step_s=step_s))
    query = f"?days={days}"
    sums = running.log.route_sums(since_s)
    balance = routed.balance(sums, query)
    shown = [_tasks(seen, found, query), _waiting(seen), times(periods, name="time", query=query)]
    claim = running.settings.quality.claim
    charted = charts.agreement(periods, since_s, until_s, step_s, claim.max_risk if claim else None)
    parts: list[Child] = [
        _promise(seen),
        routed.in_force(running.answerers.routed.live, running.settings.routing.margin),
        routed.budget(running.answerers.routed.budget, running.answerers.routed.certified),
        _choice(days, is_live=days == figures.DEFAULT_DAYS),
        _tiles(found),
        _alarm_list(found),
        element("h2", "Requests"),
        charts.traffic(periods, since_s, until_s, step_s),
        element("h2", "Audited answers that differed"),
        charted or element("p", found.agreement.why_none or "No audit has been compared yet.", class_="soft"),
        [balance.html("/overview"), routed.net(net_saving(sums))] if balance else None,
        [table.html("/overview") for table in shown],
    ]
    tables = (*shown, *([balance] if balance else []), _alarms(found))
    is_live = days == figures.DEFAULT_DAYS
    return Page(path="/overview", title="Overview", parts=tuple(parts), tables=tables, is_live=is_live)


def live_since_s(now_s: float) -> float:
    """The start of what the live figures are about: the same as that of the page."""
    step_s = STEPS_S[figures.DEFAULT_DAYS]
    return math.floor(now_s / step_s + 1) * step_s - figures.DEFAULT_DAYS * 86400


def _promise(seen: Seen) -> Html:
    claim = seen.running.settings.quality.claim
    if claim is None:
        return element(
            "p",
            "No risk is tolerated yet, so no specialist answers. ",
            element("code", "[quality] max_risk"),
            " in the configuration lets specialists learn and serve.",
        )
    return element(
        "p",
        f"Tolerated: at most {100 * claim.max_risk:g} % disagreement per {claim.per}, "
        f"with {100 * claim.confidence:g} % confidence.",
    )


def _choice(days: int, *, is_live: bool) -> Html:
    names = {1: "1 day", 7: "7 days", 30: "30 days", 365: "1 year"}
    links = [
        element("a", name, href=f"/?days={number}", aria_current="true" if number == days else None)
        for number, name in names.items()
    ]
    state = element("span", "As of its loading", data_state=True, class_="soft") if is_live else None
    return element("nav", [[link, " "] for link in links], state, class_="pick", aria_label="Time shown")


def _tiles(found: figures.Figures) -> Html:
    said = found.said()
    tiles = (
        ("Requests", "requests", "failed"),
        ("Answered locally", "share", "local"),
        ("Money saved", "saved", "saved-note"),
        ("Time saved", "time", "time-note"),
        ("Money spent", "spent", "unpriced"),
        ("Agreement", "agreement", "agreement-note"),
        ("Alarms", "alarms", "alarms-note"),
    )
    return element(
        "dl",
        [
            element(
                "div",
                element("dt", head),
                element("dd", said[value], class_="value", data_figure=value),
                element("dd", said[note], class_="note", data_figure=note),
            )
            for head, value, note in tiles
        ],
        class_="figures",
    )


def _alarm_list(found: figures.Figures) -> Html | None:
    if not found.alarms:
        return None
    items = [element("li", alarm) for alarm in found.alarms[:20]]
    return element("section", element("h2", "Alarms"), element("ul", items, class_="alarms"))


def _alarms(found: figures.Figures) -> Table:
    columns = (Column(key="alarm", head="Alarm"),)
    rows = [{"alarm": alarm} for alarm in found.alarms]
    return Table(name="alarms", caption="Alarms", columns=columns, rows=rows, none="Nothing is wrong.")


def _tasks(seen: Seen, found: figures.Figures, query: str) -> Table:
    lives = {live.record.task_id: live for live in seen.running.tasks.all()}
    rows: list[dict[str, Any]] = []
    for period in sorted(found.tasks, key=lambda period: -period.n_requests)[:MOST_TASKS]:
        live = lives.get(period.task_id)
        agreed = savings.agreement(period)
        rows.append(
            {
                "task": live.record.name if live else "(no known task)",
                "mode": live.mode if live else None,
                "requests": period.n_requests,
                "answered_locally": period.n_local,
                "share": period.n_local / period.n_requests if period.n_requests else None,
                "agreement": agreed.value,
                "agreement_low": agreed.low,
                "agreement_high": agreed.high,
                "audits": agreed.n,
                "cost_usd": period.cost_usd,
                "calls_of_unknown_cost": period.n_unpriced,
            }
        )
    columns = (
        Column(key="task", head="Task", show=_task_link),
        Column(key="mode", head="Mode"),
        Column(key="requests", head="Requests", show=words.count, is_number=True),
        Column(key="share", head="Locally", show=words.percent, is_number=True),
        Column(key="agreement", head="Agreement", show=lambda share: words.percent(share, 2), is_number=True),
        Column(key="audits", head="Audits", show=words.count, is_number=True),
    )
    return Table(name="tasks", caption="By task", columns=columns, rows=rows, none="No request yet.", query=query)


def _task_link(name: str) -> Child:
    return name if name.startswith("(") else element("a", name, href=task_path(name))


def _waiting(seen: Seen) -> Table:
    known: dict[str, int] = {}
    for counted in seen.running.log.task_counts():
        known[counted.task_id] = known.get(counted.task_id, 0) + counted.n_reference_known
    rows = []
    for live in seen.running.tasks.all():
        record = live.record
        if live.mode == "serve" or record.is_held or not record.shape.is_closed:
            continue
        pace = seen.running.tasks.pace(record)
        n = known.get(record.task_id, 0)
        rows.append({"task": record.name, "known_answers": n, "next_look_at": pace.due_at, "why": _why(seen, pace, n)})
    columns = (
        Column(key="task", head="Task", show=_task_link),
        Column(key="known_answers", head="Known answers", show=words.count, is_number=True),
        Column(key="next_look_at", head="Next look at", show=words.count, is_number=True),
        Column(key="why", head="Waits for"),
    )
    none = "No task waits: those with a closed set of answers serve, or are held back by a person."
    return Table(name="waiting", caption="Waiting for data", columns=columns, rows=rows[:MOST_TASKS], none=none)


def _why(seen: Seen, pace: Pace, n_known: int) -> str:
    if seen.running.settings.quality.claim is None:
        return "a tolerated risk ([quality] max_risk)"
    return f"{max(0, pace.due_at - n_known):,} more known answers" if n_known < pace.due_at else "its turn to learn"
