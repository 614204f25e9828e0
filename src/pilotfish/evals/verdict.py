"""The fixed rule of verdicts: better, non-inferior within the margin, worse, or not enough data. In that order.

The rule stands before the data and is the same for every model (docs/compare.md). A candidate is *better* or *worse*
where the paired test rejects "equally good" after Holm over all candidates, and *non-inferior within d* where its
one-sided bound lies above -d, again after Holm. Non-inferior goes before worse: a loss that is shown to lie within what
the user tolerates is tolerated, and the sentence still names it. Everything else is *not enough data*, with how many
items more. "Not significant" is never "equal".

0/1 scores of independent items are tested exactly (McNemar) and bounded by Tango's score interval; graded or clustered
scores by approximate randomisation and the normal bound, whose error is never taken for smaller than what so few
independent items could have missed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Literal

from pilotfish.stats import paired
from pilotfish.stats.binomial import Interval
from pilotfish.stats.resampled_pairs import paired_bootstrap, randomisation_p

Word = Literal["better", "worse", "non-inferior", "not enough data"]

FEWEST_UNITS = 20
"""Below so many independent items or clusters a graded score shows no non-inferiority: no normal bound holds."""

DEFAULT_MARGIN = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What counts as shown: the tolerated loss `margin` (0..1), the error rate `alpha` over all candidates.

    `resamples` of bootstrap and randomisation are drawn from `seed`.
    """

    margin: float = DEFAULT_MARGIN
    alpha: float = 0.05
    power: float = 0.8
    seed: int = 0
    resamples: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Scores of two models on the same items, in the same order; `clusters` where items are not independent."""

    candidate: str
    baseline: str
    scores: Sequence[float]
    baseline_scores: Sequence[float]
    clusters: Sequence[str] | None = None

    @property
    def differences(self) -> list[float]:
        """Candidate less baseline, item by item."""
        return [a - b for a, b in zip(self.scores, self.baseline_scores, strict=True)]

    @property
    def is_binary(self) -> bool:
        """Whether the exact test applies: every score is 0 or 1, and no cluster."""
        return self.clusters is None and all(value in (0.0, 1.0) for value in (*self.scores, *self.baseline_scores))


def pairs(
    names: Sequence[str],
    scores: Mapping[str, Mapping[str, float]],
    shared: Sequence[str],
    clusters: Mapping[str, str] | None,
) -> list[Paired]:
    """Each model but the first against the first, on the `shared` items; `scores` are by model and item."""
    baseline, *others = names
    return [
        Paired(
            candidate=name,
            baseline=baseline,
            scores=[scores[name][item] for item in shared],
            baseline_scores=[scores[baseline][item] for item in shared],
            clusters=None if clusters is None else [clusters[item] for item in shared],
        )
        for name in others
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is known about one candidate against the baseline, and the verdict.

    `discordant` counts items that only the candidate, and only the baseline, has right (None for graded scores);
    `lower` is the one-sided bound of the difference at 1 - alpha, `interval` the two-sided one, `bootstrap` that of
    10,000 resamples. `unpaired_error` is what the error would be if the pairing were thrown away, for comparison.
    `detectable` is the smallest difference that so many items would show with the stated power.
    """

    candidate: str
    baseline: str
    n: int
    difference: float
    error: float
    unpaired_error: float | None
    interval: Interval
    bootstrap: Interval
    lower: float
    discordant: tuple[int, int] | None
    mcnemar: paired.McNemar | None
    test: str
    p: float
    p_adjusted: float
    p_noninferior: float
    p_noninferior_adjusted: float
    detectable: float
    verdict: Word
    more_items: int | None
    sentence: str


@dataclass(slots=True, kw_only=True)
class _Evidence:
    pair: Paired
    found: paired.Difference
    variance: float
    error: float
    discordant: tuple[int, int] | None
    p: float
    p_noninferior: float


def compare(pairs: Sequence[Paired], rule: Rule) -> list[Comparison]:
    """The verdicts on all candidates together, in their order. ValueError where a pair has no item."""
    evidence = [_evidence(pair, rule) for pair in pairs]
    p_adjusted = paired.holm([item.p for item in evidence])
    p_within = paired.holm([item.p_noninferior for item in evidence])
    return [_comparison(*row, rule) for row in zip(evidence, p_adjusted, p_within, strict=True)]


