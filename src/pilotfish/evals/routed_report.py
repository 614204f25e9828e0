"""What to do with two models, said in one sentence, and every figure that it rests on.

The advice follows a fixed order: use the small model alone where it is as good within the margin; use another single
model that beats the reference for less; do not route where nothing foretells the gain, or where mixing single models
does as well at equal cost; route where a certificate says what it costs; else wait for what is short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.measured import Measured
from pilotfish.evals import routed
from pilotfish.evals.routed import MARGINS, Figures, Pair, Ranking
from pilotfish.evals.tables import Table
from pilotfish.stats import binomial, paired, routing
from pilotfish.stats.routing import Point

Word = Literal["small", "single", "do not route", "route", "not yet", "try"]

ALPHA = 0.05
ORACLE_NOTE = (
    "The oracle knows which answers came out right, luck included; no router can. It is no target, only the end of "
    "the scale."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a route does at its threshold: the share kept, mean score and cost, and what lies beside it at equal cost.

    `loss` is the reference's mean score less the route's. `random` and `hull` are None where no model is as cheap.
    """

    kept: float
    quality: float
    cost: float
    loss: Measured
    random: float | None
    hull: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The advice, the pair, the single models, and every ranking's figures."""

    advice: Word
    sentence: str
    pair: Pair
    gap: Measured
    singles: Mapping[str, Point]
    figures: tuple[Figures, ...]
    reached: Reached | None
    verdict: Certificate | Refusal | None
    margin: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        reached = self.reached
        return {
            "advice": self.advice,
            "sentence": self.sentence,
            "small": self.pair.small,
            "reference": self.pair.reference,
            "n": len(self.pair.outcomes),
            "left_out": self.pair.left_out,
            "cost_unit": unit(self.pair),
            "gap": self.gap.to_json(),
            "singles": {name: {"cost": point.cost, "score": point.quality} for name, point in self.singles.items()},
            "rankings": [figures.to_json() for figures in self.figures],
            "reached": None
            if reached is None
            else {
                "kept": reached.kept,
                "score": reached.quality,
                "cost": reached.cost,
                "loss": reached.loss.to_json(),
                "random_at_equal_cost": reached.random,
                "hull_at_equal_cost": reached.hull,
            },
            "verdict": None if self.verdict is None else self.verdict.to_json(),
            "notes": list(self.notes),
        }


def unit(pair: Pair) -> str:
    """What costs are counted in."""
    return "USD a request" if pair.has_costs else "share of calls to the reference"


def report(
    pair: Pair,
    rankings: Sequence[Ranking],
    *,
    margin: float,
    reached: Reached | None = None,
    verdict: Certificate | Refusal | None = None,
    notes: Sequence[str] = (),
    why_none: str = "",
) -> Report:
    """The report on a pair: the rankings given, then every control.

    The advice is about the first ranking that is no control; where there is none, `why_none` says why.
    """
    figures = tuple(routed.measure(pair, ranking) for ranking in (*rankings, *routed.controls(pair)))
    difference = paired.difference(pair.gains)
    low, high = difference.interval()
    gap = Measured(value=difference.mean, low=low, high=high, n=difference.n, method="normal, paired")
    singles = routed.singles(pair)
    proposed = next((one for one in figures if not one.is_control), None)
    advice, sentence = _advice(pair, difference, singles, proposed, verdict, margin)
    if proposed is None and advice == "do not route" and why_none:
        sentence += f" {why_none[:1].upper()}{why_none[1:]}."
    return Report(
        advice=advice,
        sentence=sentence,
        pair=pair,
        gap=gap,
        singles=singles,
        figures=figures,
        reached=reached,
        verdict=verdict,
        margin=margin,
        notes=(*_notes(pair), *notes),
    )


