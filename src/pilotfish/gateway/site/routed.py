"""What a route does, on the pages: whether one is in force, the steps of a request, who answered, the day's budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from pilotfish.core.log_row import RequestRow
from pilotfish.gateway.live_route import LiveRoute
from pilotfish.gateway.routed_budget import RoutedBudget
from pilotfish.gateway.site import words
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.pages.elements import Html, element
from pilotfish.store.periods import Period

_objects = msgspec.json.Decoder(dict[str, Any])

_WHYS = {
    "kept": "asking further was not worth it",
    "gain": "asking further was worth it",
    "deadline": "two calls would have been too late",
    "unknown": "nothing came that it could decide on",
    "reference": "nothing larger was left",
    "budget": "nothing larger could be paid for today",
}


class Step(NamedTuple):
    """One step of a request's receipt; `is_yes` where it went on as the smaller model would have it."""

    head: str
    said: str
    is_yes: bool = True


def steps(row: RequestRow) -> list[Step]:
    """Whom the route asked and what it decided by; none where no route did."""
    if not row.route:
        return []
    said = _objects.decode(row.route)
    found = [
        Step(
            f"{late['model']} was given up", f"after {words.duration(late['waited_s'])} without an answer", is_yes=False
        )
        for late in said.get("late", ())
    ]
    for asked in said["asked"]:
        part = "" if asked.get("is_whole", True) else ", ended before its answer was whole"
        latency_s, usd = asked["latency_s"], asked["cost_usd"]
        took = f"in {words.duration(latency_s)}, " if latency_s is not None else ""
        found.append(Step(f"{asked['model']} was asked", f"{took}for {words.money(usd)}{part}"))
    if not said["why"]:
        return found
    prefix, raised = said.get("prefix"), said.get("raised")
    parts = [_WHYS.get(said["why"], said["why"])]
    if said["need"] is not None and said["threshold"] is not None:
        parts.append(f"need {words.score(said['need'])}, certified up to {words.score(said['threshold'])}")
    if raised is not None:
        parts.append(f"the day's budget kept up to {words.score(raised)}, beyond what is promised")
    if prefix:
        parts.append(f"decided on the first {prefix} tokens")
    parts += [f"{name} {'unknown' if value is None else words.score(value)}" for name, value in said["signals"].items()]
    found.append(Step("The route decided", "; ".join(parts), said["why"] == "kept" and row.reason == "kept"))
    return found


def in_force(live: LiveRoute, margin: float | None) -> Html | None:
    """What may decide about open requests, None where no margin is stated for them."""
    if margin is None:
        return None
    route, certificate = live.route, live.certificate
    if live.why_none or route is None or certificate is None:
        return element("p", f"Open requests go to the large model: {live.why_none}. {live.status['audits'] or ''}")
    claim = certificate.claim
    return element(
        "p",
        f"Open requests are decided on by the route {' > '.join(route.models)}, which loses at most "
        f"{100 * claim.max_risk:g} points against always asking the large model, with {100 * claim.confidence:g} % "
        f"confidence. {live.status['audits'] or 'Nothing of it was audited yet.'}",
    )


def answered(smaller: Sequence[Period], audits: Period | None, query: str) -> Table | None:
    """What smaller models answered and cost, None where they answered nothing.

    `smaller` are the sums of a time, one a model of `[routing]`; `audits` those of no task, whose audits are the
    routes'. What the large model would have cost is measured where it was audited: it answered the same requests there.
    """
    found = [period for period in smaller if period.n_requests > period.n_failed]
    if not found:
        return None
    # Of what these models answer, the sums take for a known answer only what a route kept and its coin drew.
    rows = [
        {
            "model": period.model,
            "answered": period.n_requests - period.n_failed,
            "cost_usd": None if period.n_unpriced else period.cost_usd,
            "calls_of_unknown_cost": period.n_unpriced,
            "audited": period.n_reference,
            "usd_each_audited": _mean(period.reference_usd, period.n_reference_priced, period.n_reference),
        }
        for period in found
    ]
    if audits is not None and audits.n_audits:
        rows.append(
            {
                "model": "(the large model, for audits)",
                "answered": None,
                "cost_usd": audits.audit_usd if audits.n_audits_priced == audits.n_audits else None,
                "calls_of_unknown_cost": audits.n_audits - audits.n_audits_priced,
                "audited": audits.n_audits,
                "usd_each_audited": _mean(audits.audit_usd, audits.n_audits_priced, audits.n_audits),
            }
        )
    columns = (
        Column(key="model", head="Model"),
        Column(key="answered", head="Answered", show=words.count, is_number=True),
        Column(key="cost_usd", head="Cost", show=words.money, is_number=True),
        Column(key="calls_of_unknown_cost", head="Calls of unknown cost", show=words.count, is_number=True),
        Column(key="audited", head="Audited", show=words.count, is_number=True),
        Column(key="usd_each_audited", head="Cost of each audited", show=words.money, is_number=True),
    )
    return Table(name="routed", caption="Smaller models", columns=columns, rows=rows, none="", query=query)


def not_summed() -> Html:
    """What stands in no sum of the log, so that nobody takes the table for a saving."""
    return element(
        "p",
        "Net saving: unknown. The log's sums tell models apart, not reasons: requests whose clients named a smaller "
        "model count above, too. How many a route decided on, what answers cost that were not given, and what judges "
        "cost, is not summed up; each request's own page has what its route did.",
        class_="soft",
    )


def _mean(usd: float, n_priced: int, n: int) -> float | None:
    """The mean cost, None where there is none or one is unknown."""
    return usd / n if n and n_priced == n else None


def budget(found: RoutedBudget | None, threshold: float | None) -> Html | None:
    """The day's budget in a sentence, None where there is none. `threshold` is the certified one of the route."""
    if found is None:
        return None
    said = found.status(threshold)
    text = f"Routed requests: {words.money(said['spent_usd_today'])} of {words.money(said['usd_per_day'])} spent today."
    if said["is_raised"]:
        text += " Money is short for the rest of the day: the large model is asked only where that brings most."
    if said["answers_without_promise"]:
        text += (
            f" {said['answers_without_promise']:,} answers since the start were kept by the budget alone: no promise."
        )
    return element("p", text)
