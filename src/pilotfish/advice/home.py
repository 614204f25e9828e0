"""What a Pilotfish home knows: how much traffic there is, what it costs and takes, and what is certified.

Everything here was measured on the user's own traffic. A certified specialist with the large model behind it is an
option: its promise bounds the disagreement with the large model, and no score can lose more than that. A task without a
certificate is what could be built, and what that takes is said from the home's own records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from pilotfish.advice.needs import Needs
from pilotfish.advice.option import Judged, Known, Option, Word, nothing
from pilotfish.config.settings import Settings
from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.errors import TaskError
from pilotfish.core.log_row import RequestRow
from pilotfish.core.measured import Measured
from pilotfish.core.messages import Usage
from pilotfish.stats import binomial, spending
from pilotfish.stats.percentiles import percentile
from pilotfish.store.base import LogFilter, TaskRecord
from pilotfish.store.home import Home

MOST_ROWS = 100_000
"""The newest rows of the log that are read."""
SHORTEST_S = 600.0
"""A log that spans less says nothing about an hour."""

SPECIALIST_S = 0.006
"""An estimate of one local answer where the log holds none: the 95th percentile over HTTP on two cores, n = 1,000
(`benchmarks/gateway/pass_through.py`, 22 November 2026)."""

LEARNING_S = 0.0022
"""An estimate of the CPU seconds that learning takes for each answer, where none was learnt here: the dearest of three
data sets of 8,100 to 10,000 answers (`benchmarks/learning.py`, 22 November 2026)."""

AuditRate = Callable[[Claim], float]
RowsFor = Callable[[int], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One task of the log: its part of the traffic, and its tokens a request where they are known."""

    name: str
    requests: int
    share: float
    prompt_tokens: float | None
    completion_tokens: float | None
    mode: str
    certificate: Certificate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The log in figures; `reference_*` are those of the large model, `local_s` the time a specialist takes."""

    n: int
    per_h: Measured
    tokens: tuple[float, float] | None
    most_tokens: int | None
    reference: str
    reference_latency: Measured
    reference_usd: Measured
    local_s: Measured
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What a specialist for a task takes. `answers_least` is what the smallest certificate needs if nothing differs
    (an estimate), `seconds` what learning took here last, for `seconds_n` answers."""

    task: str
    max_risk: float
    known_answers: int
    answers_least: int | None
    answers_short: int | None
    seconds: float | None
    seconds_n: int
    refusal: str
    command: str


_SMALLER = frozenset(("certified", "kept", "same-model", "budget"))
"""Reasons of answers that are not the large model's."""


def read_traffic(home: Home, needs: Needs, settings: Settings) -> Traffic:
    """The figures of the log, of one task where one is named. Raises `TaskError` where it is not known."""
    records = {record.task_id: record for record in home.registry.tasks()}
    wanted = task_record(home, needs.task).task_id if needs.task else ""
    rows = list(home.log.rows(LogFilter(task_id=wanted, newest_first=True, limit=MOST_ROWS)))
    large = [row for row in rows if row.reason not in _SMALLER and row.status < 400 and not row.error]
    used = [(row.prompt_tokens, row.completion_tokens) for row in large]
    both = [(read, written) for read, written in used if read is not None and written is not None]
    names = [row.model for row in large]
    return Traffic(
        n=len(rows),
        per_h=_per_h(rows),
        tokens=(fmean(read for read, _ in both), fmean(written for _, written in both)) if both else None,
        most_tokens=max((read + written for read, written in both), default=None),
        reference=settings.large.model or (max(set(names), key=names.count) if names else "large"),
        reference_latency=percentile([row.latency_s for row in large if row.latency_s], 0.95),
        reference_usd=_usd(large, settings),
        local_s=_mean([row.local_s for row in rows if row.local_s is not None], "s"),
        shares=_shares(home, rows, records),
    )


def task_record(home: Home, name: str) -> TaskRecord:
    """The task of that name. Raises `TaskError` naming those there are."""
    found = home.registry.task(name)
    if found is None:
        known = ", ".join(record.name for record in home.registry.tasks()[:12]) or "none"
        raise TaskError(f"There is no task {name!r}.", hint=f"Known tasks: {known}.")
    return found