def _evidence(pair: Paired, rule: Rule) -> _Evidence:
    differences = pair.differences
    found = paired.difference(differences, pair.clusters)
    n = found.n
    if pair.is_binary:
        gains, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
        return _Evidence(
            pair=pair,
            found=found,
            variance=max(gains + losses, 1) / n,
            error=found.error,
            discordant=(gains, losses),
            p=paired.mcnemar(gains, losses).exact,
            p_noninferior=paired.noninferiority_p(gains, losses, n, rule.margin),
        )
    units = n if pair.clusters is None else len(set(pair.clusters))
    z = NormalDist().inv_cdf(1.0 - rule.alpha)
    # What no one of k independent units has shown may still be true of z^2 / (k + z^2) of them (Wilson's bound).
    error = max(found.error, z / (units + z * z))
    p_within = NormalDist().cdf(-(found.mean + rule.margin) / error) if units >= FEWEST_UNITS else 1.0
    return _Evidence(
        pair=pair,
        found=found,
        variance=min(1.0, error * error * n),
        error=error,
        discordant=None,
        p=randomisation_p(differences, pair.clusters, repeats=rule.resamples, seed=rule.seed),
        p_noninferior=p_within,
    )


def _comparison(evidence: _Evidence, p_adjusted: float, p_within: float, rule: Rule) -> Comparison:
    pair, found = evidence.pair, evidence.found
    interval, lower = _bounds(evidence, rule)
    word = _word(found.mean, p_adjusted, p_within, rule)
    more = _more_items(evidence, rule) if word == "not enough data" else None
    return Comparison(
        candidate=pair.candidate,
        baseline=pair.baseline,
        n=found.n,
        difference=found.mean,
        error=found.error,
        unpaired_error=_unpaired(pair) if evidence.discordant else None,
        interval=interval,
        bootstrap=paired_bootstrap(pair.differences, pair.clusters, repeats=rule.resamples, seed=rule.seed),
        lower=lower,
        discordant=evidence.discordant,
        mcnemar=paired.mcnemar(*evidence.discordant) if evidence.discordant else None,
        test="exact McNemar" if evidence.discordant else f"approximate randomisation, {rule.resamples:,} draws",
        p=evidence.p,
        p_adjusted=p_adjusted,
        p_noninferior=evidence.p_noninferior,
        p_noninferior_adjusted=p_within,
        detectable=paired.detectable(found.n, evidence.variance, alpha=rule.alpha, power=rule.power),
        verdict=word,
        more_items=more,
        sentence=_sentence(word, evidence, p_adjusted, more, rule),
    )


def _unpaired(pair: Paired) -> float:
    return paired.unpaired_error(fmean(pair.scores), fmean(pair.baseline_scores), len(pair.scores))


def _bounds(evidence: _Evidence, rule: Rule) -> tuple[Interval, float]:
    if evidence.discordant is not None:
        n = evidence.found.n
        both = paired.score_interval(*evidence.discordant, n, 1.0 - rule.alpha)
        return both, paired.score_interval(*evidence.discordant, n, 1.0 - 2.0 * rule.alpha).low
    mean = evidence.found.mean
    widened = paired.Difference(mean, evidence.error, evidence.found.n)
    return widened.interval(1.0 - rule.alpha), widened.interval(1.0 - 2.0 * rule.alpha).low


def _word(difference: float, p_adjusted: float, p_within: float, rule: Rule) -> Word:
    if p_adjusted <= rule.alpha and difference > 0.0:
        return "better"
    if p_within <= rule.alpha:
        return "non-inferior"
    return "worse" if p_adjusted <= rule.alpha else "not enough data"


def _more_items(evidence: _Evidence, rule: Rule) -> int:
    """Items more until a verdict is likely: to show the margin if both are equal, or the difference that was found."""
    needed = [paired.items_for_margin(rule.margin, evidence.variance, alpha=rule.alpha, power=rule.power)]
    gap = evidence.found.mean
    if gap:
        needed.append(paired.items_to_see(gap, evidence.variance, alpha=rule.alpha, power=rule.power))
    n = evidence.found.n
    beyond = [total - n for total in needed if total > n]
    # Both counts are averages: where they are reached already, a tenth more is the next sensible look.
    return min(beyond) if beyond else max(1, math.ceil(n / 10))


def _sentence(word: Word, evidence: _Evidence, p_adjusted: float, more: int | None, rule: Rule) -> str:
    pair, gap = evidence.pair, 100.0 * evidence.found.mean
    found = f"{gap:+.1f} points on {evidence.found.n:,} items"
    if word == "better":
        return f"{pair.candidate} is better than {pair.baseline}: {found}, {_p(p_adjusted)}."
    if word == "worse":
        return f"{pair.candidate} is worse than {pair.baseline}: {found}, {_p(p_adjusted)}."
    if word == "non-inferior":
        less = " A loss is shown, but a smaller one." if gap < 0 and p_adjusted <= rule.alpha else ""
        return f"{pair.candidate} is non-inferior to {pair.baseline} within {rule.margin:g}: {found}.{less}"
    return (
        f"Not enough data to tell {pair.candidate} from {pair.baseline}: {found}; about {more:,} more items would "
        f"decide (margin {rule.margin:g}, power {rule.power:g})."
    )


def _p(value: float) -> str:
    return f"p = {value:.4f}" if value >= 0.0001 else "p < 0.0001"
