"""Watching a promised risk: when do audited losses say that it no longer holds?

Two bets run side by side, each with its part of the tolerated false alarms.

*Capital since the start* (`EProcess`): the product of 1 + stake * (loss - max_risk). As long as the expected loss is
at most `max_risk`, whatever came before, it is a non-negative supermartingale: by Ville's inequality it
ever reaches 1 / false_alarm with probability at most `false_alarm`, without end. It notices a promise that was broken
from the beginning, but after a long good time its capital is spent.

*Restarting bets* (`Page`): the capital is lifted back to 1 whenever it falls below (Page's CUSUM,
an e-detector), so a jump is noticed as fast after a year as after a day. Restarting costs the
guarantee without end: false alarms are bounded over a *horizon* of audits and for a *quiet risk*
(what the loss is while nothing changes; it is at most `max_risk`). The bound is proven, not simulated: a run
from 1 up to the threshold must start with an error, the chance that one run gets there is summed exactly, and so
is how long runs last, which limits how many can start within the horizon. The rule is monotone in the losses, so it
holds below the quiet risk too. If the true risk lies between `quiet_risk` and `max_risk`, false alarms are more
frequent than stated; with `quiet_risk` = `max_risk` the statement covers every kept promise, and detection takes about
twice as long.

Sources: G. Shafer and V. Vovk, "Game-Theoretic Foundations for Probability and Finance" (2019); J. Shin, A. Ramdas,
A. Rinaldo, "E-detectors" (arXiv 2203.03532); E. Page, "Continuous inspection schemes", Biometrika 41 (1954).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

# Multiples of the odds of the promised risk that the bets are tuned to: just broken, and broken badly.
_START_ODDS = (1.5, 3.0)
_RESTART_ODDS = (3.0, 10.0)
# The part of the tolerated false alarms that the capital since the start gets.
_START_PART = 0.1


@dataclass(slots=True)
class EProcess:
    """The capital of bets against "expected loss <= max_risk", averaged over a few stakes."""

    max_risk: float
    capital: list[float]
    stakes: list[float]

    @classmethod
    def start(cls, max_risk: float) -> EProcess:
        """A fresh capital of 1."""
        risks = [_by_odds(max_risk, odds) for odds in _START_ODDS]
        stakes = [(risk - max_risk) / (max_risk * (1.0 - max_risk)) for risk in risks]
        return cls(max_risk, [1.0 / len(stakes)] * len(stakes), stakes)

    def update(self, loss: float) -> float:
        """The capital after a loss in [0, 1] of a request chosen without regard to it."""
        surprise = loss - self.max_risk
        total = 0.0
        for i, stake in enumerate(self.stakes):
            grown = min(1e300, self.capital[i] * (1.0 + stake * surprise))
            self.capital[i] = grown
            total += grown
        return total


@dataclass(slots=True)
class Page:
    """A restarting bet: likelihood ratios of `bad_risk` to `quiet_risk`, lifted back to 1; alarm at `threshold`."""

    quiet_risk: float
    bad_risk: float
    threshold: float
    capital: float = 1.0

    @classmethod
    def start(cls, quiet_risk: float, bad_risk: float, false_alarm: float, horizon: int) -> Page:
        """The lowest threshold with a false alarm within `horizon` audits of probability <= `false_alarm`.

        At losses of 0 and 1 with mean `quiet_risk`, P(alarm) <= E(runs started) * P(a run reaches the threshold). A run
        starts with each error that finds no run under way, and runs take audits too, `length` each on average:
        E(runs) <= quiet_risk * (horizon + rest of a run at the end - E(runs) * length).
        """
        return cls(quiet_risk, bad_risk, _threshold(quiet_risk, bad_risk, false_alarm, horizon))

    def update(self, loss: float) -> float:
        """The capital after a loss in [0, 1], as a share of the threshold."""
        quiet = (1.0 - self.bad_risk) / (1.0 - self.quiet_risk)
        factor = quiet + loss * (self.bad_risk / self.quiet_risk - quiet)
        self.capital = min(1e300, max(1.0, self.capital) * factor)
        return self.capital / self.threshold

    def delay(self, risk: float) -> float:
        """About how many audits until the alarm at a true `risk`; inf where the bet does not grow.

        The run that fires starts with an error, for which one waits 1 / `risk`, and then drifts.
        """
        up, down = _steps(self.quiet_risk, self.bad_risk)
        drift = risk * up - (1.0 - risk) * down
        rest = max(0.0, math.log(self.threshold) - up)
        return 1.0 / risk + rest / drift if drift > 0.0 else math.inf


@dataclass(slots=True)
class Watch:
    """Both kinds of bets for one promise. `update` is all the work an audit costs."""

    max_risk: float
    quiet_risk: float
    false_alarm: float
    horizon: int
    since_start: EProcess
    restarting: list[Page]
    evidence: float = 0.0

    @classmethod
    def start(
        cls, max_risk: float, *, quiet_risk: float | None = None, false_alarm: float = 0.05, horizon: int = 6000
    ) -> Watch:
        """A fresh watch. `quiet_risk` defaults to half of `max_risk`.

        Within `horizon` audits at a true risk of at most `quiet_risk` it fires with probability at most
        `false_alarm`. ValueError where 0 < quiet_risk <= max_risk < 1 does not hold.
        """
        quiet = max_risk / 2.0 if quiet_risk is None else quiet_risk
        if not 0.0 < quiet <= max_risk < 1.0:
            raise ValueError(f"0 < quiet_risk <= max_risk < 1 is needed, not {quiet!r} and {max_risk!r}.")
        part = false_alarm * (1.0 - _START_PART) / len(_RESTART_ODDS)
        pages = [Page.start(quiet, _by_odds(max_risk, odds), part, horizon) for odds in _RESTART_ODDS]
        return cls(max_risk, quiet, false_alarm, horizon, EProcess.start(max_risk), pages)

    def update(self, loss: float) -> bool:
        """Takes the next audited loss in [0, 1]; True once the promise must be withdrawn, and ever after."""
        shares = [page.update(loss) for page in self.restarting]
        shares.append(self.since_start.update(loss) * self.false_alarm * _START_PART)
        if self.evidence < 1.0:
            self.evidence = max(shares)
        return self.evidence >= 1.0

    def delay(self, risk: float) -> float:
        """About how many audits it takes to notice a jump to a true `risk`; inf where it may never be."""
        return min(page.delay(risk) for page in self.restarting)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Watch:
        """The watch whose `dataclasses.asdict` is `row`."""
        parts = {"since_start": EProcess(**row["since_start"]), "restarting": [Page(**p) for p in row["restarting"]]}
        return cls(**{**row, **parts})


def _by_odds(risk: float, odds: float) -> float:
    """The risk whose odds are `odds` times those of `risk`."""
    return odds * risk / (1.0 - risk + odds * risk)


def _steps(quiet_risk: float, bad_risk: float) -> tuple[float, float]:
    """By how much the log-capital rises at an error, and falls without."""
    return math.log(bad_risk / quiet_risk), math.log((1.0 - quiet_risk) / (1.0 - bad_risk))


@functools.cache
def _threshold(quiet_risk: float, bad_risk: float, false_alarm: float, horizon: int) -> float:
    """The threshold of `Page.start`, by bisection to half a per cent."""
    up, down = _steps(quiet_risk, bad_risk)
    high = up + max(0.0, math.log(horizon * quiet_risk / false_alarm))
    low = max(0.0, high - up - 1.5)
    while high - low > 0.005:
        middle = 0.5 * (low + high)
        reaches, length = _run(quiet_risk, up, down, middle)
        # A run that is under way at the end stands below `middle` and falls by `fall` an audit on average (Wald).
        fall = (1.0 - quiet_risk) * down - quiet_risk * up
        audits = horizon + (middle + down) / fall
        runs = quiet_risk * min(horizon, audits / (1.0 + quiet_risk * length))
        if runs * reaches <= false_alarm:
            high = middle
        else:
            low = middle
    return math.exp(high)


def _run(risk: float, up: float, down: float, target: float) -> tuple[float, float]:
    """What becomes of a log-capital which has just risen by `up`: the chance that it reaches `target` before it
    falls to 0, and how many audits it takes on average until it does either.

    Summed exactly over (errors, correct answers) seen in the run; each row of `alive` holds the probability of
    standing after the next error at m correct answers. What is still alive in the end counts as having reached.
    """
    if up >= target:
        return 1.0, 0.0
    reached, length, errors, alive = 0.0, 0.0, 1, [1.0]
    while True:
        last = math.ceil(errors * up / down)
        following = [0.0] * last
        arriving = living = 0.0
        for m in range(last):
            arriving += alive[m] if m < len(alive) else 0.0
            length += arriving
            hit = arriving * risk
            arriving -= hit
            if (errors + 1) * up - m * down >= target:
                reached += hit
            else:
                following[m] = hit
                living += hit
        errors, alive = errors + 1, following
        if living <= 1e-4 * reached:
            return reached + living, length
