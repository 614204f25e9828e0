"""Drift: how soon changed scores are noticed, how often unchanged ones raise an alarm, and what raised audits then buy.

    OPENBLAS_NUM_THREADS=1 python benchmarks/drift.py [--runs 200] [--quick]

All figures come from `guarantees/drift.py` and `guarantees/audit.py` themselves, on certificates of `certify` (5 % per
answer, 1,000 calibration rows). A deployment serves 1,000 requests of the same traffic and then 10,000 of changed
traffic; 5 % of them are audited. Simulated requests have a hidden u, the certainty, and differ with probability
0.002 + 0.22 (1 - u)^3. banking77: a specialist that was taught 67 of its 77 intents; requests are draws from rows it
never saw, gold labels are the reference, and 10 % of the changed traffic are intents never taught. Requests are counted
from the change: until the drift is noticed, and until the certificate is withdrawn, with audits raised by the drift and
with audits at 5 % alone ("-": not in so many of the runs). Writes benchmarks/results/drift-DATE.json.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.config import load
from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.guarantees.audit import Audit
from pilotfish.guarantees.certify import Evidence, Terms, certify
from pilotfish.guarantees.drift import FALSE_ALARM_EVERY, Drift
from pilotfish.scoring.answers import disagreement, parse, settle
from pilotfish.specialists.specialist import Specialist
from pilotfish.stats import binomial
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import open_encoder

from record import labelled, save, show

CLAIM = Claim(max_risk=0.05)
RATE = 0.05
N_CALIBRATION = 1000
GOOD = 1000
PATIENCE = 10_000
UNTAUGHT = 10
STRANGE = 0.1
TERMS = Terms(task_id="", task_name="simulated", attempt=1, created_at="")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Requests:
    """Scores of some requests, and what a wrong answer to each would cost."""

    certainty: Floats
    scope: Floats
    losses: Floats

    def then(self, other: Requests) -> Requests:
        """These, and then the others."""
        pairs = zip(
            (self.certainty, self.scope, self.losses), (other.certainty, other.scope, other.losses), strict=True
        )
        return Requests(*(np.concatenate(pair) for pair in pairs))

    def at(self, places: Any) -> Requests:
        """Those at some places."""
        return Requests(self.certainty[places], self.scope[places], self.losses[places])

    @property
    def columns(self) -> tuple[list[float], list[float], list[float]]:
        """Losses, certainty and scope as lists."""
        return self.losses.tolist(), self.certainty.tolist(), self.scope.tolist()


Draw = Callable[[np.random.Generator, int], Requests]


def usual(rng: np.random.Generator, n: int) -> Requests:
    u = rng.random(n)
    return Requests(u, rng.random(n), (rng.random(n) < 0.002 + 0.22 * (1 - u) ** 3).astype(float))


def harder(share: float, below: float) -> Draw:
    """A share of the requests now has a certainty below a value; answers are as right as ever at each certainty."""

    def draw(rng: np.random.Generator, n: int) -> Requests:
        u = np.where(rng.random(n) < share, below * rng.random(n), rng.random(n))
        return Requests(u, rng.random(n), (rng.random(n) < 0.002 + 0.22 * (1 - u) ** 3).astype(float))

    return draw


def strangers(share: float, scope: float) -> Draw:
    """A share of the requests is no business of the task: scope below a value, always answered wrongly."""

    def draw(rng: np.random.Generator, n: int) -> Requests:
        rows, is_strange = usual(rng, n), rng.random(n) < share
        return Requests(
            rows.certainty,
            np.where(is_strange, scope * rng.random(n), rows.scope),
            np.where(is_strange, 1.0, rows.losses),
        )

    return draw


def worse(rng: np.random.Generator, n: int) -> Requests:
    """Scores as ever, but one answer in eight is another: only audits can notice that."""
    rows = usual(rng, n)
    return Requests(rows.certainty, rows.scope, np.maximum(rows.losses, rng.random(n) < 0.125))


SIMULATED: dict[str, Draw] = {
    "more requests below the threshold": harder(0.18, 0.15),
    "10 % strangers, lowest tenth of the scope": strangers(0.1, 0.1),
    "20 % strangers, lowest third of the scope": strangers(0.2, 1 / 3),
    "15 % of all differ, scores unchanged": worse,
}


def certified(rng: np.random.Generator, draw: Draw, fold: Requests | None = None) -> Certificate | None:
    """A certificate of fresh calibration rows; its out-of-fold rows are drawn, too, unless they are given."""
    fold, rows = fold or draw(rng, 3 * N_CALIBRATION // 2), draw(rng, N_CALIBRATION)
    first, second = fold.columns, rows.columns
    names = ("losses", "certainty", "scope")
    evidence = Evidence(
        **{f"fold_{name}": part for name, part in zip(names, first, strict=True)},
        **dict(zip(names, second, strict=True)),
    )
    verdict = certify(evidence, CLAIM, TERMS)
    return verdict if isinstance(verdict, Certificate) else None


@dataclass(frozen=True)
class Found:
    """Requests since the change until the drift was noticed and the promise withdrawn; inf where neither was."""

    noticed: float
    withdrawn: float
    risk: float
    coverage: float


def deployed(certificate: Certificate, rows: Requests, rng: np.random.Generator, *, is_raised: bool) -> Found | None:
    """What became of one deployment; None where it ended, or gave an alarm, before the change."""
    audit, drift = Audit.start(certificate), Drift(certificate, RATE, chance=rng.random)
    served = (rows.certainty >= certificate.min_certainty) & (rows.scope >= certificate.min_scope)
    noticed = withdrawn = math.inf
    coins = rng.random(len(served)).tolist()
    losses, certainty, scope = rows.columns
    for i, is_local in enumerate(served.tolist()):
        is_drawn = coins[i] < (drift.coin if is_raised else RATE)
        if drift.observe(certainty=certainty[i], scope=scope[i], is_local=is_local):
            noticed = min(noticed, i + 1 - GOOD)
        if is_drawn and is_local:
            if audit.observe(loss=losses[i], is_local=True):
                withdrawn = i + 1 - GOOD
                break
            drift.audited()
    if min(noticed, withdrawn) <= 0:
        return None
    after = served[GOOD:]
    return Found(noticed, withdrawn, float(rows.losses[GOOD:][after].mean()), float(after.mean()))


def detection(name: str, before: Draw, after: Draw, runs: int, fold: Requests | None = None) -> dict[str, Any]:
    """Medians over deployments, each played twice on the same requests."""
    rng = np.random.default_rng(3)
    raised: list[Found] = []
    alone: list[float] = []
    coverage = []
    while len(raised) < runs:
        certificate = certified(rng, before, fold)
        if certificate is None:
            continue
        rows = before(rng, GOOD).then(after(rng, PATIENCE))
        seed = int(rng.integers(1 << 30))
        first, second = (deployed(certificate, rows, np.random.default_rng(seed), is_raised=x) for x in (True, False))
        if first is not None and second is not None:
            raised.append(first)
            alone.append(second.withdrawn)
            coverage.append(certificate.coverage)
    noticed = [found.noticed for found in raised]
    return {
        "change": name,
        "runs": runs,
        "coverage_before": float(np.median(coverage)),
        "coverage_after": float(np.median([found.coverage for found in raised])),
        "risk_after": float(np.median([found.risk for found in raised])),
        "noticed": float(np.isfinite(noticed).mean()),
        "noticed_median": _whole(np.quantile(noticed, 0.5, method="higher")),
        "noticed_p90": _whole(np.quantile(noticed, 0.9, method="higher")),
        "withdrawn_median": _whole(np.quantile([f.withdrawn for f in raised], 0.5, method="higher")),
        "audits_alone_median": _whole(np.quantile(alone, 0.5, method="higher")),
    }


def _whole(value: Any) -> int | str:
    return int(value) if math.isfinite(value) else "-"


def untaught_intents(runs: int) -> list[dict[str, Any]]:
    """banking77 without and with intents that the specialist was never taught."""
    rows = labelled("banking77")
    rng = np.random.default_rng(77)
    order = rng.permutation(len(rows))
    texts, labels = ([rows[i][key] for i in order] for key in ("text", "label"))
    hidden = set(rng.choice(sorted(set(labels)), UNTAUGHT, replace=False).tolist())
    known = [i for i, label in enumerate(labels) if label not in hidden]
    n_fit = 3000
    encoder = open_encoder(load.cache(), load.load().learning.encoder)
    shape = settle(labels[i] for i in known)
    task = Task(id="0" * 16, name="benchmark", instructions_id="", instructions="", shape=shape)
    taught = [Example(text=texts[i], answer=parse(shape, labels[i]), time_s=0) for i in known[:n_fit]]
    with tempfile.TemporaryDirectory() as home:
        fitted = distil(taught, task, encoder, Path(home))
        specialist = Specialist.load(fitted.folder, encoder)

    def asked(places: list[int]) -> Requests:
        said = specialist.predict([texts[i] for i in places])
        losses = [disagreement(a, parse(shape, labels[i])) for a, i in zip(said.answers, places, strict=True)]
        return Requests(said.certainty, said.scope, np.array(losses))

    pool, strange = asked(known[n_fit:]), asked([i for i, label in enumerate(labels) if label in hidden])
    fold = fitted.out_of_fold
    seen = Requests(fold.certainty, fold.scope, fold.disagreement)

    def before(rng: np.random.Generator, n: int) -> Requests:
        return pool.at(rng.integers(len(pool.losses), size=n))

    def after(rng: np.random.Generator, n: int) -> Requests:
        drawn, new = before(rng, n), strange.at(rng.integers(len(strange.losses), size=n))
        is_new = rng.random(n) < STRANGE
        pairs = ((new.certainty, drawn.certainty), (new.scope, drawn.scope), (new.losses, drawn.losses))
        return Requests(*(np.where(is_new, one, other) for one, other in pairs))

    return [
        detection("banking77, 10 % of intents never taught", before, after, runs, seen),
        detection("banking77, unchanged", before, before, runs, seen),
    ]


def false_alarms(horizon: int, runs: int) -> dict[str, Any]:
    """The share of deployments with an alarm within `horizon` requests of unchanged traffic."""
    rng = np.random.default_rng(1)
    fired = 0
    for _ in range(runs):
        certificate = certified(rng, usual)
        while certificate is None:
            certificate = certified(rng, usual)
        drift, rows = Drift(certificate, RATE, chance=rng.random), usual(rng, horizon)
        _, certainty, scope = rows.columns
        fired += any(drift.observe(certainty=c, scope=s, is_local=True) for c, s in zip(certainty, scope, strict=True))
    stated = horizon / FALSE_ALARM_EVERY
    return {
        "requests": horizon,
        "runs": runs,
        "alarms": fired / runs,
        "stated": stated,
        "met": binomial.lower(fired, runs, 0.001) <= stated,
    }


def speed() -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    certificate = certified(rng, usual)
    assert certificate is not None  # by this seed
    _, certainty, scope = usual(rng, 20_000).columns
    best = math.inf
    for _ in range(5):
        drift = Drift(certificate, RATE)
        started = time.process_time()
        for c, s in zip(certainty, scope, strict=True):
            drift.observe(certainty=c, scope=s, is_local=True)
        best = min(best, (time.process_time() - started) / len(scope))
    return [{"request_us": round(1e6 * best, 2), "goal_us": 10.0, "met": best < 10e-6}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="20 runs of everything, written nowhere")
    options = parser.parse_args()
    runs = 20 if options.quick else options.runs
    tables: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "speed": speed,
        "requests from a change until the drift is noticed, and until the promise is withdrawn": lambda: [
            detection(name, usual, draw, runs) for name, draw in SIMULATED.items()
        ],
        "the same on banking77": lambda: untaught_intents(runs),
        "alarms without a change": lambda: [false_alarms(horizon, 2 * runs) for horizon in (1000, 5000, 10_000)],
    }
    figures = {}
    for title, measure in tables.items():
        figures[title] = measure()
        show(title, figures[title])
    if not options.quick:
        save("drift", figures=figures)


if __name__ == "__main__":
    main()
