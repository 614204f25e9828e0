"""From what is needed and what is known to the advice: the one verb of this folder.

It gathers options (run, home, configuration, catalogue), puts the rule to them, and keeps everything that an answer
must be read with: controls, break-even, what would change it, what to measure next. Layout is none of its business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pilotfish.advice import changes, home, next_step
from pilotfish.advice.costs import Segment, cheapest, utilisation
from pilotfish.advice.estimates import Terms, configured, of_catalogue, stated
from pilotfish.advice.needs import HOURS_PER_MONTH, Needs
from pilotfish.advice.option import Known, Option, nothing
from pilotfish.advice.rule import Decision, Judgement, decide
from pilotfish.advice.runs import Run
from pilotfish.config.settings import Settings
from pilotfish.core.errors import UserError

MOST_OF_CATALOGUE = 3
"""Models of the catalogue that are named: those with the most parameters that no constraint excludes."""
_SMALL = ("small only", "specialist only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What there is to advise from; each may be missing. `named` are models that were asked about by name."""

    settings: Settings
    terms: Terms
    run: Run | None = None
    traffic: home.Traffic | None = None
    specialists: Option | None = None
    builds: tuple[home.Build, ...] = ()
    named: tuple[Option, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Everything that is known. `controls` are always-large and always-small; `catalogue` counts what excluded its
    models; `unmeasured` are those of them that are left."""

    decision: Decision
    sources: Sources
    controls: tuple[tuple[str, Judgement], ...]
    segments: tuple[Segment, ...]
    changes: tuple[str, ...]
    steps: tuple[next_step.Step, ...]
    unmeasured: tuple[Judgement, ...]
    catalogue: Mapping[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """One JSON object; the same keys whatever was found."""
        chosen, second = self.decision.chosen, self.decision.runner_up
        needs = asdict(replace(self.decision.needs, stated={}))
        return {
            "answer": chosen.option.name if chosen else None,
            "runner_up": second.option.name if second else None,
            "requests_per_h": self.decision.per_h,
            "needs": {name: value for name, value in needs.items() if name != "stated"},
            "options": [row_json(row, self.decision) for row in self.decision.judgements],
            "catalogue": [row_json(row, self.decision) for row in self.unmeasured],
            "controls": {name: row.option.name for name, row in self.controls},
            "cheapest_by_volume": [asdict(part) for part in self.segments],
            "would_change": list(self.changes),
            "next_measurements": [{k: v for k, v in asdict(step).items() if k != "rank"} for step in self.steps],
            "builds": [asdict(build) for build in self.sources.builds],
            "catalogue_excluded": dict(self.catalogue),
            "run": self.sources.run.path if self.sources.run else None,
            "comparisons": [
                {"candidate": found.candidate, "n": found.n, "difference": found.difference, "lower": found.lower}
                for found in (self.sources.run.comparisons if self.sources.run else ())
            ],
            "notes": list(self.notes),
        }


def row_json(row: Judgement, decision: Decision) -> dict[str, Any]:
    """One option with what the rule says of it; measurements and estimates under names of their own."""
    option = row.option
    return {
        "name": option.name,
        "shape": option.shape,
        "source": option.source,
        "where": option.where,
        "status": row.status,
        "excluded_by": {found.constraint: found.sentence for found in row.exclusions},
        "unknown": list(row.unknown),
        "verdict": option.judged.word,
        "why": option.judged.sentence,
        "items": option.judged.n,
        "more_items": option.judged.more_items,
        "score": option.quality.to_json(),
        "measured": {name: known.measured.to_json() for name, known in _figures(option).items()},
        "estimate": {name: known.estimate.to_json() for name, known in _figures(option).items()},
        "paid_share": option.paid_share,
        "machines": row.cost.machines,
        "utilisation": utilisation(option, row.cost, decision.per_h),
        "usd_per_month": row.cost.usd_per_month,
        "cost_is_estimate": row.cost.is_estimate,
        "measure": option.measure,
    }


def _figures(option: Option) -> dict[str, Known]:
    return {
        "latency_p95_s": option.latency,
        "memory_bytes": option.memory,
        "usd_per_call": option.usd_per_call,
        "requests_per_h_of_a_machine": option.capacity_per_h,
    }


def advise(needs: Needs, sources: Sources) -> Advice:
    """The advice. Raises `UserError` where the volume is not known, or there is nothing to choose from."""
    per_h = _volume(needs, sources)
    options = gather(needs, sources)
    if not options:
        raise UserError(
            "There is nothing to choose from: no run, no log, no configured model.",
            hint="Measure some: pilotfish compare MODEL... --on DATA; then advise --run FILE.",
        )
    decision = decide(options, needs, per_h)
    rest = decide(of_catalogue(needs, sources.terms, [option.name for option in options]), needs, per_h).judgements
    left = sorted(
        (row for row in rest if not row.exclusions), key=lambda row: (-(row.option.parameters or 0), row.option.name)
    )
    left = left[:MOST_OF_CATALOGUE]
    excluded = Counter(found.constraint for row in rest for found in row.exclusions)
    shares = sources.traffic.shares if sources.traffic is not None else ()
    return Advice(
        decision=decision,
        sources=sources,
        controls=_controls(decision),
        segments=tuple(changes.borders(decision)),
        changes=tuple(changes.changes(options, decision)),
        steps=tuple(next_step.steps(decision, [row for row in left if row.is_left], sources.builds, shares)),
        unmeasured=tuple(left),
        catalogue={name: excluded[name] for name in excluded},
        notes=(*sources.notes, *_two_sources(sources), *_notes(decision)),
    )


def _volume(needs: Needs, sources: Sources) -> float:
    if needs.volume is not None:
        return needs.volume
    logged = sources.traffic.per_h if sources.traffic is not None else nothing("there is no log")
    if logged.value is None:
        raise UserError(
            f"How many requests there will be is not known: {logged.why_none}.", hint="State it: --volume 120/h."
        )
    return logged.value


def gather(needs: Needs, sources: Sources) -> list[Option]:
    """All options, each name once: what was measured stands before what is only configured or estimated, and takes
    from the log what the run does not know."""
    found: dict[str, Option] = {}
    if sources.run is not None:
        found = {option.name: option for option in sources.run.options}
    if sources.traffic is not None and sources.traffic.n:
        logged = home.reference_option(sources.traffic, needs, sources.settings)
        known = found.get(logged.name)
        if known is not None:
            found[logged.name] = _filled(known, logged)
        elif sources.run is None:
            found[logged.name] = logged
    for option in (*configured(sources.settings, needs, sources.terms), *sources.named):
        known = found.get(option.name)
        found[option.name] = option if known is None else _filled(known, option)
    reference = found.get(sources.traffic.reference) if sources.traffic is not None else None
    if sources.specialists is not None and reference is not None and reference.judged.word == "reference":
        # The large model behind it costs what the large model alone does, whichever source that is from.
        found[sources.specialists.name] = replace(sources.specialists, usd_per_call=reference.usd_per_call)
    unknown = [name for name in needs.stated if name not in found]
    return [*found.values(), *stated(unknown, needs, sources.terms)]


def _filled(option: Option, other: Option) -> Option:
    """An option with figures of the same model from elsewhere where it has none of its own."""

    def best(own: Known, its: Known) -> Known:
        measured = own.measured if own.measured.value is not None else its.measured
        estimate = own.estimate if own.estimate.value is not None else its.estimate
        if measured.value is None:
            measured = own.measured
        return Known(measured=measured, estimate=estimate)

    largest = max((value for value in (option.context, other.context) if value is not None), default=None)
    return replace(
        option,
        latency=best(option.latency, other.latency),
        usd_per_call=best(option.usd_per_call, other.usd_per_call),
        context=largest,
        languages=option.languages or other.languages,
        n_endpoints=max(option.n_endpoints, other.n_endpoints),
        parameters=option.parameters or other.parameters,
    )


def _controls(decision: Decision) -> tuple[tuple[str, Judgement], ...]:
    """Always-large and always-small, whatever the rule says of them: an answer means little without them."""
    large = [row for row in decision.judgements if row.option.judged.word == "reference"]
    small = [row.option for row in decision.judgements if row.option.shape in _SMALL]
    first = cheapest(small, decision.needs, decision.per_h)
    found = [("always large", row) for row in large]
    return tuple(found + ([("always small", decision.of(first.name))] if first is not None else []))


def _two_sources(sources: Sources) -> list[str]:
    """What a reader must know where a run and a log are read together."""
    run, traffic = sources.run, sources.traffic
    if run is None or traffic is None:
        return []
    if traffic.reference not in {option.name for option in run.options}:
        return [
            f"The log's large model, {traffic.reference}, is not in the run: what the home is certified for agrees "
            "with another model than the run compares with, and is left out ([large] model names it)."
        ]
    return [
        f"The run asked about {run.data}, the rest is from the log: whether both are the same kind of requests is "
        "yours to know."
    ]


def _notes(decision: Decision) -> list[str]:
    needs, found = decision.needs, []
    own = [row for row in decision.judgements if row.option.is_own and row.is_left]
    if own and needs.upkeep_hours is None:
        found.append("Looking after what runs on your own machines is not counted (--upkeep-hours, --upkeep-price).")
    if needs.languages:
        silent = [row.option.name for row in decision.judgements if row.option.languages is None]
        if silent:
            found.append(
                f"Which languages they know is not stated for {_some(silent)}: only items in "
                f"{', '.join(needs.languages)} tell."
            )
    estimated = [row.option.name for row in decision.judgements if row.cost.is_estimate and row.is_left]
    if estimated:
        found.append(f"Costs of {_some(estimated)} rest on an estimate.")
    if own:
        found.append(
            f"A machine of your own is planned to be {100 * needs.utilisation:g} % busy at most; a month has "
            f"{HOURS_PER_MONTH:g} hours."
        )
    return found


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
