"""The next measurement worth making: the one that could change the answer and would save most if it did.

The value of a measurement here is what the answer would cost less each month if it turned out well; how likely that is
nobody knows, so nothing is multiplied with a guess. What it costs to make stands beside it where prices are known.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.advice.costs import cost
from pilotfish.advice.home import Build, Share
from pilotfish.advice.needs import HOURS_PER_MONTH
from pilotfish.advice.option import Option
from pilotfish.advice.rule import Decision, Judgement, saving
from pilotfish.stats import paired

ASSUMED_DISCORDANCE = 0.1
"""The share of items on which two models differ, where nobody has looked: only to say how many items to plan for."""
POWER = 0.8
FIRST = 1e15
"""The rank of what is in the way of any answer: above every number of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One measurement. `usd_per_month` is what is saved if it turns out well, None where that is not known; of equal
    ones the higher `rank` goes first."""

    name: str
    sentence: str
    command: str
    usd_per_month: float | None
    usd_to_make: float | None = None
    rank: float = 0.0


def steps(
    decision: Decision, unmeasured: Sequence[Judgement], builds: Sequence[Build], shares: Sequence[Share]
) -> list[Step]:
    """All measurements that could change the answer, the most worthwhile first."""
    found = [step for row in (*decision.judgements, *unmeasured) if (step := _of(row, decision)) is not None]
    found += _unknown(decision)
    found += _cascades(decision)
    found += [step for build in builds if (step := _built(build, decision, shares)) is not None]
    return sorted(found, key=lambda step: (-(step.usd_per_month or 0.0), -step.rank, step.name))


def _unknown(decision: Decision) -> list[Step]:
    """What must be known of options that no constraint excludes and nobody has shown to be worse, in one step for all
    that lack the same."""
    lacking: dict[tuple[str, ...], list[Option]] = {}
    for row in decision.judgements:
        if row.unknown and not row.exclusions and row.option.judged.word != "worse":
            lacking.setdefault(row.unknown, []).append(row.option)
    return [
        Step(
            name=", ".join(option.name for option in options),
            sentence=f"Find out about {', '.join(option.name for option in options)}: {'; '.join(unknown)}.",
            command=options[0].measure if any("measured" in why or "recorded" in why for why in unknown) else "",
            usd_per_month=None,
            rank=0.0 if decision.chosen is not None else FIRST,
        )
        for unknown, options in lacking.items()
    ]


def _reference(decision: Decision) -> Option | None:
    return next((row.option for row in decision.judgements if row.option.judged.word == "reference"), None)


def _gain(row: Judgement, decision: Decision) -> float | None:
    """Dollars a month saved if it were chosen; None where unknown."""
    return None if decision.chosen is None else saving(decision.chosen.cost, row.cost)


def _of(row: Judgement, decision: Decision) -> Step | None:
    option = row.option
    if row.exclusions or option.judged.word == "worse" or row.status in ("chosen", "runner-up"):
        return None
    gain = _gain(row, decision)
    if gain is not None and gain <= 0:
        return None
    if row.unknown:
        return None
    if option.judged.is_good or (option.judged.word == "not enough data" and option.judged.more_items is None):
        return None  # shown already, or a certificate that promises less: another one is a matter of building it
    return _asked(row, decision, gain)


def _asked(row: Judgement, decision: Decision, gain: float | None) -> Step:
    option, margin = row.option, decision.needs.margin
    more = option.judged.more_items
    if option.judged.word == "not enough data" and more is not None:
        sentence = f"Ask {option.name} and the reference about {more:,} items more, which would likely decide."
    else:
        more = paired.items_for_margin(margin, ASSUMED_DISCORDANCE, alpha=decision.needs.alpha, power=POWER)
        sentence = (
            f"Compare {option.name} with the reference on about {more:,} items (enough for {100 * margin:g} points if "
            f"the two differ on {100 * ASSUMED_DISCORDANCE:g} % of them)."
        )
    return Step(
        name=option.name,
        sentence=sentence,
        command=f"{option.measure} --margin {margin:g}" if option.measure else "",
        usd_per_month=gain,
        usd_to_make=_usd(option, decision, more),
        rank=float(option.parameters or 0),
    )


def _usd(option: Option, decision: Decision, items: int) -> float | None:
    """What asking both about so many items costs in paid requests; None where a price is unknown."""
    reference = _reference(decision)
    total = 0.0
    for asked in (option, reference):
        if asked is None or (asked.paid_share and asked.usd_per_call.value is None):
            return None
        total += items * asked.paid_share * (asked.usd_per_call.value or 0.0)
    return total


def _cascades(decision: Decision) -> list[Step]:
    """A small model that is shown to be worse may still go first, and pays while it passes on few enough."""
    reference = _reference(decision)
    if reference is None or decision.chosen is None or decision.chosen.option is not reference:
        return []
    large = decision.chosen.cost.usd_per_h
    found = []
    for row in decision.judgements:
        if row.option.judged.word != "worse" or not row.is_left or row.cost.usd_per_h is None or not large:
            continue
        share = 1.0 - row.cost.usd_per_h / large
        if share <= 0 or row.option.shape == "cascade" or not row.option.tells_certainty or not row.option.measure:
            continue
        found.append(
            Step(
                name=f"{row.option.name}>{reference.name}",
                sentence=f"{row.option.name} alone is worse. In front of {reference.name} it pays while it passes on "
                f"less than {100 * share:.1f} % of the requests; nobody measured how many it must.",
                command=_cascade_command(row.option.measure, decision.needs.margin),
                usd_per_month=saving(decision.chosen.cost, row.cost),
            )
        )
    return found


def _cascade_command(measure: str, margin: float) -> str:
    """`compare A B --on D` with B in front of A."""
    *head, large, small, on, data = shlex.split(measure)
    return shlex.join([*head, large, f"{small}>{large}@0.9", on, data, "--margin", f"{margin:g}"])


def _built(build: Build, decision: Decision, shares: Sequence[Share]) -> Step | None:
    """A specialist for a task: at most its whole share of the large model's bill is saved."""
    reference = _reference(decision)
    if reference is None or decision.chosen is None or decision.chosen.cost.usd_per_h is None:
        return None
    share = next((share.share for share in shares if share.name == build.task), 0.0)
    # Where the large model answers what no specialist covers, the task's share of its bill is at stake; else that of
    # whatever was chosen.
    has_large = decision.chosen.option.shape in ("large only", "specialist + large")
    now = cost(reference, decision.needs, decision.per_h).usd_per_h if has_large else decision.chosen.cost.usd_per_h
    gain = None if now is None else share * now * HOURS_PER_MONTH
    if not gain:
        return None
    needed = "" if build.answers_least is None else f" It takes {build.answers_least:,} answers at the least"
    there = f"; {build.known_answers:,} are there" if needed else ""
    return Step(
        name=f"specialist for {build.task}",
        sentence=f"Plan a specialist for {build.task} ({100 * share:.1f} % of the traffic).{needed}{there}.",
        command=build.command,
        usd_per_month=gain,
        usd_to_make=0.0,
        rank=1.0,
    )
