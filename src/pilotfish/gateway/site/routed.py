"""What a route did, on the pages: the steps of one request, and the budget of the day."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from pilotfish.core.log_row import RequestRow
from pilotfish.gateway.routed_budget import RoutedBudget
from pilotfish.gateway.site import words
from pilotfish.pages.elements import Html, element

_objects = msgspec.json.Decoder(dict[str, Any])

_WHYS = {
    "kept": "asking further was not worth it",
    "gain": "asking further was worth it",
    "deadline": "two calls would have been too late",
    "unknown": "a signal could not be read",
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
    found = []
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
