"""A report as tables of text: what the terminal, Markdown and HTML show alike.

Every cell carries its own unit, a dash where a figure does not apply, and its reason where one is missing. Estimated
energy has a column of its own. Colours, charts and widths belong to whoever draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.core.measured import Measured
from pilotfish.evals import money
from pilotfish.evals.axes import FAILURES, Axes, Energy
from pilotfish.evals.plan import Plan
from pilotfish.evals.report import Report
from pilotfish.evals.verdict import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A titled table; `notes` are sentences below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def tables(report: Report) -> list[Table]:
    """All tables of a report that have rows, the verdicts first."""
    silent = _silent(report)
    found = [
        _verdicts(report),
        _quality(report),
        _corpus(report),
        *(make(report) for axis, make in _AXES.items() if axis not in silent),
        _hosting(report),
        _trust(report),
        _slices(report),
        _robustness(report),
    ]
    return [table for table in found if table.rows]


def headline(report: Report) -> list[str]:
    """The verdicts as sentences, then what a reader must know of them."""
    sentences = [found.sentence for found in report.comparisons]
    if report.left_out:
        sentences.append(f"{report.left_out:,} items were left out: not every recording holds them.")
    silent = _silent(report)
    if silent:
        sentences.append(f"Not measured for any of these models: {', '.join(silent)}.")
    return sentences + report.notes


def verdict_words(found: Comparison, margin: float) -> str:
    """The verdict as it is printed, with the margin or the number of items that it needs."""
    if found.verdict == "non-inferior":
        return f"non-inferior within {margin:g}"
    if found.verdict == "not enough data":
        return f"not enough data ({found.more_items:,} more)"
    return found.verdict


def plan_table(found: Plan) -> Table:
    """What the items can show, by the share of them on which models differ."""
    rows = [
        [
            f"{100 * row.discordance:g} %",
            f"{row.items_for_margin:,}",
            "yes" if row.is_enough else f"no, {row.items_for_margin - found.n:,} more",
            f"{100 * row.detectable:.1f} points",
        ]
        for row in found.rows
    ]
    return Table(
        title=f"What {found.n:,} items can show",
        columns=["models differ on", f"items for margin {found.margin:g}", "enough", "smallest visible difference"],
        rows=rows,
        notes=[
            f"alpha {found.alpha:g}, power {found.power:g}, {found.n_candidates} candidate(s). Each model would be "
            f"asked {found.calls_per_model:,} times and read about {found.prompt_tokens:,} tokens (estimate: four "
            "characters a token)."
        ],
    )


def share(figure: Measured, digits: int = 1) -> str:
    """A share with its interval, in per cent."""
    if figure.value is None:
        return figure.why_none or "-"
    text = f"{100 * figure.value:.{digits}f} %"
    if figure.low is not None and figure.high is not None:
        text += f" ({100 * figure.low:.{digits}f} to {100 * figure.high:.{digits}f})"
    return text


def time(figure: Measured) -> str:
    """A time in milliseconds with its interval."""
    if figure.value is None:
        return figure.why_none or "-"
    text = f"{_ms(figure.value)} ms"
    if figure.low is not None and figure.high is not None:
        text += f" ({_ms(figure.low)} to {_ms(figure.high)})"
    return text


def amount(figure: Measured, unit: str = "") -> str:
    """A plain figure with its unit, or why there is none."""
    if figure.value is None:
        return figure.why_none or "-"
    return f"{figure.value:.3g} {unit or figure.unit}"


def size(figure: Measured) -> str:
    """Bytes as MB and MiB, both labelled."""
    if figure.value is None:
        return figure.why_none or "-"
    return f"{figure.value / 1e6:,.0f} MB ({figure.value / 2**20:,.0f} MiB)"


def _ms(value_s: float) -> str:
    value = 1e3 * value_s
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def _verdicts(report: Report) -> Table:
    rows = []
    for found in report.comparisons:
        rows.append(
            [
                found.candidate,
                verdict_words(found, report.rule.margin),
                f"{100 * found.difference:+.1f} ({100 * found.interval.low:+.1f} to {100 * found.interval.high:+.1f})",
                f"{100 * found.bootstrap.low:+.1f} to {100 * found.bootstrap.high:+.1f}",
                f"{100 * found.lower:+.1f}",
                f"+{found.discordant[0]} -{found.discordant[1]}" if found.discordant else "-",
                _p(found.p_adjusted),
                _p(found.mcnemar.mid_p) if found.mcnemar else "-",
                f"{100 * found.detectable:.1f}",
            ]
        )
    first = report.comparisons[0] if report.comparisons else None
    baseline = f" against {first.baseline}, {first.n:,} items" if first else ""
    columns = [
        "model",
        "verdict",
        "points (95 %)",
        "bootstrap",
        "lower bound",
        "only one right",
        "p",
        "mid-p",
        "visible",
    ]
    note = (
        f"p: {first.test}, after Holm. Lower bound: one-sided, of the difference in points; non-inferior where it is "
        f"above {-100 * report.rule.margin:g}. Visible: the smallest difference that so many items show with power "
        f"{report.rule.power:g}."
        if first
        else ""
    )
    return Table(title="Verdicts" + baseline, columns=columns, rows=rows, notes=[note])


def _quality(report: Report) -> Table:
    rows = []
    for model in report.models:
        flips = f"{100 * model.stability['items_that_flip']:.1f} %" if model.stability else "-"
        counts = [str(model.failures[kind]) for kind in FAILURES]
        rows.append([model.name, share(model.quality), f"{model.quality.n:,}", *counts, flips])
    macros = [
        f"Macro over {row.tag} ({row.n_values} values): "
        + ", ".join(f"{name} {100 * value:.1f} %" for name, value in row.quality.items())
        + "."
        for row in report.macros
    ]
    note = f"Scorer: {report.head.scorer}. Failures count as wrong. Flips: items whose score changes between repeats."
    return Table(title="Quality", columns=["model", "score", "n", *FAILURES, "flips"], rows=rows, notes=[note, *macros])


def _corpus(report: Report) -> Table:
    names = list(dict.fromkeys(name for found in report.corpus.values() for name in found))
    rows = [[model, *(_plain(found.get(name)) for name in names)] for model, found in report.corpus.items() if found]
    return Table(title="Over all answers together", columns=["model", *names], rows=rows)


def _plain(value: float | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def _latency(report: Report) -> Table:
    rows = []
    for model in report.models:
        latency = model.latency
        ends = [time(latency["end_to_end"][name]) for name in ("p50", "p90", "p95", "p99")]
        firsts = [time(latency[name]["p50"]) for name in ("ttft", "tpot", "itl")]
        n = f"{latency['end_to_end']['p50'].n:,}"
        rows.append([model.name, *ends, n, *firsts, amount(model.requests_per_s), amount(model.output_tokens_per_s)])
    loads = "; ".join(f"{model.name}: {model.load}, {model.warm_up} warm-up calls" for model in report.models)
    columns = ["model", "p50", "p90", "p95", "p99", "n", "TTFT p50", "TPOT p50", "ITL p50", "requests", "tokens"]
    return Table(title="Latency, end to end and per token", columns=columns, rows=rows, notes=[f"Load: {loads}."])


def _memory_energy(report: Report) -> Table:
    has_estimate = any(model.energy_estimate for model in report.models)
    columns = ["model", "peak memory", "device memory", "opening it", "J/request", "J/output token", "J/correct", "how"]
    rows = []
    for model in report.models:
        for energy in model.energy:
            row = [model.name, size(model.memory), size(model.device_memory), time(model.load_s), *_joules(energy)]
            if has_estimate:
                estimate = model.energy_estimate
                row.append(amount(estimate.j_per_request, "J (estimate)") if estimate else "-")
            rows.append(row)
    notes = [f"{model.name}, memory: {model.memory.method}." for model in report.models if model.memory.method]
    if has_estimate:
        columns = [*columns, "estimated J/request"]
        how = next(model.energy_estimate.total_j.method for model in report.models if model.energy_estimate)
        notes.append(f"The estimate is no measurement: {how}.")
    return Table(title="Memory and energy", columns=columns, rows=rows, notes=notes)


def _joules(energy: Energy) -> list[str]:
    if energy.total_j.value is None:
        return [energy.total_j.why_none.partition(" (")[0], "-", "-", energy.total_j.why_none]
    each = [
        amount(energy.j_per_request, "J"),
        amount(energy.j_per_output_token, "J"),
        amount(energy.j_per_correct, "J"),
    ]
    return [*each, energy.total_j.method]


def _money(report: Report) -> Table:
    rows = [
        [
            model.name,
            _usd(model.money.usd_per_task),
            _usd(model.money.usd_per_correct),
            model.money.price or "-",
            share(model.escalated) if model.escalated else "-",
        ]
        for model in report.models
    ]
    columns = ["model", "USD/answer", "USD/correct answer", "USD per million tokens", "escalated"]
    return Table(title="Money", columns=columns, rows=rows)


def _usd(figure: Measured) -> str:
    return figure.why_none or "-" if figure.value is None else f"{figure.value:.3g}"


def _hosting(report: Report) -> Table:
    rows = []
    for model in report.models:
        costs = model.money.self_hosted_usd_per_mtok
        if model.money.rent_usd_per_h is not None:
            cells = [f"{usd:.3g}" for usd in costs.values()] or ["no tokens/s"] * len(money.UTILISATIONS)
            rows.append([model.name, f"{model.money.rent_usd_per_h:g}", *cells])
    columns = ["model", "USD/h", *(f"at {100 * used:g} %" for used in money.UTILISATIONS)]
    note = "USD per million output tokens, at the measured tokens/s and this share of the hour in use."
    return Table(title="On hardware of one's own", columns=columns, rows=rows, notes=[note, *_break_even(report)])


def _break_even(report: Report) -> list[str]:
    """From how many requests an hour a rented model is cheaper than each one that is paid by the token."""
    rented = [(model.name, model.money.rent_usd_per_h) for model in report.models if model.money.rent_usd_per_h]
    billed = [(model.name, model.money.usd_per_task.value) for model in report.models if model.money.usd_per_task.value]
    return [
        f"Below {money.break_even_per_h(rent, usd):,.0f} requests an hour {other} is cheaper than {name}."
        for name, rent in rented
        for other, usd in billed
        if name != other
    ]


def _trust(report: Report) -> Table:
    rows = []
    for model in report.models:
        if model.trust:
            found = model.trust
            rows.append(
                [
                    model.name,
                    f"{found['ece_10_equal_mass_bins']:.4f}",
                    f"{found['brier']:.4f}",
                    f"{100 * found['accuracy_of_surest_tenth']:.1f} %",
                    f"{found['aurc']:.4f}",
                    f"{found['n']:,.0f}",
                ]
            )
    few = any(model.trust and model.trust["n"] < 300 for model in report.models)
    notes = ["Below 300 answers a calibration error is mostly noise."] if few else []
    columns = ["model", "ECE (10 bins)", "Brier", "surest tenth right", "AURC", "n"]
    return Table(title="How far stated certainty can be trusted", columns=columns, rows=rows, notes=notes)


def _slices(report: Report) -> Table:
    names = [model.name for model in report.models]
    rows = [
        [f"{row.tag}: {row.value}", f"{row.n:,}", *(share(row.quality[name]) for name in names)]
        for row in report.slices
    ]
    return Table(title="Slices", columns=["slice", "n", *names], rows=rows)


def _robustness(report: Report) -> Table:
    rows = [
        [
            row.model,
            row.variant,
            f"{row.n:,}",
            share(row.quality_before),
            share(row.quality),
            f"{100 * row.share_of_answers_changed:.1f} %",
            f"{len(row.flips):,}",
        ]
        for row in report.robustness
    ]
    columns = ["model", "perturbation", "items", "score before", "score after", "answers changed", "flips"]
    return Table(title="Robustness", columns=columns, rows=rows)


_AXES = {"latency": _latency, "memory and energy": _memory_energy, "money": _money}


def _silent(report: Report) -> list[str]:
    """The axes on which no model has a figure: said in a sentence, not in a table of reasons."""
    figures = {
        "latency": [model.latency["end_to_end"]["p50"] for model in report.models],
        "memory and energy": [figure for model in report.models for figure in _machine(model)],
        "money": [model.money.usd_per_task for model in report.models],
    }
    return [axis for axis, found in figures.items() if all(figure.value is None for figure in found)]


def _machine(model: Axes) -> list[Measured]:
    estimate = [model.energy_estimate.total_j] if model.energy_estimate else []
    return [model.memory, model.device_memory, *(energy.total_j for energy in model.energy), *estimate]
