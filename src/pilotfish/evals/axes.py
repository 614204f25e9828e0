"""The five axes of one model from the rows of its run: quality, latency, memory, energy, money.

Every figure is a `Measured`: value, unit, n, interval, method, or the reason there is none. Failures count as wrong in
the quality; latencies are those of answers that came. Measured and estimated energy stay apart. How models compare is
known to `verdict.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any

from pilotfish.core.measured import Measured
from pilotfish.evals import latency, money
from pilotfish.evals.run_file import AnswerRow, ModelRow, SessionRow
from pilotfish.stats import calibration, repeats
from pilotfish.stats.binomial import wilson
from pilotfish.stats.paired import difference
from pilotfish.stats.resampling import clustered_error

FAILURES = ("parse", "refusal", "truncated", "timeout", "error")
PASS_AT = (1, 2, 3, 5, 10, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one model. Joules a request, an output token, a token of any kind, and a correct answer."""

    total_j: Measured
    j_per_request: Measured
    j_per_output_token: Measured
    j_per_token: Measured
    j_per_correct: Measured

    def to_json(self) -> dict[str, Any]:
        """Every figure with its method."""
        return {name: {**figure.to_json(), "method": figure.method} for name, figure in _figures(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """Cost of one model in US dollars. `self_hosted` maps a utilisation to US dollars per million output tokens."""

    price: str
    usd_per_task: Measured
    usd_per_correct: Measured
    self_hosted_usd_per_mtok: Mapping[float, float]
    rent_usd_per_h: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Every figure with the price's source."""
        return {
            "price": self.price or None,
            "usd_per_task": self.usd_per_task.to_json(),
            "usd_per_correct": self.usd_per_correct.to_json(),
            "rent_usd_per_h": self.rent_usd_per_h,
            "self_hosted_usd_per_mtok": {f"{share:g}": usd for share, usd in self.self_hosted_usd_per_mtok.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """One model, measured. `failures` counts answers by kind; `stability` is None without repeats.

    `pass_any` and `pass_all` are by k, and empty without repeats or where scores are graded; `goodput` is None where no
    limits were stated; `prompt_tokens` and `completion_tokens` are means of one request.

    `trust` says how far stated certainty can be trusted (None where none was stated).
    """

    name: str
    kind: str
    spec: str
    sha256: str
    quality: Measured
    failures: dict[str, int]
    stability: dict[str, float] | None
    pass_any: dict[int, Measured]
    pass_all: dict[int, Measured]
    latency: dict[str, dict[str, Measured]]
    goodput: Measured | None
    prompt_tokens: Measured
    completion_tokens: Measured
    output_tokens_per_s: Measured
    output_tokens_per_s_each: Measured
    requests_per_s: Measured
    load_s: Measured
    load: str
    warm_up: int
    memory: Measured
    device_memory: Measured
    energy: list[Energy]
    energy_estimate: Energy | None
    money: Money
    escalated: Measured | None
    trust: dict[str, float] | None

    def to_json(self) -> dict[str, Any]:
        """Every axis; estimates under a name of their own."""
        return {
            "name": self.name,
            "kind": self.kind,
            "spec": self.spec,
            "sha256": self.sha256,
            "quality": {**self.quality.to_json(), "method": self.quality.method},
            "failures": self.failures,
            "stability": self.stability,
            "pass_any_of": {str(k): figure.to_json() for k, figure in self.pass_any.items()},
            "pass_all_of": {str(k): figure.to_json() for k, figure in self.pass_all.items()},
            "latency_s": {
                name: {share: figure.to_json() for share, figure in found.items()}
                for name, found in self.latency.items()
            },
            "goodput": self.goodput.to_json() if self.goodput else None,
            "prompt_tokens": self.prompt_tokens.to_json(),
            "completion_tokens": self.completion_tokens.to_json(),
            "output_tokens_per_s": self.output_tokens_per_s.to_json(),
            "output_tokens_per_s_each": self.output_tokens_per_s_each.to_json(),
            "requests_per_s": self.requests_per_s.to_json(),
            "load_s": self.load_s.to_json(),
            "load": self.load,
            "warm_up": self.warm_up,
            "memory_bytes": {**self.memory.to_json(), "method": self.memory.method},
            "device_memory_bytes": {**self.device_memory.to_json(), "method": self.device_memory.method},
            "energy_j": [found.to_json() for found in self.energy],
            "energy_estimate_j": self.energy_estimate.to_json() if self.energy_estimate else None,
            "money": self.money.to_json(),
            "escalated": self.escalated.to_json() if self.escalated else None,
            "trust": self.trust,
        }


def none(why: str, unit: str = "") -> Measured:
    """A figure that does not exist, and why."""
    return Measured(value=None, unit=unit, why_none=why)


def item_scores(rows: Sequence[AnswerRow]) -> dict[str, float]:
    """The score of each item, the mean over its repeats; rows of variants do not count."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        if not row.variant:
            found[row.item].append(row.score)
    return {item: values[0] if len(values) == 1 else fmean(values) for item, values in found.items()}


def quality(scores: Sequence[float], clusters: Sequence[str] | None = None) -> Measured:
    """The mean score with its 95 % interval: Wilson for 0/1, else normal, with the clustered error where needed."""
    if not scores:
        return none("no answer")
    mean, n = fmean(scores), len(scores)
    if clusters is None and all(score in (0.0, 1.0) for score in scores):
        low, high = wilson(sum(scores), n)
        return Measured(value=mean, low=low, high=high, n=n, method="Wilson")
    z = NormalDist().inv_cdf(0.975)
    units = n if clusters is None else len(set(clusters))
    if units < 2:
        return Measured(value=mean, n=n, method="one independent item: no interval")
    error = difference(scores).error if clusters is None else clustered_error(scores, clusters)
    # As in the verdicts: never closer than what so few independent items could have missed.
    half = z * max(error, z / (units + z * z))
    method = "normal" if clusters is None else f"normal, {units:,} clusters"
    return Measured(value=mean, low=max(0.0, mean - half), high=min(1.0, mean + half), n=n, method=method)


def axes(
    model: ModelRow,
    rows: Sequence[AnswerRow],
    sessions: Sequence[SessionRow],
    *,
    clusters: Mapping[str, str] | None = None,
    rent_usd_per_h: float | None = None,
    limits_s: Mapping[str, float] | None = None,
) -> Axes:
    """The five axes of one model from its rows and sessions. `clusters` maps items to theirs; `limits_s`: goodput's."""
    plain = [row for row in rows if not row.variant]
    scores = item_scores(plain)
    found = quality(list(scores.values()), None if clusters is None else [clusters[item] for item in scores])
    counts = Counter(row.failure for row in plain)
    tokens_per_s = latency.rate(sessions, [session.completion_tokens for session in sessions], "tokens/s", model)
    escalated = [row.is_escalated for row in plain if row.is_escalated is not None]
    return Axes(
        name=model.name,
        kind=model.kind,
        spec=model.spec,
        sha256=model.sha256,
        quality=found,
        failures={kind: counts.get(kind, 0) for kind in FAILURES},
        stability=_stability(plain),
        pass_any=_passes(plain, repeats.any_of, clusters),
        pass_all=_passes(plain, repeats.all_of, clusters),
        latency=latency.latencies(plain, model),
        goodput=latency.goodput(plain, limits_s, model) if limits_s else None,
        prompt_tokens=_mean_tokens([row.prompt_tokens for row in plain]),
        completion_tokens=_mean_tokens([row.completion_tokens for row in plain]),
        output_tokens_per_s=tokens_per_s,
        output_tokens_per_s_each=latency.rate_each(plain),
        requests_per_s=latency.rate(sessions, [session.n for session in sessions], "requests/s", model),
        load_s=_load_s(sessions, model),
        load=", ".join(dict.fromkeys(session.load for session in sessions)),
        warm_up=max((session.warm_up for session in sessions), default=0),
        memory=_peak(sessions, "memory", model),
        device_memory=_peak(sessions, "device memory", model),
        energy=_energies(sessions, rows, model, estimated=False),
        energy_estimate=next(iter(_energies(sessions, rows, model, estimated=True)), None),
        money=_money(model, plain, found, tokens_per_s, rent_usd_per_h),
        escalated=_share(escalated) if escalated else None,
        trust=_trust(plain),
    )


def _stability(rows: Sequence[AnswerRow]) -> dict[str, float] | None:
    """With repeats: the share of items whose score changes, and the spread of the runs' means."""
    runs: defaultdict[int, list[float]] = defaultdict(list)
    items: defaultdict[str, set[float]] = defaultdict(set)
    for row in rows:
        runs[row.repeat].append(row.score)
        items[row.item].add(row.score)
    if len(runs) < 2:
        return None
    return {
        "repeats": float(len(runs)),
        "items_that_flip": fmean(len(values) > 1 for values in items.values()),
        "between_run_sd": stdev(fmean(values) for values in runs.values()),
    }


def _passes(
    rows: Sequence[AnswerRow], chance: Callable[[int, int, int], float], clusters: Mapping[str, str] | None
) -> dict[int, Measured]:
    """By k, the mean of `chance(k, n, c)` over the items; up to the fewest repeats that an item has."""
    items: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        items[row.item].append(row.score)
    fewest = min(map(len, items.values()), default=0)
    if fewest < 2 or any(row.score not in (0.0, 1.0) for row in rows):
        return {}
    of = None if clusters is None else [clusters[item] for item in items]
    return {
        k: quality([chance(k, len(scores), int(sum(scores))) for scores in items.values()], of)
        for k in sorted({*(k for k in PASS_AT if k < fewest), fewest})
    }


def _mean_tokens(counts: Sequence[int | None]) -> Measured:
    known = [count for count in counts if count is not None]
    if not known or len(known) < len(counts):
        return none("no token counts", "tokens")
    return Measured(value=fmean(known), unit="tokens", n=len(known))


def _load_s(sessions: Sequence[SessionRow], model: ModelRow) -> Measured:
    if not model.is_local or not sessions:
        return none("n/a", "s")
    return Measured(value=max(session.load_s for session in sessions), unit="s", n=len(sessions), method="opening it")


def _peak(sessions: Sequence[SessionRow], quantity: str, model: ModelRow) -> Measured:
    readings = [r for session in sessions for r in session.readings if r["quantity"] == quantity]
    if not model.is_local:
        return none("n/a: not on this machine", "bytes")
    known = [reading for reading in readings if reading["value"] is not None]
    if not known:
        return none(readings[0]["why_none"] if readings else "not measured", "bytes")
    peak = max(known, key=lambda reading: reading["value"])
    method = f"{peak['method']}, {peak['scope']}"
    return Measured(value=peak["value"], unit="bytes", n=len(known), method=method)


def _energies(
    sessions: Sequence[SessionRow], rows: Sequence[AnswerRow], model: ModelRow, *, estimated: bool
) -> list[Energy]:
    """One entry a method; without a measured one, a single entry that says "not measured" and why."""
    by_method: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    why: list[str] = []
    for reading in (r for session in sessions for r in session.readings if r["quantity"] == "energy"):
        if reading["value"] is None:
            why.append(reading["why_none"])
        elif (reading["method"] == "tdp_estimate") is estimated:
            by_method[reading["method"]].append(reading)
    # A method that covers only some of the sessions would divide by too many requests; so would a session that was
    # killed before it could be entered.
    is_covered = sum(session.n for session in sessions) >= len(rows)
    if by_method and not is_covered:
        why.append("a part of the run was killed before its meters were read")
    full = {method: found for method, found in by_method.items() if is_covered and len(found) == len(sessions)}
    found = [_energy(sum(r["value"] for r in rs), method, rs[0]["scope"], rows) for method, rs in full.items()]
    if found or estimated:
        return found
    reason = "n/a: not on this machine" if not model.is_local else "not measured"
    nothing = none(reason + (f" ({'; '.join(dict.fromkeys(why))})" if why and model.is_local else ""), "J")
    return [Energy(**dict.fromkeys(Energy.__dataclass_fields__, nothing))]


def _energy(total_j: float, method: str, scope: str, rows: Sequence[AnswerRow]) -> Energy:
    n_correct = sum(row.score for row in rows)
    has_tokens = bool(rows) and all(row.completion_tokens is not None for row in rows)
    n_output = sum(row.completion_tokens or 0 for row in rows)
    n_tokens = n_output + sum(row.prompt_tokens or 0 for row in rows)
    label = f"{method}: {scope}"

    def per(count: float, why: str) -> Measured:
        return Measured(value=total_j / count, unit="J", n=len(rows), method=label) if count else none(why, "J")

    return Energy(
        total_j=Measured(value=total_j, unit="J", n=len(rows), method=label),
        j_per_request=per(len(rows), "no answer"),
        j_per_output_token=per(n_output if has_tokens else 0, "no token counts"),
        j_per_token=per(n_tokens if has_tokens else 0, "no token counts"),
        j_per_correct=per(n_correct, "no correct answer"),
    )


def _money(
    model: ModelRow, rows: Sequence[AnswerRow], found: Measured, tokens_per_s: Measured, rent: float | None
) -> Money:
    costs = [row.cost_usd for row in rows if row.cost_usd is not None]
    n = len(rows)
    if costs and len(costs) == n:
        task = Measured(value=fmean(costs), unit="USD", n=n, method=model.price or "as recorded")
    elif costs:
        task = none(f"{n - len(costs):,} of {n:,} answers have no cost", "USD")
    else:
        task = none("self-hosted" if model.is_local else ("no token counts" if model.price else "no price"), "USD")
    correct = money.usd_per_correct(task.value, found.value)
    speed = tokens_per_s.value
    return Money(
        price=model.price,
        usd_per_task=task,
        usd_per_correct=none(task.why_none or "nothing was right", "USD")
        if correct is None
        else Measured(value=correct, unit="USD", n=n, method=task.method),
        self_hosted_usd_per_mtok={
            share: money.self_hosted_usd_per_mtok(rent, speed, share) for share in money.UTILISATIONS
        }
        if rent is not None and speed
        else {},
        rent_usd_per_h=rent,
    )


def _share(flags: Sequence[bool]) -> Measured:
    low, high = wilson(sum(flags), len(flags))
    return Measured(value=fmean(flags), low=low, high=high, n=len(flags), method="Wilson")


def _trust(rows: Sequence[AnswerRow]) -> dict[str, float] | None:
    """Calibration of the stated certainty; an ECE below 300 rows is mostly noise, hence the count beside it."""
    sure = [(row.certainty, row.score) for row in rows if row.certainty is not None]
    if not sure or len(sure) < len(rows):
        return None
    certainty, right = [c for c, _ in sure], [r for _, r in sure]
    return {
        "n": float(len(sure)),
        "ece_10_equal_mass_bins": calibration.calibration_error(certainty, right),
        "brier": calibration.brier(certainty, right),
        "accuracy_of_surest_tenth": calibration.selective_accuracy(certainty, right),
        "aurc": calibration.risk_coverage_area(certainty, right),
    }


def _figures(energy: Energy) -> dict[str, Measured]:
    return {name: getattr(energy, name) for name in Energy.__dataclass_fields__}