def reach(pair: Pair, kept: Sequence[bool], quality: Sequence[float], cost: Sequence[float]) -> Reached:
    """What a route's decisions on a pair come to; `quality` and `cost` are those of each answer given."""
    difference = paired.difference([strong - own for strong, own in zip(pair.strong, quality, strict=True)])
    n, mean_cost = len(quality), sum(cost) / len(cost)
    low, high = difference.interval()
    two = [routed.singles(pair)[name] for name in (pair.small, pair.reference)]
    return Reached(
        kept=sum(kept) / n,
        quality=sum(quality) / n,
        cost=mean_cost,
        loss=Measured(value=difference.mean, low=low, high=high, n=n, method="normal, paired"),
        random=routing.height(routing.hull(two), mean_cost),
        hull=routing.height(routing.hull(list(routed.singles(pair).values())), mean_cost),
    )


def _advice(  # noqa: PLR0911 - one return a rule, in their order
    pair: Pair,
    gap: paired.Difference,
    singles: Mapping[str, Point],
    proposed: Figures | None,
    verdict: Certificate | Refusal | None,
    margin: float,
) -> tuple[Word, str]:
    points, most = 100.0 * gap.mean, 100.0 * _at_most(gap)
    if most <= 100.0 * margin:
        return "small", (
            f"Use {pair.small} for everything: {pair.reference} is {points:+.1f} points better on {gap.n:,} requests, "
            f"and at most {most:.1f} with 95 % confidence."
        )
    better = _better_single(pair, singles, margin)
    if better is not None:
        return "single", (
            f"Use {better} for everything: on {gap.n:,} requests it scores no less than {pair.reference}, and it costs "
            f"less ({singles[better].cost:.3g} against {singles[pair.reference].cost:.3g} {unit(pair)})."
        )
    if proposed is None:
        return "do not route", f"Do not route: nothing is known that foretells when {pair.small} is enough."
    if proposed.p > ALPHA:
        why = f"{proposed.name} is not shown to be better than chance (p = {proposed.p:.2g})"
        return "do not route", f"Do not route: {why}, and {pair.reference} is {points:+.1f} points better."
    if proposed.over_hull is not None and proposed.over_hull <= 0.0:
        why = f"at equal cost {proposed.name} is no better than a random mixture of single models"
        return "do not route", f"Do not route: {why}."
    if isinstance(verdict, Certificate):
        return "route", (
            f"Route: {pair.small} keeps {100.0 * verdict.coverage:.0f} % of the requests, and the loss against always "
            f"{pair.reference} is at most {100.0 * verdict.claim.max_risk:g} points with "
            f"{100.0 * verdict.claim.confidence:g} % confidence."
        )
    if isinstance(verdict, Refusal):
        return "not yet", f"Do not route yet: {verdict.message}"
    return "try", (
        f"Routing is worth trying: {proposed.name} orders the requests better than chance "
        f"(APGR {proposed.apgr.value or 0.0:.2f}). Nothing is promised without a certificate (pilotfish route train)."
    )


def _at_most(gap: paired.Difference) -> float:
    """What the mean gap is at most, with confidence 1 - `ALPHA`: by the normal interval, and by how many requests there
    are, since a few on which nothing was lost say little of what is lost on others."""
    return max(gap.interval(1.0 - 2.0 * ALPHA).high, binomial.upper(0, gap.n, ALPHA))


def _better_single(pair: Pair, singles: Mapping[str, Point], margin: float) -> str | None:
    """The cheapest other model that scores no less than the reference for less, and whose loss against it is at most
    the margin with confidence; None without prices."""
    reference = singles[pair.reference]
    for name in sorted(singles, key=lambda name: singles[name].cost):
        point = singles[name]
        if name in (pair.small, pair.reference) or point.quality < reference.quality or point.cost >= reference.cost:
            continue
        lost = [strong - one.tried[name].score for strong, one in zip(pair.strong, pair.outcomes, strict=True)]
        if _at_most(paired.difference(lost)) <= margin:
            return name
    return None