def _per_h(rows: Sequence[RequestRow]) -> Measured:
    span_s = rows[0].time_s - rows[-1].time_s if len(rows) > 1 else 0.0
    if span_s < SHORTEST_S:
        return nothing(f"the log spans {span_s / 60:.1f} minutes", "requests/h")
    return Measured(value=len(rows) * 3600 / span_s, unit="requests/h", n=len(rows), method=f"{span_s / 3600:,.1f} h")


def _mean(values: Sequence[float], unit: str) -> Measured:
    if not values:
        return nothing("not in the log", unit)
    return Measured(value=fmean(values), unit=unit, n=len(values), method="mean of the log")


def _usd(rows: Sequence[RequestRow], settings: Settings) -> Measured:
    """Dollars a request of the large model: as logged, else logged tokens at the configured price."""
    logged = [row.cost_usd for row in rows if row.cost_usd is not None]
    if logged:
        return _mean(logged, "USD")
    price = settings.large.price
    if price is None:
        return nothing("[large] has no price", "USD")
    costs = [
        price.cost_usd(Usage(prompt=row.prompt_tokens, completion=row.completion_tokens))
        for row in rows
        if row.prompt_tokens is not None and row.completion_tokens is not None
    ]
    return _mean(costs, "USD") if costs else nothing("no token counts in the log", "USD")


def _shares(home: Home, rows: Sequence[RequestRow], records: dict[str, TaskRecord]) -> tuple[Share, ...]:
    by_task: dict[str, list[RequestRow]] = {}
    for row in rows:
        if row.task_id in records:
            by_task.setdefault(row.task_id, []).append(row)
    found = []
    for task_id, own in by_task.items():
        record = records[task_id]
        tokens = [(row.prompt_tokens, row.completion_tokens) for row in own]
        both = [(read, written) for read, written in tokens if read is not None and written is not None]
        found.append(
            Share(
                name=record.name,
                requests=len(own),
                share=len(own) / len(rows),
                prompt_tokens=fmean(read for read, _ in both) if both else None,
                completion_tokens=fmean(written for _, written in both) if both else None,
                mode=record.mode,
                certificate=home.registry.certificate(record.certificate_id) if record.certificate_id else None,
            )
        )
    return tuple(sorted(found, key=lambda share: (-share.requests, share.name)))


def reference_option(traffic: Traffic, needs: Needs, settings: Settings) -> Option:
    """The large model, as the log knows it."""
    stated = needs.stated.get(traffic.reference)
    usd = traffic.reference_usd
    price = stated.price if stated is not None and stated.price is not None else None
    if price is not None and traffic.tokens is not None:
        read, written = traffic.tokens
        value = price.cost_usd(Usage(prompt=round(read), completion=round(written)))
        usd = Measured(value=value, unit="USD", n=traffic.n, method=f"logged tokens, price: {price.source}")
    return Option(
        name=traffic.reference,
        shape="large only",
        source=f"log, {traffic.n:,} requests",
        where="own" if settings.large.local else "remote",
        is_own=settings.large.local and usd.value is None,
        judged=Judged(word="reference", sentence=f"{traffic.reference} is the reference."),
        quality=nothing("the reference sets the standard"),
        latency=Known(measured=traffic.reference_latency),
        memory=Known(measured=nothing("not on this machine")),
        usd_per_call=Known(measured=usd),
        paid_share=0.0 if settings.large.local and usd.value is None else 1.0,
        context=stated.context if stated is not None and stated.context is not None else traffic.most_tokens,
        languages=stated.languages if stated is not None else None,
        n_endpoints=1 + len(settings.large.endpoints),
    )


