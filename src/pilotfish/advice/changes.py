"""What would change the answer: the volume, each constraint by itself, the tolerated loss, a price, the upkeep.

Every sentence is found by asking the same rule again with one thing changed. Nothing is said where nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pilotfish.advice.costs import HIGHEST_PER_H, LOWEST_PER_H, Segment, segments
from pilotfish.advice.needs import HOURS_PER_MONTH, Needs
from pilotfish.advice.option import Option
from pilotfish.advice.rule import LOOSE, Decision, Judgement, decide, saving
from pilotfish.evals.wording import dollars

_LOOSENED = {
    "local": "If requests might leave your machines",
    "offline": "If there were a network",
    "memory": "With {memory:.1f} GB of memory instead of {memory_now:.1f}",
    "context": "If {context:,} tokens were enough",
    "languages": "Without the demand for languages",
    "max_latency": "If 95 of 100 answers might take {latency:.3g} s",
    "budget": "With ${cost:,.2f} a month instead of ${budget:,.2f}",
}


def changes(options: Sequence[Option], decision: Decision) -> list[str]:
    """The sentences, in this order: volume, constraints, tolerated loss, price, upkeep."""
    found = by_volume(decision)
    found += [said for name in LOOSE if (said := _loosened(name, options, decision))]
    found += _by_margin(decision)
    if decision.chosen is not None and decision.runner_up is not None:
        found += _by_price(decision.chosen, decision.runner_up, decision.per_h)
        found += _by_upkeep(decision.chosen, decision.runner_up, decision.needs)
    return found


def by_volume(decision: Decision) -> list[str]:
    """From which volume on another candidate is cheaper, the nearest below and above."""
    if decision.chosen is None:
        return []
    parts = borders(decision)
    here = next((i for i, part in enumerate(parts) if part.low <= decision.per_h <= part.high), None)
    if here is None:
        return []
    said = []
    if here > 0 and parts[here].low > LOWEST_PER_H:
        said.append(f"Below {volume(parts[here].low)} {parts[here - 1].option} is cheaper.")
    if here + 1 < len(parts) and parts[here].high < HIGHEST_PER_H:
        said.append(f"Above {volume(parts[here].high)} {parts[here + 1].option} is cheaper.")
    return said


def volume(per_h: float) -> str:
    """A volume for people: three digits, an hour or a day."""
    if per_h >= 1:
        return f"{_three(per_h)} requests an hour"
    return f"{_three(24 * per_h)} requests a day"


def _three(value: float) -> str:
    if value <= 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{float(f'{value:.3g}'):,.{digits}f}"


def borders(decision: Decision) -> list[Segment]:
    """Who is the cheapest at which volume, of what keeps every constraint but the budget and is good enough."""
    return segments(decision.at_any_volume, decision.needs)


def _loosened(name: str, options: Sequence[Option], decision: Decision) -> str:
    """The answer without one constraint, where it is another one."""
    needs = decision.needs
    if getattr(needs, name) == LOOSE[name]:
        return ""
    other = decide(options, replace(needs, **{name: LOOSE[name]}), decision.per_h).chosen
    if other is None or (decision.chosen is not None and other.option.name == decision.chosen.option.name):
        return ""
    facts = {
        "memory": (other.option.memory.value or 0.0) / 1e9,
        "memory_now": (needs.memory or 0.0) / 1e9,
        "context": other.option.context or 0,
        "latency": other.option.latency.value or 0.0,
        "cost": other.cost.usd_per_month or 0.0,
        "budget": needs.budget or 0.0,
    }
    condition = _LOOSENED[name].format(**facts)
    if (name == "context" and not facts["context"]) or (name == "max_latency" and not facts["latency"]):
        condition = f"Without the demand on {name.removeprefix('max_')}"
    less = saving(decision.chosen.cost, other.cost) if decision.chosen is not None else None
    by = "" if not less else f", ${abs(less):,.2f} a month {'less' if less > 0 else 'more'}"
    return f"{condition} the answer would be {other.option.name}{by}."


def _by_margin(decision: Decision) -> list[str]:
    """The smallest tolerated loss at which something cheaper would be good enough."""
    now = math.inf if decision.chosen is None else decision.chosen.cost.usd_per_h
    if now is None:
        return []
    found = [
        (row.option.judged.margin_needed, row.option.name)
        for row in decision.judgements
        if row.is_left
        and not row.option.judged.is_good
        and row.option.judged.margin_needed is not None
        and row.option.judged.margin_needed < 1.0
        and row.cost.usd_per_h is not None
        and row.cost.usd_per_h < now
    ]
    if not found:
        return []
    needed, name = min(found)
    points = math.ceil(1000 * needed - 1e-9) / 10
    return [
        f"With a tolerated loss of {points:.1f} points instead of {100 * decision.needs.margin:g} the "
        f"answer would be {name}, from the data that is there."
    ]


def _by_price(chosen: Judgement, runner_up: Judgement, per_h: float) -> list[str]:
    """How far a price a call may move before the two change places."""
    gap = saving(runner_up.cost, chosen.cost)
    if not gap:
        return []
    each = gap / HOURS_PER_MONTH / per_h
    first, second = chosen.option, runner_up.option
    if first.paid_share and second.paid_share and first.usd_per_call == second.usd_per_call:
        # Both pay the same model, for another share of the requests.
        return _priced(chosen, runner_up, first.paid_share - second.paid_share, each)
    return [*_priced(chosen, runner_up, first.paid_share, each), *_priced(chosen, runner_up, -second.paid_share, each)]


def _priced(chosen: Judgement, runner_up: Judgement, share: float, each: float) -> list[str]:
    """One price's break-even: the chosen option pays for `share` more calls than the runner-up (negative: fewer)."""
    payer = chosen.option if share > 0 else runner_up.option
    usd = payer.usd_per_call.value
    if not share or not usd or usd + each / share <= 0:
        return []
    word = "more" if share > 0 else "less"
    return [
        f"If a call that {payer.name} pays for cost {word} than {dollars(usd + each / share)} (now {dollars(usd)}), "
        f"{runner_up.option.name} would be the cheaper one."
    ]


def _by_upkeep(chosen: Judgement, runner_up: Judgement, needs: Needs) -> list[str]:
    """What looking after it may cost before the two change places, where only one of them needs it."""
    gap = saving(runner_up.cost, chosen.cost)
    if not gap or chosen.option.is_own == runner_up.option.is_own:
        return []
    if chosen.option.is_own:
        return [
            f"It stays the cheapest until what is not counted here (work, failures) costs more than "
            f"${gap:,.2f} a month."
        ]
    upkeep = needs.upkeep_usd_per_h * HOURS_PER_MONTH
    if upkeep <= gap:
        return []
    return [
        f"If looking after it cost less than ${upkeep - gap:,.2f} a month (now ${upkeep:,.2f}), "
        f"{runner_up.option.name} would be the cheaper one."
    ]
