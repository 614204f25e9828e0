"""The rule, fixed before the data and the same for every model (docs/advise.md).

First the constraints: each excludes what it excludes, with its numbers, whatever the quality. Then, of what is left and
shown to be good enough, the cheapest at the stated volume. What is unknown is never taken for good: an unknown price, a
quality that nobody measured, a place that nobody names. Nothing in here looks at a name, except to break a last tie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pilotfish.advice.costs import Cost, cheapest, cost
from pilotfish.advice.needs import HOURS_PER_MONTH, Needs
from pilotfish.advice.option import Option

Status = Literal["chosen", "runner-up", "good enough", "not shown to be good enough", "cannot be judged", "excluded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """A constraint that an option breaks, with the numbers."""

    constraint: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One option under the rule. `unknown` says what would have to be known to judge it."""

    option: Option
    cost: Cost
    exclusions: tuple[Exclusion, ...]
    unknown: tuple[str, ...]
    status: Status

    @property
    def is_left(self) -> bool:
        """Whether no constraint excludes it and everything that they ask for is known."""
        return not self.exclusions and not self.unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All options under the rule at one volume; `chosen` is None where nothing is shown to be good enough."""

    needs: Needs
    per_h: float
    judgements: tuple[Judgement, ...]
    chosen: Judgement | None
    runner_up: Judgement | None

    @property
    def candidates(self) -> list[Option]:
        """What the rule chose from."""
        return [row.option for row in self.judgements if row.is_left and row.option.judged.is_good]

    @property
    def at_any_volume(self) -> list[Option]:
        """The same, with what only the budget excludes: at another volume it may not."""
        return [
            row.option
            for row in self.judgements
            if not row.unknown and row.option.judged.is_good and {e.constraint for e in row.exclusions} <= {"budget"}
        ]

    def of(self, name: str) -> Judgement:
        """The judgement of the option of that name."""
        return next(row for row in self.judgements if row.option.name == name)


def decide(options: Sequence[Option], needs: Needs, per_h: float) -> Decision:
    """The decision at `per_h` requests an hour."""
    rows = [_judgement(option, needs, per_h) for option in options]
    good = {row.option.name: row for row in rows if row.is_left and row.option.judged.is_good}
    first = cheapest([row.option for row in good.values()], needs, per_h)
    second = cheapest([row.option for row in good.values() if row.option is not first], needs, per_h)
    ranks: dict[str, Status] = {}
    if first is not None:
        ranks[first.name] = "chosen"
    if second is not None:
        ranks[second.name] = "runner-up"
    rows = [replace(row, status=ranks.get(row.option.name, row.status)) for row in rows]
    by_name = {row.option.name: row for row in rows}
    return Decision(
        needs=needs,
        per_h=per_h,
        judgements=tuple(rows),
        chosen=by_name[first.name] if first is not None else None,
        runner_up=by_name[second.name] if second is not None else None,
    )


def _judgement(option: Option, needs: Needs, per_h: float) -> Judgement:
    found = cost(option, needs, per_h)
    exclusions, unknown = [], []
    for constraint, check in CONSTRAINTS.items():
        said = check(option, needs, found)
        if isinstance(said, _Broken):
            exclusions.append(Exclusion(constraint=constraint, sentence=said))
        elif said:
            unknown.append(said)
    if found.why_none:
        unknown.append(found.why_none)
    status: Status = "good enough" if option.judged.is_good else "not shown to be good enough"
    if unknown:
        status = "cannot be judged"
    if exclusions:
        status = "excluded"
    return Judgement(
        option=option, cost=found, exclusions=tuple(exclusions), unknown=tuple(dict.fromkeys(unknown)), status=status
    )


class _Broken(str):
    """A sentence that excludes; a plain one says what is not known, an empty one that all is well."""

    __slots__ = ()


def _local(option: Option, needs: Needs, _: Cost) -> str:
    if not needs.local or option.where == "own":
        return ""
    return _Broken(_leaves(option, "requests must stay on your own machines"))


def _offline(option: Option, needs: Needs, _: Cost) -> str:
    if not needs.offline or option.where == "own":
        return ""
    return _Broken(_leaves(option, "there is no network"))


def _leaves(option: Option, why: str) -> str:
    if option.where == "unknown":
        return f"{why}, and nobody says that it runs there (--rent, or local = true)"
    share = "" if option.paid_share >= 1 else f" with {100 * option.paid_share:.1f} % of the requests"
    return f"{why}, and it asks a remote server{share}"


def _memory(option: Option, needs: Needs, _: Cost) -> str:
    peak = option.memory.value
    if not option.is_own or option.rent_usd_per_h is not None or needs.memory is None or peak is None:
        return ""
    if peak <= needs.memory:
        return ""
    how = " (estimate)" if option.memory.is_estimate else ""
    return _Broken(f"it takes {peak / 1e9:.2f} GB of memory{how}, and there are {needs.memory / 1e9:.2f} GB")


def _context(option: Option, needs: Needs, _: Cost) -> str:
    if needs.context is None or (option.context is not None and option.context >= needs.context):
        return ""
    if option.context is None:
        return "how many tokens it holds is not known (context, in the file of --needs)"
    return _Broken(f"it is known to hold {option.context:,} tokens, and {needs.context:,} are needed")


def _languages(option: Option, needs: Needs, _: Cost) -> str:
    missing = [] if option.languages is None else [name for name in needs.languages if name not in option.languages]
    if not missing:
        return ""
    return _Broken(f"it is stated to know {', '.join(option.languages or ())}, and not {', '.join(missing)}")


def _latency(option: Option, needs: Needs, _: Cost) -> str:
    if needs.max_latency is None:
        return ""
    seconds = option.latency.value
    if seconds is None:
        return f"its latency is not known: {option.latency.why_none}"
    if seconds <= needs.max_latency:
        return ""
    how = ", by estimate at least" if option.latency.is_estimate else ""
    return _Broken(f"95 of 100 answers take {seconds:.3g} s{how}, and {needs.max_latency:.3g} s are allowed")


def _budget(_: Option, needs: Needs, found: Cost) -> str:
    if needs.budget is None or found.usd_per_month is None or found.usd_per_month <= needs.budget:
        return ""
    how = " (estimate)" if found.is_estimate else ""
    return _Broken(f"it costs ${found.usd_per_month:,.2f} a month{how}, and ${needs.budget:,.2f} are allowed")


CONSTRAINTS: Mapping[str, Callable[[Option, Needs, Cost], str]] = {
    "local": _local,
    "offline": _offline,
    "memory": _memory,
    "context": _context,
    "languages": _languages,
    "max_latency": _latency,
    "budget": _budget,
}
"""In the order in which they are looked at and printed. Each knows only its own answer of `Needs`."""

LOOSE: Mapping[str, Any] = {
    "local": False,
    "offline": False,
    "memory": None,
    "context": None,
    "languages": (),
    "max_latency": None,
    "budget": None,
}
"""What each constraint is where it constrains nothing."""


def saving(dear: Cost, cheap: Cost) -> float | None:
    """US dollars a month that the second costs less; None where a cost is unknown."""
    if dear.usd_per_h is None or cheap.usd_per_h is None:
        return None
    return (dear.usd_per_h - cheap.usd_per_h) * HOURS_PER_MONTH
