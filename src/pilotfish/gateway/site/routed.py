"""What a route does, on the pages: whether one is in force, the steps of a request, who answered, the day's budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from pilotfish.core.log_row import RequestRow
from pilotfish.gateway.live_route import LiveRoute
from pilotfish.gateway.routed_budget import RoutedBudget
from pilotfish.gateway.site import words
from pilotfish.gateway.site.net_saving import NetSaving
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.pages.elements import Html, element
from pilotfish.store.periods import RouteSum

_objects = msgspec.json.Decoder(dict[str, Any])

_WHYS = {
    "kept": "asking further was not worth it",
    "gain": "asking further was worth it",
    "deadline": "two calls would have been too late",
    "unknown": "nothing came that it could decide on",
    "reference": "nothing larger was left",
    "budget": "nothing larger could be paid for today",
}


_KINDS = {
    "kept": "kept by the route",
    "same-model": "conversations that went on",
    "budget": "kept by the day's budget alone",
    "asked-further": "large model, after a smaller one",
    "asked-at-once": "large model, at once",
    "smaller-failed": "large model, a smaller one failed",
    "audit": "large model, for audits",
    "pair": "smaller answers, for audits",
    "collect": "collected answers",
    "judge": "grades",
}
"""What a `RouteSum` is of, in the order shown; other reasons come first."""


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
    if said.get("left_alone"):
        found.append(Step(f"{said['left_alone']} was left alone", "given up several times in a row", is_yes=False))
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


def balance(sums: Sequence[RouteSum], query: str) -> Table | None:
    """What requests under a route and finding out about routes came to, a row for each kind of call and model; None
    where there was nothing."""
    if not sums:
        return None
    order = list(_KINDS)
    rows = [
        {
            "what": _KINDS.get(one.kind, one.kind),
            "kind": one.kind,
            "model": one.model or None,
            "calls": one.n,
            "failed": one.n_failed,
            "cost_usd": None if one.n_unpriced else one.usd,
            "usd_each": one.usd / (one.n - one.n_failed) if one.n > one.n_failed and not one.n_unpriced else None,
            "calls_of_unknown_cost": one.n_unpriced,
            "tried_usd": None if one.n_tried_unpriced else one.tried_usd,
            "tries_of_unknown_cost": one.n_tried_unpriced,
        }
        for one in sorted(sums, key=lambda one: order.index(one.kind) if one.kind in _KINDS else -1)
    ]
    columns = (
        Column(key="what", head="What"),
        Column(key="model", head="Model"),
        Column(key="calls", head="Calls", show=words.count, is_number=True),
        Column(key="cost_usd", head="Cost", show=words.money, is_number=True),
        Column(key="usd_each", head="Cost of each", show=words.money, is_number=True),
        Column(key="calls_of_unknown_cost", head="Of unknown cost", show=words.count, is_number=True),
        Column(key="tried_usd", head="Beside it, not given", show=words.money, is_number=True),
        Column(key="tries_of_unknown_cost", head="Of that unknown", show=words.count, is_number=True),
    )
    return Table(name="routed", caption="Smaller models", columns=columns, rows=rows, none="", query=query)


def net(found: NetSaving) -> list[Html]:
    """The net saving in sentences, what it rests on, and what is not in it."""
    kept = f"The kept answers ({found.n_kept:,})"
    parts = []
    if found.n_kept and found.would.value is not None:
        parts.append(
            f"{kept} would have cost {words.money(found.would.value)} at the large model, estimated from those that "
            f"were audited ({found.would.n:,}); they cost {words.money(found.kept_usd)}."
        )
    elif found.n_kept:
        parts.append(
            f"{kept} cost {words.money(found.kept_usd)}. Audits ([routing] audit_rate) tell what the large model costs "
            "for the same requests."
        )
    else:
        parts.append("No answer was kept in this time.")
    parts.append(
        f"Answers not given, and further looks, cost {words.money(found.tried_usd)}; audits, collected pairs and "
        f"grades {words.money(found.finding_out_usd)}."
    )
    if found.n_left_out:
        parts.append(
            "Not in it: answers in conversations that went on, and those kept by the day's budget alone "
            f"({found.n_left_out:,}, which cost {words.money(found.left_out_usd)}); no audit tells what they saved."
        )
    if found.n_failed:
        parts.append(f"Unknown is what calls that failed ({found.n_failed:,}) may have cost.")
    figure = element("p", element("strong", f"Net saving: {_figure(found)}."))
    return [figure, element("p", " ".join(parts), class_="soft")]


def _figure(found: NetSaving) -> str:
    if found.net.value is None:
        at_most = "" if found.at_most_usd is None else f"; at most {words.money(found.at_most_usd)}"
        return f"{found.net.why_none}{at_most}"
    low, high = found.net.low, found.net.high
    interval = "" if low is None else f" (95 %: {words.money(low)} to {words.money(high)})"
    return f"{words.money(found.net.value)}{interval}"


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
