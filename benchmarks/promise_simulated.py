"""The promise on simulated deployments: how often is a certificate false when the true risk is known in closed form?

    python benchmarks/promise_simulated.py [--runs 1000] [--quick] [--only TABLE]

Six tables: one attempt at the whole delta; twenty attempts on growing data; the scope gate beside the certainty
gate; two tiers under one test; renewal from rows that a coin drew after serving began; rows drawn with unequal
probabilities. Beside each stands the naive threshold (the lowest whose observed risk keeps the promise), and the speed
of one certificate closes. "Broken" is the share of all deployments that hold a false promise; it may exceed delta = 5 %
by the simulation's error only.
Writes benchmarks/results/promise_simulated-DATE.json.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pilotfish.core.certificate import WHOLE_KINDS, Certificate, Claim, RiskKind
from pilotfish.core.example import Example
from pilotfish.guarantees.certify import Evidence, Terms, certify, design
from pilotfish.guarantees.pace import proving_rows
from pilotfish.guarantees.prove import choose
from pilotfish.guarantees.split import calibration_size, split
from pilotfish.guarantees.tiers import MIN_COVERAGE, Rows
from pilotfish.stats import binomial, sequence, spending, weighted

from record import save, show

DELTA = 0.05
RISKS = (0.01, 0.02, 0.05, 0.1)
SIZES = (150, 300, 1000, 3000)
RUNS_A_PLAN = 50
TERMS = Terms(task_id="", task_name="simulated", attempt=1, created_at="")


@dataclass(frozen=True)
class World:
    """Requests with a hidden u, uniform in [0, 1], a score that is a function of u, and a chance of an error.

    With `flat` None an answer differs with probability 0.002 + 0.6 (1 - u)^3, so the risk of serving all u >= t is
    0.002 + 0.15 (1 - t)^3; else with probability `flat` whatever u is. `hidden` is the t behind a threshold.
    """

    name: str
    score: Callable[[Any], Any]
    hidden: Callable[[float], float]
    flat: float | None = None

    def draw(self, rng: np.random.Generator, n: int, harder: float = 1.0) -> tuple[list[float], list[float]]:
        """Scores and losses of n requests; `harder` multiplies the chance of an error that u explains."""
        u = rng.random(n)
        return self.score(u).tolist(), (rng.random(n) < self.chance(u, harder)).astype(float).tolist()

    def chance(self, u: Any, harder: float = 1.0) -> Any:
        """The chance of an error at u."""
        return self.flat + 0.0 * u if self.flat is not None else np.minimum(1.0, 0.002 + 0.6 * harder * (1 - u) ** 3)

    def risk(self, threshold: float, per: RiskKind, harder: float = 1.0) -> float:
        """The true risk of serving from `threshold` on (for `harder` <= 1.6)."""
        t = self.hidden(threshold)
        among_served = self.flat if self.flat is not None else 0.002 + 0.15 * harder * (1 - t) ** 3
        return among_served * (1.0 if per == "answer" else 1 - t)

    def best(self, max_risk: float, per: RiskKind) -> float:
        """The largest share that can be served within `max_risk`."""
        thresholds = np.unique(self.score(np.linspace(0.0, 1.0, 4001)))
        kept = [1 - self.hidden(t) for t in thresholds if not self.breaks(t, max_risk, per)]
        return max(kept, default=0.0)

    def breaks(self, threshold: float, max_risk: float, per: RiskKind, harder: float = 1.0) -> bool:
        """Whether the true risk is above `max_risk`."""
        return self.risk(threshold, per, harder) > max_risk * (1 + 1e-9)


def steps(k: int) -> tuple[Callable[[Any], Any], Callable[[float], float]]:
    return (lambda u: np.minimum(np.floor(u * k), k - 1) / k), float


def worlds(max_risk: float) -> list[World]:
    """Skewed: like a softmax rounded to three digits; more than a quarter of the rows share the score 1."""
    return [
        World("continuous", lambda u: u, float),
        World("ties", *steps(20)),
        World("discrete", *steps(5)),
        World("skewed", lambda u: np.round(1 - (1 - u) ** 6, 3), lambda t: 1 - min(1.0, 1 - t + 0.0005) ** (1 / 6)),
        # The hardest case for the test: whatever is served is just too bad.
        World("useless", lambda u: u, float, flat=1.001 * max_risk),
    ]


def is_kept(broken: int, runs: int) -> bool:
    """Whether `broken` of `runs` agrees with a chance of at most delta, but for one cell in a thousand."""
    return binomial.lower(broken, runs, 0.001) <= DELTA


def one_attempt(world: World, max_risk: float, n: int, runs: int) -> list[dict[str, Any]]:
    """Both kinds of risk at the whole delta. The order of the tests comes from a somewhat easier or harder world."""
    rng = np.random.default_rng(n)
    broken: Counter[str] = Counter()
    issued: Counter[str] = Counter()
    served: Counter[str] = Counter()
    order: list[float] = []
    for run in range(runs):
        if run % RUNS_A_PLAN == 0:
            fold = sequence.curve(*world.draw(rng, 3 * n // 2, harder=rng.uniform(0.7, 1.3)))
            order = sequence.plan(fold, n, max_risk, DELTA)
        rows = sequence.curve(*world.draw(rng, n))
        found = {
            "answer": sequence.per_answer(rows, order, max_risk, DELTA),
            "traffic": sequence.per_traffic(rows, max_risk, DELTA),
        }
        for per in WHOLE_KINDS:
            naive = sequence.naive(rows, max_risk, per_traffic=per == "traffic")
            broken["naive " + per] += naive is not None and world.breaks(naive.threshold, max_risk, per)
            choice = found[per]
            if choice:
                issued[per] += 1
                broken[per] += world.breaks(choice.threshold, max_risk, per)
                served[per] += 1 - world.hidden(choice.threshold)
    return [
        {
            "per": per,
            "scores": world.name,
            "max_risk": max_risk,
            "n": n,
            "runs": runs,
            "certified": issued[per] / runs,
            "broken": broken[per] / runs,
            "naive_broken": broken["naive " + per] / runs,
            "coverage": served[per] / runs,
            "best_coverage": world.best(max_risk, per),
            "kept": is_kept(broken[per], runs),
        }
        for per in WHOLE_KINDS
    ]


def twenty_attempts(world: World, max_risk: float, runs: int) -> list[dict[str, Any]]:
    """Twenty attempts at 300 to 3,000 answers, each split as the product splits, the student getting better.

    A deployment is broken if any of the certificates is. Unspent: the same with the whole delta each time.
    """
    rng = np.random.default_rng(20)
    sizes = np.geomspace(300, 3000, 20).astype(int).tolist()
    broken: Counter[str] = Counter()
    issued: Counter[str] = Counter()
    for _ in range(runs):
        u, coin = rng.random(sizes[-1]), rng.random(sizes[-1])
        scores = world.score(u).tolist()
        is_broken: set[str] = set()
        is_issued: set[str] = set()
        for attempt, known in enumerate(sizes, start=1):
            harder = 1.3 * (300 / known) ** 0.3
            losses = (coin[:known] < world.chance(u[:known], harder)).astype(float).tolist()
            first = known - calibration_size(known)
            fold, rows = (
                sequence.curve(scores[:first], losses[:first]),
                sequence.curve(scores[first:known], losses[first:]),
            )
            for kind, delta in (("", spending.share(DELTA, attempt)), ("unspent ", DELTA)):
                order = sequence.plan(fold, rows.n_rows, max_risk, delta)
                found = {
                    "answer": sequence.per_answer(rows, order, max_risk, delta),
                    "traffic": sequence.per_traffic(rows, max_risk, delta),
                }
                for per in WHOLE_KINDS:
                    choice = found[per]
                    if choice:
                        is_issued.add(kind + per)
                        if world.breaks(choice.threshold, max_risk, per, harder):
                            is_broken.add(kind + per)
        broken.update(is_broken)
        issued.update(is_issued)
    return [
        {
            "per": per,
            "scores": world.name,
            "max_risk": max_risk,
            "runs": runs,
            "certified": issued[per] / runs,
            "broken": broken[per] / runs,
            "unspent_broken": broken["unspent " + per] / runs,
            "kept": is_kept(broken[per], runs),
        }
        for per in WHOLE_KINDS
    ]


@dataclass(frozen=True)
class Gated:
    """5 % of the requests are no business of the task: scope uniform in [0, 0.6] there, in [0.3, 1] elsewhere.

    Served, they differ with probability 0.9, whatever the certainty, which is uniform everywhere.
    """

    foreign: float = 0.05

    def evidence(self, rng: np.random.Generator, n_fold: int, n: int) -> Evidence:
        """Evidence from `n_fold` out-of-fold and n calibration rows."""
        fold, rows = self._draw(rng, n_fold), self._draw(rng, n)
        return Evidence(
            fold_losses=fold[0],
            fold_certainty=fold[1],
            fold_scope=fold[2],
            losses=rows[0],
            certainty=rows[1],
            scope=rows[2],
        )

    def _draw(self, rng: np.random.Generator, n: int) -> list[list[float]]:
        u, is_foreign = rng.random(n), rng.random(n) < self.foreign
        scope = np.where(is_foreign, rng.uniform(0.0, 0.6, n), rng.uniform(0.3, 1.0, n))
        chance = np.where(is_foreign, 0.9, 0.002 + 0.6 * (1 - u) ** 3)
        return [(rng.random(n) < chance).astype(float).tolist(), u.tolist(), scope.tolist()]

    def risk(self, min_certainty: float, min_scope: float, per: RiskKind) -> tuple[float, float]:
        """The true risk and coverage behind both gates."""
        served = 1 - min_certainty
        own = (1 - self.foreign) * min(1.0, (1 - min_scope) / 0.7) * served
        foreign = self.foreign * max(0.0, (0.6 - min_scope) / 0.6) * served
        errors = own * (0.002 + 0.15 * served**3) + 0.9 * foreign
        coverage = own + foreign
        return errors / (coverage if per == "answer" else 1.0), coverage


def both_gates(max_risk: float, n: int, runs: int) -> list[dict[str, Any]]:
    """`certify` itself, as a first attempt, on evidence with both scores."""
    rng, world = np.random.default_rng(n), Gated()
    cells = []
    for per in WHOLE_KINDS:
        broken = naive_broken = issued = 0
        served = 0.0
        for _ in range(runs):
            verdict = certify(world.evidence(rng, 3 * n // 2, n), Claim(max_risk=max_risk, per=per), TERMS)
            if isinstance(verdict, Certificate):
                risk, coverage = world.risk(verdict.min_certainty, verdict.min_scope, per)
                naive = verdict.details["naive"]
                issued += 1
                served += coverage
                broken += risk > max_risk
                naive_broken += world.risk(naive["min_certainty"], verdict.min_scope, per)[0] > max_risk
        cells.append(
            {
                "per": per,
                "max_risk": max_risk,
                "n": n,
                "runs": runs,
                "certified": issued / runs,
                "broken": broken / runs,
                "naive_broken_where_certified": naive_broken / max(1, issued),
                "coverage": served / runs,
                "kept": is_kept(broken, runs),
            }
        )
    return cells


@dataclass(frozen=True)
class Tiers:
    """Two hidden numbers, uniform in [0, 1]: u decides for the mixture, v for the first tier; `alike` makes them one.

    The mixture's answer differs with probability 0.002 + 0.6 (1 - u)^3, the first tier's with 0.004 + 0.9 (1 - v)^3, or
    both with probability `flat`. Scores are u and v, with `steps` rounded down to so many values.
    """

    name: str
    alike: bool = False
    steps: int | None = None
    flat: float | None = None

    def draw(self, rng: np.random.Generator, n: int, harder: float = 1.0) -> tuple[Rows, Rows]:
        """What the mixture and the first tier say of n requests, all in scope; `harder` multiplies chances to err."""
        u = rng.random(n)
        v = u if self.alike else rng.random(n)
        full, first = (
            Rows(
                (rng.random(n) < harder * self._chance(hidden, floor, slope)).astype(float).tolist(),
                (hidden if self.steps is None else np.floor(hidden * self.steps) / self.steps).tolist(),
                [1.0] * n,
            )
            for hidden, floor, slope in ((u, 0.002, 0.6), (v, 0.004, 0.9))
        )
        return full, first

    def risk(self, first: float, full: float, per: RiskKind) -> tuple[float, float]:
        """The true risk and coverage of two certainty gates; a gate above 1 serves nothing."""
        a, b = (min(1.0, max(0.0, 1.0 - gate)) for gate in (first, full))
        if self.alike:
            errors = self._mass(a, 0.004, 0.9) + max(0.0, self._mass(b, 0.002, 0.6) - self._mass(a, 0.002, 0.6))
            coverage = max(a, b)
        else:
            errors = self._mass(a, 0.004, 0.9) + (1 - a) * self._mass(b, 0.002, 0.6)
            coverage = a + (1 - a) * b
        return errors / (coverage if per == "answer" else 1.0), coverage

    def _chance(self, hidden: Any, floor: float, slope: float) -> Any:
        return floor + slope * (1 - hidden) ** 3 if self.flat is None else self.flat + 0 * hidden

    def _mass(self, share: float, floor: float, slope: float) -> float:
        """The errors of the easiest `share` of requests, among all."""
        return floor * share + slope / 4 * share**4 if self.flat is None else self.flat * share


def two_tiers(world: Tiers, max_risk: float, n: int, runs: int) -> list[dict[str, Any]]:
    """Both kinds of risk at the whole delta, the gates and the order designed on other rows, as the product does."""
    rng = np.random.default_rng(n)
    cells = []
    for per in WHOLE_KINDS:
        claim = Claim(max_risk=max_risk, per=per)
        broken = naive_broken = issued = cascades = 0
        served = first_served = 0.0
        for run in range(runs):
            if run % RUNS_A_PLAN == 0:
                # Scores that are useless look good out of fold: only the test stands between them and a promise.
                f, g = world.draw(rng, 3 * n // 2, rng.uniform(0.7, 1.3) if world.flat is None else 0.4)
                alone = Evidence(fold_losses=g.losses, fold_certainty=g.certainty, fold_scope=g.scope)
                fold = Evidence(fold_losses=f.losses, fold_certainty=f.certainty, fold_scope=f.scope, first=alone)
                planned = design(fold, claim, n, DELTA)
                gate = planned.first.min_certainty if planned.first else 2.0
            rows = planned.curve(*world.draw(rng, n))
            choice = choose(rows, None, planned.order, claim, DELTA)
            naive = sequence.naive(rows, max_risk, per_traffic=per == "traffic")
            limit = max_risk * (1 + 1e-9)
            naive_broken += naive is not None and world.risk(gate, naive.threshold, per)[0] > limit
            if choice and choice.n_served >= MIN_COVERAGE * n:
                risk, coverage = world.risk(gate, choice.threshold, per)
                issued += 1
                cascades += planned.first is not None
                broken += risk > limit
                served += coverage
                first_served += max(0.0, 1.0 - gate)
        cells.append(
            {
                "per": per,
                "scores": world.name,
                "max_risk": max_risk,
                "n": n,
                "runs": runs,
                "certified": issued / runs,
                "with_first_tier": cascades / runs,
                "broken": broken / runs,
                "naive_broken": naive_broken / runs,
                "coverage": served / runs,
                "by_first_tier": first_served / runs,
                "kept": is_kept(broken, runs),
            }
        )
    return cells


def renewal(world: World, max_risk: float, rate: float, runs: int) -> list[dict[str, Any]]:
    """A second certificate from later rows: the coin drew some, the first certificate deferred the hardest quarter.

    All known rows go through the product's split, which must leave the deferred ones out of the calibration.
    """
    rng = np.random.default_rng(round(1000 * rate))
    wanted = proving_rows(max_risk)
    broken: Counter[str] = Counter()
    issued: Counter[str] = Counter()
    served: Counter[str] = Counter()
    for _ in range(runs):
        fold = world.draw(rng, 900)
        # Requests until the coin has drawn enough.
        n = int(rng.negative_binomial(wanted, rate)) + wanted
        is_drawn = np.zeros(n, bool)
        is_drawn[rng.choice(n - 1, wanted - 1, replace=False)] = is_drawn[-1] = True
        u = rng.random(n)
        known = np.flatnonzero(is_drawn | (u < 0.25))
        losses = (rng.random(len(known)) < world.chance(u[known])).astype(float).tolist()
        scores = world.score(u[known]).tolist()
        samplings = ["audit" if drawn else "deferred" for drawn in is_drawn[known].tolist()]
        examples = [
            Example(text="", answer=None, time_s=float(i), sampling=sampling)  # type: ignore[arg-type]
            for i, sampling in enumerate(samplings, start=1)
        ]
        calibration = split(examples, after_s=0.0).calibration
        evidence = Evidence(
            fold_losses=fold[1],
            fold_certainty=fold[0],
            fold_scope=[1.0] * len(fold[0]),
            losses=[losses[i] for i in calibration],
            certainty=[scores[i] for i in calibration],
            scope=[1.0] * len(calibration),
        )
        for per in WHOLE_KINDS:
            verdict = certify(evidence, Claim(max_risk=max_risk, per=per), replace(TERMS, attempt=2))
            if isinstance(verdict, Certificate):
                issued[per] += 1
                served[per] += 1 - world.hidden(verdict.min_certainty)
                broken[per] += world.breaks(verdict.min_certainty, max_risk, per)
    return [
        {
            "per": per,
            "scores": world.name,
            "max_risk": max_risk,
            "audit_rate": rate,
            "rows_drawn": wanted,
            "runs": runs,
            "certified": issued[per] / runs,
            "broken": broken[per] / runs,
            "coverage": served[per] / runs,
            "best_coverage": world.best(max_risk, per),
            "kept": is_kept(broken[per], runs),
        }
        for per in WHOLE_KINDS
    ]


def unequal_draws(world: World, max_risk: float, runs: int) -> list[dict[str, Any]]:
    """`certify` on rows of two coins, the sure half of the requests drawn five times as often as the rest.

    Counting them as if they were alike ("counted") sees too little risk; the naive column is left out.
    """
    rng, cells = np.random.default_rng(9), []
    for per in WHOLE_KINDS:
        broken, counted_broken, issued, served = 0, 0, 0, 0.0
        for _ in range(runs):
            fold = world.draw(rng, 900)
            u = rng.random(4000)
            chance = np.where(u > 0.5, 0.5, 0.1)
            drawn = rng.random(len(u)) < chance
            u, chance = u[drawn], chance[drawn]
            evidence = Evidence(
                fold_losses=fold[1],
                fold_certainty=fold[0],
                fold_scope=[1.0] * len(fold[0]),
                losses=(rng.random(len(u)) < world.chance(u)).astype(float).tolist(),
                certainty=world.score(u).tolist(),
                scope=[1.0] * len(u),
            )
            claim = Claim(max_risk=max_risk, per=per)
            verdict = certify(replace(evidence, weights=weighted.weights(chance.tolist())), claim, TERMS)
            if isinstance(verdict, Certificate):
                issued += 1
                served += 1 - world.hidden(verdict.min_certainty)
                broken += world.breaks(verdict.min_certainty, max_risk, per)
            counted = certify(evidence, claim, TERMS)
            if isinstance(counted, Certificate):
                counted_broken += world.breaks(counted.min_certainty, max_risk, per)
        cells.append(
            {
                "per": per,
                "scores": world.name,
                "max_risk": max_risk,
                "runs": runs,
                "certified": issued / runs,
                "broken": broken / runs,
                "counted_broken": counted_broken / runs,
                "coverage": served / runs,
                "best_coverage": world.best(max_risk, per),
                "kept": is_kept(broken, runs),
            }
        )
    return cells


def speed(n: int) -> list[dict[str, Any]]:
    """CPU-seconds of one certificate over n calibration rows and 20,000 out-of-fold rows, the most there are."""
    rng, world = np.random.default_rng(0), Gated(foreign=0.0)
    evidence = world.evidence(rng, 20_000, n)
    cells = []
    for per in WHOLE_KINDS:
        seconds = []
        for _ in range(3):
            started = time.process_time()
            certify(evidence, Claim(max_risk=0.02, per=per), TERMS)
            seconds.append(time.process_time() - started)
        cells.append({"per": per, "rows": n, "cpu_s": min(seconds), "goal_s": 2.0, "met": min(seconds) < 2.0})
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="50 runs of everything, written nowhere")
    parser.add_argument("--only", default="", metavar="TABLE", help="this table alone, written to a file of its own")
    options = parser.parse_args()
    runs = 50 if options.quick else options.runs
    tables: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "one attempt at delta = 5 %": lambda: [
            cell
            for max_risk in RISKS
            for n in SIZES
            for world in worlds(max_risk)
            for cell in one_attempt(world, max_risk, n, runs)
        ],
        "twenty attempts on growing data": lambda: [
            cell for world in (worlds(0.05)[0], worlds(0.05)[4]) for cell in twenty_attempts(world, 0.05, runs)
        ],
        "both gates": lambda: [cell for n in (300, 1000) for cell in both_gates(0.05, n, runs)],
        "two tiers": lambda: [
            cell
            for max_risk in RISKS
            for n in SIZES
            for world in (
                Tiers("independent"),
                Tiers("alike", alike=True),
                Tiers("ties", steps=20),
                Tiers("useless", flat=1.001 * max_risk),
            )
            for cell in two_tiers(world, max_risk, n, runs)
        ],
        "renewal from rows drawn by a coin": lambda: [
            cell
            for world in (worlds(0.05)[0], worlds(0.05)[4])
            for rate in (0.01, 0.02, 0.05)
            for cell in renewal(world, 0.05, rate, runs)
        ],
        "rows drawn with unequal probabilities": lambda: [
            cell for world in (worlds(0.05)[0], worlds(0.05)[4]) for cell in unequal_draws(world, 0.05, min(runs, 400))
        ],
        "speed": lambda: speed(100_000),
    }
    figures: dict[str, Any] = {}
    if options.only:
        tables = {options.only: tables[options.only]}
    for title, measure in tables.items():
        figures[title] = measure()
        show(title, figures[title])
    kept = [cell["kept"] for cells in figures.values() for cell in cells if "kept" in cell]
    print(f"\n{sum(kept)} of {len(kept)} cells keep the promise within the simulation's error.")
    if options.quick:
        return
    only = options.only.replace(" ", "_")
    save(f"promise_simulated_{only}" if only else "promise_simulated", figures=figures)


if __name__ == "__main__":
    main()
