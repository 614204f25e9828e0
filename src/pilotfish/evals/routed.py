"""Two models on recorded outcomes, and what any way of choosing between them is worth, beside its controls.

A ranking says of each request how much it needs the reference; where it comes from (a learnt route, the length of the
prompt, a task's label) is not asked. Everything is computed from recorded scores: nobody is called. Costs are US
dollars a request where every answer's cost is known, else shares of calls to the reference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from pilotfish.core.errors import DataError
from pilotfish.core.measured import Measured
from pilotfish.core.outcome import Outcome
from pilotfish.stats import resampled_curves, routing
from pilotfish.stats.routing import Point

MARGINS = (0.01, 0.02, 0.05)
"""The losses against the reference, as shares of the score, at which the share kept by the small model is shown."""

_FOLDS = 5
_TASK_PRIOR = 10.0
"""Requests of its own that a task needs before its mean gain counts as much as that of all tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Outcomes on which both models were graded. The costs are None where any of them is unknown."""

    small: str
    reference: str
    outcomes: Sequence[Outcome]
    left_out: int = 0

    @property
    def weak(self) -> list[float]:
        """The small model's scores."""
        return [outcome.tried[self.small].score for outcome in self.outcomes]

    @property
    def strong(self) -> list[float]:
        """The reference's scores."""
        return [outcome.tried[self.reference].score for outcome in self.outcomes]

    @property
    def gains(self) -> list[float]:
        """What the reference is better by, request by request; negative where the small model is."""
        return [strong - weak for strong, weak in zip(self.strong, self.weak, strict=True)]

    def usd(self, model: str) -> list[float] | None:
        """What each of the model's answers cost, None where one is unknown."""
        costs = [outcome.tried[model].cost_usd for outcome in self.outcomes]
        known = [cost for cost in costs if cost is not None]
        return known if len(known) == len(costs) else None

    @property
    def has_costs(self) -> bool:
        """Whether costs are US dollars; else they are shares of calls to the reference."""
        return self.usd(self.small) is not None and self.usd(self.reference) is not None

    def costs(self, *, reads_answer: bool) -> tuple[list[float], list[float]]:
        """What a request costs where the small model answers, and where it goes on to the reference.

        Whoever reads the small model's answer first pays for both.
        """
        small, large = self.usd(self.small), self.usd(self.reference)
        if small is None or large is None:
            return [0.0] * len(self.outcomes), [1.0] * len(self.outcomes)
        return small, [a + b for a, b in zip(small, large, strict=True)] if reads_answer else large


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How much each request of a pair needs the reference. `is_control` where nobody proposes to use it.

    It is the best of `n_tried` on these very requests.
    """

    name: str
    needs: Sequence[float]
    reads_answer: bool = False
    is_control: bool = True
    n_tried: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a ranking is worth on a pair. `p` is that of "no better than chance", times the number that were tried.

    `over_hull` is by how much quality lies above the convex hull of single models at equal cost, on average; `kept` the
    largest share that the small model may answer within each of `MARGINS`, in hindsight: a promise takes a certificate.
    """

    name: str
    is_control: bool
    reads_answer: bool
    apgr: Measured
    p: float
    cpt50: float | None
    cpt80: float | None
    aiq: float | None
    over_hull: float | None
    kept: tuple[float, ...]
    curve: tuple[Point, ...]

    def to_json(self) -> dict[str, Any]:
        """All figures but the curve's points beyond a hundred."""
        step = max(1, len(self.curve) // 100)
        return {
            "name": self.name,
            "is_control": self.is_control,
            "reads_answer": self.reads_answer,
            "apgr": self.apgr.to_json(),
            "p_better_than_chance": self.p,
            "cpt50": self.cpt50,
            "cpt80": self.cpt80,
            "aiq": self.aiq,
            "over_hull": self.over_hull,
            "kept_in_hindsight": {f"{margin:g}": share for margin, share in zip(MARGINS, self.kept, strict=True)},
            "curve": [list(point) for point in (*self.curve[:-1:step], self.curve[-1])],
        }


def pair(outcomes: Sequence[Outcome], small: str = "", reference: str = "") -> Pair:
    """The outcomes that have both models, named or, where there are just two, told by their mean score.

    Raises `DataError` where a name is unknown, two are not there, or no outcome has both.
    """
    known = sorted({name for outcome in outcomes for name in outcome.tried})
    for name in (small, reference):
        if name and name not in known:
            raise DataError(f"No outcome has the model {name!r}.", hint=f"Known models: {', '.join(known[:12])}.")
    if not (small and reference):
        rest = [name for name in known if name not in (small, reference)]
        if len(rest) + bool(small) + bool(reference) != 2:
            listed = f"{', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"
            if len(known) == 1:
                raise DataError(
                    f"All answers are of one model, {listed}.",
                    hint="To choose takes the graded answers of two models to the same requests.",
                )
            raise DataError(
                f"The outcomes have {len(known)} models: {listed}.",
                hint="Name the two to choose between: --small MODEL --reference MODEL.",
            )
        rest.sort(key=lambda name: fmean(o.tried[name].score for o in outcomes if name in o.tried))
        small = small or rest.pop(0)
        reference = reference or rest.pop()
    if small == reference:
        raise DataError(f"The small model and the reference are both {small!r}.")
    both = [outcome for outcome in outcomes if small in outcome.tried and reference in outcome.tried]
    if not both:
        raise DataError(f"No outcome has answers of both {small!r} and {reference!r}.")
    return Pair(small=small, reference=reference, outcomes=both, left_out=len(outcomes) - len(both))


def singles(found: Pair) -> dict[str, Point]:
    """Cost and mean score of each model that answered every request of the pair; of the two alone without prices."""
    if not found.has_costs:
        return {
            found.small: Point(0.0, fmean(found.weak)),
            found.reference: Point(1.0, fmean(found.strong)),
        }
    names = set.intersection(*(set(outcome.tried) for outcome in found.outcomes))
    costs = {name: found.usd(name) for name in sorted(names)}
    return {
        name: Point(fmean(usd), fmean(outcome.tried[name].score for outcome in found.outcomes))
        for name, usd in costs.items()
        if usd is not None
    }


def measure(found: Pair, ranking: Ranking, *, seed: int = 0) -> Figures:
    """The figures of one ranking."""
    gains, needs = found.gains, ranking.needs
    value = routing.apgr(needs, gains)
    low_high = resampled_curves.apgr_interval(needs, gains, seed=seed) if value is not None else None
    points = routing.cost_curve(needs, found.weak, gains, *found.costs(reads_answer=ranking.reads_answer))
    return Figures(
        name=ranking.name,
        is_control=ranking.is_control,
        reads_answer=ranking.reads_answer,
        apgr=Measured(
            value=value,
            low=low_high.low if low_high else None,
            high=low_high.high if low_high else None,
            n=len(gains),
            method="percentile bootstrap over requests",
            why_none="" if value is not None else "the reference is not better here: there is no gap to recover",
        ),
        p=min(1.0, ranking.n_tried * resampled_curves.better_than_chance(needs, gains, seed=seed)),
        cpt50=routing.cpt(needs, gains, 0.5),
        cpt80=routing.cpt(needs, gains, 0.8),
        aiq=routing.aiq(points),
        over_hull=routing.over_hull(points, routing.hull(list(singles(found).values()))),
        kept=tuple(kept_within(ranking.needs, gains, margin) for margin in MARGINS),
        curve=tuple(points),
    )


def kept_within(needs: Sequence[float], gains: Sequence[float], margin: float) -> float:
    """The largest share kept by the small model whose loss, in hindsight, is at most `margin`; ties in random order."""
    n, lost, kept, best = len(gains), 0.0, 0.0, 0.0
    for group in reversed(routing.ties(needs, gains)):
        if lost + group.gain <= margin * n + 1e-9:
            best = kept + group.n
        elif lost <= margin * n:
            best = kept + group.n * (margin * n - lost) / group.gain
        kept, lost = kept + group.n, lost + group.gain
    return best / n


def controls(found: Pair) -> list[Ranking]:
    """What every router must beat: prompt length, the task's label, chance; and the oracle, which none can be."""
    rankings = [Ranking(name="prompt length", needs=[float(len(outcome.prompt)) for outcome in found.outcomes])]
    if len({outcome.task for outcome in found.outcomes}) > 1:
        rankings.append(Ranking(name="task label", needs=task_needs(found)))
    rankings.append(Ranking(name="random at equal cost", needs=[0.0] * len(found.outcomes)))
    rankings.append(Ranking(name="oracle (knows every outcome)", needs=routing.oracle(found.gains)))
    return rankings


def task_needs(found: Pair) -> list[float]:
    """Each request's mean gain in its task, from the other folds alone and drawn towards that of all tasks."""
    gains, tasks = found.gains, [outcome.task for outcome in found.outcomes]
    needs = []
    sums: list[defaultdict[str, list[float]]] = [defaultdict(list) for _ in range(_FOLDS)]
    for i, (task, gain) in enumerate(zip(tasks, gains, strict=True)):
        sums[i % _FOLDS][task].append(gain)
    for i, task in enumerate(tasks):
        others = [gain for fold in range(_FOLDS) if fold != i % _FOLDS for gain in sums[fold][task]]
        # One mean for all, or a fold that gained much would be thought to gain less.
        needs.append((sum(others) + _TASK_PRIOR * fmean(gains)) / (len(others) + _TASK_PRIOR))
    return needs


def subset(found: Pair, rows: Sequence[int]) -> Pair:
    """The same pair on some of its rows."""
    return replace(found, outcomes=[found.outcomes[i] for i in rows])
