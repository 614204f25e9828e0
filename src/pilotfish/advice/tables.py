"""Advice as sentences and tables of text: what the terminal and the page show alike.

A column holds measurements or estimates, never both; a column that would hold neither is left out. Every cell carries
its unit or stands under it, and what is not known is a dash here and a reason among what was not judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pilotfish.advice.advise import Advice
from pilotfish.advice.changes import volume
from pilotfish.advice.costs import cost, utilisation
from pilotfish.advice.home import LEARNING_S, Build
from pilotfish.advice.next_step import Step
from pilotfish.advice.option import Option
from pilotfish.advice.rule import Judgement
from pilotfish.core.measured import Measured
from pilotfish.evals.tables import Table
from pilotfish.evals.wording import dollars, share

_BARS = "▁▂▃▄▅▆▇█"
_DECADES = (-2, -1, 0, 1, 2)
MOST_CURVES = 5
MOST_STEPS = 4


def headline(advice: Advice) -> list[str]:
    """The answer, the runner-up, or what there is instead."""
    decision = advice.decision
    chosen, second = decision.chosen, decision.runner_up
    at = volume(decision.per_h)
    if chosen is None:
        return [f"No answer at {at}: {_why_none(advice)}"]
    machines = f", {chosen.cost.machines} machines" if chosen.cost.machines > 1 else ""
    said = [
        f"Take {chosen.option.name} ({chosen.option.shape}): {money(chosen)} a month at {at}{machines}.",
        f"Why: {_why(advice)} {chosen.option.judged.sentence}",
    ]
    if second is not None:
        said.append(f"Runner-up: {second.option.name}, {money(second)} a month. {second.option.judged.sentence}")
    return said


def _why(advice: Advice) -> str:
    decision = advice.decision
    within = f"are shown to lose no more than {100 * decision.needs.margin:g} points"
    if len(decision.candidates) == 1:
        return f"nothing else keeps every constraint and {within.replace('are', 'is', 1)}."
    return f"the cheapest of the {len(decision.candidates)} options that keep every constraint and {within}."


def _why_none(advice: Advice) -> str:
    rows = advice.decision.judgements
    left = [row for row in rows if row.is_left]
    if left:
        return (
            f"nothing that keeps the constraints is shown to be good enough ({len(left)} left, none with enough data)."
        )
    unknown = [row for row in rows if not row.exclusions]
    if unknown:
        return f"{len(unknown)} options cannot be judged, and {len(rows) - len(unknown)} are excluded."
    return f"the constraints exclude all {len(rows)} options."


def money(row: Judgement) -> str:
    """Dollars a month, marked where they are an estimate."""
    usd = row.cost.usd_per_month
    if usd is None:
        return "an unknown sum"
    return f"{dollars(usd)}{' (estimate)' if row.cost.is_estimate else ''}"


def next_sentences(advice: Advice) -> list[str]:
    """The measurement most worth making with its command line (indented), or why there is none."""
    if advice.steps:
        return _step(advice.steps[0], advice)
    if advice.decision.chosen is None:
        return ["No measurement could give an answer: what is left is shown to be worse. Loosen a constraint."]
    return ["No measurement could change the answer: nothing cheaper is left that is not shown to be worse."]


def other_steps(advice: Advice) -> list[list[str]]:
    """The next few measurements, each as its sentence and its command line."""
    return [_step(step, advice) for step in advice.steps[1 : 1 + MOST_STEPS]]


def _step(step: Step, advice: Advice) -> list[str]:
    gain = ""
    if step.usd_per_month is not None:
        gain = f" It would save up to {dollars(step.usd_per_month)} a month."
    elif advice.decision.chosen is None:
        gain = " It could give an answer where there is none now."
    price = f" Asking costs about {dollars(step.usd_to_make)}." if step.usd_to_make else ""
    return [f"{step.sentence}{gain}{price}", *([f"    {step.command}"] if step.command else [])]


def tables(advice: Advice) -> list[Table]:
    """All tables that have rows."""
    found = [
        _options(advice),
        _not_chosen(advice),
        _controls(advice),
        _break_even(advice),
        _traffic(advice),
        _builds(advice),
    ]
    return [table for table in found if table.rows]


def _options(advice: Advice) -> Table:
    rows = advice.decision.judgements
    columns: list[tuple[str, Callable[[Judgement], str]]] = [
        ("option", lambda row: row.option.name),
        ("kind", lambda row: _kind(row.option)),
        ("status", lambda row: row.status),
        ("against the reference", lambda row: row.option.judged.word),
        ("score", lambda row: share(row.option.quality) if row.option.quality.value is not None else "-"),
        ("p95", lambda row: _seconds(row.option.latency.measured)),
        ("p95 (estimate)", lambda row: _seconds(row.option.latency.estimate)),
        ("memory", lambda row: _gigabytes(row.option.memory.measured)),
        ("memory (estimate)", lambda row: _gigabytes(row.option.memory.estimate)),
        ("USD/1,000 calls", lambda row: _per_thousand(row.option, row.option.usd_per_call.measured)),
        ("USD/1,000 calls (estimate)", lambda row: _per_thousand(row.option, row.option.usd_per_call.estimate)),
        ("passed on", lambda row: f"{100 * row.option.paid_share:.1f} %" if 0 < row.option.paid_share < 1 else "-"),
        ("machines", lambda row: str(row.cost.machines) if row.cost.machines else "-"),
        ("busy", lambda row: _busy(row, advice)),
        ("USD/month", lambda row: "-" if row.cost.is_estimate else _month(row)),
        ("USD/month (estimate)", lambda row: _month(row) if row.cost.is_estimate else "-"),
    ]
    ranks = {"chosen": 0, "runner-up": 1, "good enough": 2, "not shown to be good enough": 3, "cannot be judged": 4}
    ordered = sorted(rows, key=lambda row: (ranks.get(row.status, 5), row.cost.usd_per_h or math.inf, row.option.name))
    shown = [(name, cell) for name, cell in columns if any(cell(row) != "-" for row in ordered)]
    notes = [*(f"{row.option.name}: {note}" for row in ordered for note in row.option.notes), *advice.notes]
    if advice.sources.run is not None:
        run = advice.sources.run
        notes.insert(0, f"Scores and verdicts: {run.n_items:,} items of {run.data}, against {run.reference}.")
    return Table(
        title=f"Options at {volume(advice.decision.per_h)}",
        columns=[name for name, _ in shown],
        rows=[[cell(row) for _, cell in shown] for row in ordered],
        notes=notes,
    )


def _busy(row: Judgement, advice: Advice) -> str:
    share_used = utilisation(row.option, row.cost, advice.decision.per_h)
    return "-" if share_used is None else f"{100 * share_used:.2g} %"


def _kind(option: Option) -> str:
    several = f", {option.n_endpoints} endpoints" if option.n_endpoints > 1 else ""
    return f"{option.shape}{several}"


def _seconds(figure: Measured) -> str:
    if figure.value is None:
        return "-"
    if figure.value < 1:
        return f"{1e3 * figure.value:.3g} ms"
    return f"{figure.value:.3g} s" if figure.value < 100 else f"{figure.value:,.0f} s"


def _gigabytes(figure: Measured) -> str:
    return "-" if figure.value is None else f"{figure.value / 1e9:,.2f} GB"


def _per_thousand(option: Option, figure: Measured) -> str:
    return "-" if figure.value is None or not option.paid_share else f"{1e3 * figure.value:,.4g}"


def _month(row: Judgement) -> str:
    usd = row.cost.usd_per_month
    return "-" if usd is None else f"{usd:,.2f}"


def _not_chosen(advice: Advice) -> Table:
    """What is excluded and by which constraint; what cannot be judged, and what is not shown to be good enough."""
    rows = []
    for row in advice.decision.judgements:
        rows += [[row.option.name, found.constraint, found.sentence] for found in row.exclusions]
        if not row.exclusions:
            rows += [[row.option.name, "cannot be judged", why] for why in row.unknown]
        if not row.option.judged.is_good:
            rows.append([row.option.name, row.option.judged.word, row.option.judged.sentence])
    notes = []
    if advice.catalogue:
        parts = ", ".join(f"{count} by {name}" for name, count in advice.catalogue.items())
        notes.append(f"Of the catalogue's models are excluded: {parts} (one may break several).")
    if advice.unmeasured:
        names = ", ".join(_named(row) for row in advice.unmeasured)
        notes.append(f"The largest of the catalogue that are left, unmeasured and all by estimate: {names}.")
    return Table(title="Why not the others", columns=["option", "by", "why"], rows=rows, notes=notes)


def _named(row: Judgement) -> str:
    option = row.option
    facts = [
        f"{option.parameters / 1e9:.1f}B" if option.parameters else "-",
        _gigabytes(option.memory.estimate),
        f"{_seconds(option.latency.estimate)} or more" if option.latency.estimate.value is not None else "-",
    ]
    return f"{option.name} ({', '.join(fact for fact in facts if fact != '-')})"


def _controls(advice: Advice) -> Table:
    chosen = advice.decision.chosen
    rows = []
    for name, row in advice.controls:
        usd = row.cost.usd_per_month
        more = "-"
        if chosen is not None and chosen.cost.usd_per_month is not None and usd is not None:
            gap = usd - chosen.cost.usd_per_month
            more = "the answer itself" if row.option.name == chosen.option.name else f"{gap:+,.2f}"
        score = share(row.option.quality) if row.option.quality.value is not None else "-"
        rows.append([name, row.option.name, row.option.judged.word, score, _month(row), more])
    columns = ["control", "option", "against the reference", "score", "USD/month", "more than the answer"]
    return Table(title="Controls", columns=columns, rows=rows)


def curves(advice: Advice) -> list[Option]:
    """What is drawn: what the rule chose from and the controls, the cheapest now first."""
    decision = advice.decision
    drawn = {row.option.name: row for row in decision.judgements if row.option in decision.at_any_volume}
    drawn |= {row.option.name: row for _, row in advice.controls}
    known = [row for row in drawn.values() if row.cost.usd_per_h is not None]
    return [
        row.option for row in sorted(known, key=lambda row: (row.cost.usd_per_h or 0.0, row.option.name))[:MOST_CURVES]
    ]


def _break_even(advice: Advice) -> Table:
    """Dollars for 1,000 requests at volumes around the stated one; the cheapest is marked."""
    options, decision = curves(advice), advice.decision
    if len(options) < 2:
        return Table(title="", columns=[], rows=[])
    volumes = [decision.per_h * 10.0**power for power in _DECADES]
    lines = [[_each(option, advice, per_h) for per_h in volumes] for option in options]
    best = [min(line[i] for line in lines) for i in range(len(volumes))]
    rows = []
    for option, line in zip(options, lines, strict=True):
        cells = [f"{usd:,.4g}{' *' if usd <= best[i] else ''}" for i, usd in enumerate(line)]
        rows.append([option.name, *cells, _sparkline(line, lines)])
    notes = ["* the cheapest at this volume. The curve: USD a request, logarithmic, the same scale for all."]
    if len(advice.segments) > 1:
        parts = [f"{part.option} {_range(part.low, part.high)}" for part in advice.segments]
        notes.append(f"Cheapest of those that are good enough: {'; '.join(parts[:8])}.")
    title = "USD for 1,000 requests, by requests an hour"
    return Table(
        title=title, columns=["option", *(_short(per_h) for per_h in volumes), "curve"], rows=rows, notes=notes
    )


def _each(option: Option, advice: Advice, per_h: float) -> float:
    found = cost(option, advice.decision.needs, per_h).usd_per_h
    assert found is not None  # what a price is known of at one volume, it is known of at all
    return 1e3 * found / per_h


def _short(per_h: float) -> str:
    return f"{float(f'{per_h:.3g}'):,g}"


def _range(low: float, high: float) -> str:
    if low <= 0.011:
        return f"below {_short(high)}" if high < 9e6 else "at any volume"
    return f"from {_short(low)}" if high > 9e6 else f"from {_short(low)} to {_short(high)}"


def _sparkline(line: Sequence[float], lines: Sequence[Sequence[float]]) -> str:
    known = [math.log(usd) for some in lines for usd in some if usd > 0]
    if not known:
        return _BARS[0] * len(line)
    low, high = min(known), max(known)
    span = high - low or 1.0
    heights = [0.0 if usd <= 0 else (math.log(usd) - low) / span for usd in line]
    return "".join(_BARS[round(height * (len(_BARS) - 1))] for height in heights)


def _traffic(advice: Advice) -> Table:
    traffic = advice.sources.traffic
    if traffic is None or not traffic.shares:
        return Table(title="", columns=[], rows=[])
    rows = []
    for part in traffic.shares:
        promise = part.certificate
        tokens = "-" if part.prompt_tokens is None else f"{part.prompt_tokens:,.0f}/{part.completion_tokens or 0:,.0f}"
        said = "-"
        if promise is not None:
            said = f"{100 * promise.claim.max_risk:g} % per {promise.claim.per}, covers {100 * promise.coverage:.0f} %"
        rows.append([part.name, f"{part.requests:,}", f"{100 * part.share:.1f} %", tokens, part.mode, said])
    rate = "" if traffic.per_h.value is None else f"{volume(traffic.per_h.value)} over {traffic.per_h.method}"
    columns = ["task", "requests", "share", "tokens in/out", "mode", "certificate"]
    return Table(title=f"In the log: {rate or f'{traffic.n:,} requests'}", columns=columns, rows=rows)


def _builds(advice: Advice) -> Table:
    traffic = advice.sources.traffic
    rows = []
    for build in advice.sources.builds:
        share_of = next((part.share for part in traffic.shares if part.name == build.task), 0.0) if traffic else 0.0
        took = "-" if build.seconds is None else f"{build.seconds / 60:.2g} min for {build.seconds_n:,} answers"
        short = "-" if build.answers_short is None else f"{build.answers_short:,}"
        least = "-" if build.answers_least is None else f"{build.answers_least:,}"
        waiting = _waiting(build, share_of * advice.decision.per_h)
        rows.append([build.task, f"{build.known_answers:,}", took, short, least, waiting, _learning(build)])
    columns = ["task", "answers there", "learning took here", "short, by the last attempt"]
    estimates = ["answers at the least (estimate)", "there in (estimate)", "learning then (estimate)"]
    notes = [
        f"For a promise of {100 * advice.decision.needs.margin:g} % per answer. At the least: if no answer differs; "
        "`certify --plan` says it for the agreement there is. One core; where nothing was learnt here, as on the "
        "machine of the benchmark. The answers come with the traffic and cost nothing more."
    ]
    return Table(title="Build: what a specialist takes", columns=[*columns, *estimates], rows=rows, notes=notes)


def _waiting(build: Build, per_h: float) -> str:
    """How long the traffic takes to bring the answers that are missing."""
    if build.answers_least is None or not per_h:
        return "-"
    hours = max(0, build.answers_least - build.known_answers) / per_h
    return "now" if not hours else f"{hours:.2g} h" if hours < 48 else f"{hours / 24:,.0f} days"


def _learning(build: Build) -> str:
    """Minutes of learning with so many answers: as it took here, in proportion, else as the benchmark took."""
    if build.answers_least is None:
        return "-"
    if build.seconds is None or not build.seconds_n:
        return f"{build.answers_least * LEARNING_S / 60:.2g} min"
    return f"{build.seconds / 60 * max(1.0, build.answers_least / build.seconds_n):.2g} min"