def _notes(pair: Pair) -> tuple[str, ...]:
    notes = []
    if pair.left_out:
        notes.append(f"{pair.left_out:,} outcomes lack an answer of one of the two and are left out.")
    if not pair.has_costs:
        notes.append(
            "Not every answer has a cost, so costs are shares of calls to the reference (--price adds costs where the "
            "tokens or texts of answers are known)."
        )
    if len({outcome.probability for outcome in pair.outcomes}) > 1:
        notes.append("The outcomes were drawn with unequal probabilities; these figures describe those drawn.")
    return (*notes, ORACLE_NOTE)


def tables(found: Report) -> list[Table]:
    """The report's tables, for the terminal and for the page."""
    result = [_singles_table(found), _rankings_table(found)]
    if found.reached is not None:
        result.insert(0, _reached_table(found, found.reached))
    return result


def _reached_table(found: Report, reached: Reached) -> Table:
    pair = found.pair
    rows = [
        ["this route", _share(reached.kept), _points(reached.quality), f"{reached.cost:.3g}"],
        ["random mixture of the two", "-", _points(reached.random), f"{reached.cost:.3g}"],
        ["convex hull of single models", "-", _points(reached.hull), f"{reached.cost:.3g}"],
        [f"always {pair.small}", "100 %", _points(found.singles[pair.small].quality), _cost(found, pair.small)],
        [
            f"always {pair.reference}",
            "0 %",
            _points(found.singles[pair.reference].quality),
            _cost(found, pair.reference),
        ],
    ]
    loss = reached.loss
    note = f"Loss against always {pair.reference}: {_interval(loss, 100.0)} points (normal, paired)."
    return Table(title="At the route's threshold", columns=["", "kept", "score", unit(pair)], rows=rows, notes=[note])


def _singles_table(found: Report) -> Table:
    best = max(found.singles, key=lambda name: found.singles[name].quality)
    corners = routing.hull(list(found.singles.values()))
    rows = [
        [
            name + (" (best single)" if name == best else ""),
            f"{point.cost:.3g}",
            _points(point.quality),
            "yes" if point in corners else "",
        ]
        for name, point in sorted(found.singles.items(), key=lambda item: item[1].cost)
    ]
    return Table(title="Single models", columns=["model", unit(found.pair), "score", "on the hull"], rows=rows)


def _rankings_table(found: Report) -> Table:
    rows = [
        [
            figures.name + ("" if figures.is_control else " *"),
            _interval(figures.apgr),
            f"{figures.p:.2g}",
            _share(figures.cpt50),
            _share(figures.cpt80),
            _points(figures.aiq),
            "-" if figures.over_hull is None else f"{100.0 * figures.over_hull:+.1f}",
            *(_share(share) for share in figures.kept),
        ]
        for figures in found.figures
    ]
    columns = ["ranking", "APGR (95 %)", "p", "CPT50", "CPT80", "AIQ", "over hull"]
    columns += [f"kept at -{100.0 * margin:g}" for margin in MARGINS]
    return Table(
        title="Who needs the reference? Rankings of the requests, best first to be sent on",
        columns=columns,
        rows=rows,
        notes=[
            "* proposed; all others are controls. APGR 0.5 is chance; p: better than chance, one-sided.",
            "kept at -1: the share the small model could answer at a loss of one point, in hindsight, unproven.",
            *found.notes,
        ],
    )


def _cost(found: Report, name: str) -> str:
    return f"{found.singles[name].cost:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100.0 * value:.0f} %"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100.0 * value:.1f}"


def _interval(measured: Measured, factor: float = 1.0) -> str:
    if measured.value is None:
        return measured.why_none
    digits = 3 if factor == 1.0 else 2
    text = f"{factor * measured.value:.{digits}f}"
    if measured.low is None or measured.high is None:
        return text
    return f"{text} ({factor * measured.low:.{digits}f} to {factor * measured.high:.{digits}f})"