def specialists_option(traffic: Traffic, reference: Option, needs: Needs, audit_rate: AuditRate) -> Option | None:
    """All certified specialists with the large model behind them, as one option; None where nothing is certified.

    Each certificate must keep the tolerated loss by itself. What is passed on is what no specialist covers, and audits.
    """
    certified = [share for share in traffic.shares if share.certificate is not None]
    if not certified:
        return None
    local = sum(
        share.share * share.certificate.coverage * (1.0 - audit_rate(share.certificate.claim))
        for share in certified
        if share.certificate is not None
    )
    asked = 1.0 - local
    names = ", ".join(share.name for share in certified)
    latency = Known(measured=nothing("it does not serve yet"), estimate=_tail(traffic, asked))
    seconds = traffic.local_s.value
    return Option(
        name=f"{names if len(certified) == 1 else f'{len(certified)} specialists'} + {reference.name}",
        shape="specialist + large",
        source=f"certificate{'s' if len(certified) > 1 else ''} and log",
        where=reference.where,
        is_own=True,
        judged=_promised([share.certificate for share in certified if share.certificate], needs, reference.name),
        quality=nothing("a promise, not a score"),
        latency=latency,
        memory=Known(measured=nothing("not measured")),
        usd_per_call=reference.usd_per_call,
        paid_share=asked,
        capacity_per_h=Known(
            measured=Measured(value=3600 / seconds, unit="requests/h", n=traffic.local_s.n, method="one at a time")
            if seconds
            else nothing("no specialist has answered in this log yet", "requests/h"),
            estimate=Measured(value=3600 / SPECIALIST_S, unit="requests/h", method="benchmark of another machine"),
        ),
        context=reference.context,
        languages=reference.languages,
        notes=(
            f"{100 * local:.1f} % answered locally after audits, from the coverage on calibration rows and the share "
            "of the task in the log.",
        ),
    )


def _tail(traffic: Traffic, asked: float) -> Measured:
    """The 95th percentile: where more than one request in twenty is passed on, about the large model's."""
    if asked > 0.05:
        seconds = traffic.reference_latency.value
        if seconds is None:
            return nothing("the large model's latency is not in the log", "s")
        own = traffic.local_s.value or SPECIALIST_S
        return Measured(value=seconds + own, unit="s", method="the large model's, after the specialist's")
    return Measured(value=traffic.local_s.value or SPECIALIST_S, unit="s", method="the specialist's")


def _promised(certificates: Sequence[Certificate], needs: Needs, reference: str) -> Judged:
    """Good where every certificate promises no more disagreement than the loss that is tolerated."""
    worst = max(certificates, key=lambda c: c.claim.max_risk)
    is_sure = all(c.claim.confidence >= 1.0 - needs.alpha - 1e-12 for c in certificates)
    risk = worst.claim.max_risk
    said = (
        f"certified to differ from {reference} in at most {100 * risk:g} % per {worst.claim.per} with "
        f"{100 * worst.claim.confidence:g} % confidence"
    )
    word: Word = "certified" if risk <= needs.margin + 1e-12 and is_sure else "not enough data"
    more = "" if word == "certified" else f"; {100 * needs.margin:g} % is what you tolerate"
    return Judged(word=word, sentence=f"It is {said}{more}.", n=sum(c.n for c in certificates), margin_needed=risk)


def builds(home: Home, traffic: Traffic, needs: Needs, rows_for: RowsFor) -> list[Build]:
    """What a specialist would take for each task of the log that has no certificate within the tolerated loss."""
    found = []
    counted = {record.name: record for record in home.registry.tasks()}
    for share in traffic.shares:
        record = counted[share.name]
        if not record.shape.is_closed or (share.certificate and share.certificate.claim.max_risk <= needs.margin):
            continue
        if needs.margin >= 0.5:
            continue
        verdicts = home.registry.verdicts(record.task_id)
        last = verdicts[-1] if verdicts else None
        delta = spending.share(needs.alpha, home.registry.n_attempts(record.task_id) + 1)
        told = [event for event in home.registry.events(record.task_id) if "seconds" in event.details]
        found.append(
            Build(
                task=share.name,
                max_risk=needs.margin,
                known_answers=sum(
                    count.n_reference_known for count in home.log.task_counts() if count.task_id == record.task_id
                ),
                answers_least=rows_for(binomial.smallest_n(needs.margin, delta)),
                answers_short=last.examples_short if isinstance(last, Refusal) else None,
                seconds=float(told[0].details["seconds"]) if told else None,
                seconds_n=int(told[0].details["n_known"]) if told else 0,
                refusal=last.message if isinstance(last, Refusal) else "",
                command=f"pilotfish certify {share.name} --plan --max-risk {needs.margin:g}",
            )
        )
    return found
