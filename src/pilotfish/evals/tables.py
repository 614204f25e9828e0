"""A report as tables of text: what the terminal, Markdown and HTML show alike.

Every cell carries its own unit, a dash where a figure does not apply, and its reason where one is missing. Estimated
energy has a column of its own. Colours, charts and widths belong to whoever draws them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilotfish.core.measured import Measured
from pilotfish.evals import money
from pilotfish.evals.axes import FAILURES, Axes, Energy
from pilotfish.evals.plan import Plan
from pilotfish.evals.report import Report
from pilotfish.evals.verdict import Comparison
from pilotfish.evals.wording import amount, p_value, per_cent, plain, share, size, time, usd


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
        _repeats(report),
        _judge(report),
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
                p_value(found.p_adjusted),
                p_value(found.mcnemar.mid_p) if found.mcnemar else "-",
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


def _repeats(report: Report) -> Table:
    rows, ks = [], sorted({k for model in report.models for k in model.pass_any if k > 1})
    for model in report.models:
        if model.stability:
            found = [figures.get(k) for k in ks for figures in (model.pass_any, model.pass_all)]
            cells = ["n/a: graded scores" if figure is None else share(figure) for figure in found]
            spread = f"{100 * model.stability['between_run_sd']:.2f} points"
            rows.append([model.name, f"{model.stability['repeats']:.0f}", spread, *cells])
    columns = ["model", "repeats", "between runs", *(f"{what} of {k}" for k in ks for what in ("any", "all"))]
    notes = ["Between runs: the standard deviation of their means."]
    if ks:
        notes.append("Any: pass@k, at least one of k answers is right. All: pass^k, every one is. Both without bias.")
    return Table(title="Repeats", columns=columns, rows=rows, notes=notes)


def _judge(report: Report) -> Table:
    rows = [
        [
            model,
            f"{found.n:,}",
            f"{found.n_unreadable:,}",
            per_cent(found.same_in_both_orders),
            per_cent(found.prefers_first),
            f"{found.n_human:,}",
            per_cent(found.agreement),
            "-" if found.kappa is None else f"{found.kappa:.3f}",
        ]
        for model, found in report.judge.items()
    ]
    columns = [
        "answers of",
        "pairs",
        "unreadable",
        "same in both orders",
        "first preferred",
        "labelled",
        "agrees",
        "kappa",
    ]
    note = (
        "A judge that does not mind the order prefers the first in half of all cases. Agrees, kappa: with the labels "
        "that people gave (--human)."
    )
    return Table(title="How far the judge can be trusted", columns=columns, rows=rows, notes=[note])


def _corpus(report: Report) -> Table:
    names = list(dict.fromkeys(name for found in report.corpus.values() for name in found))
    rows = [[model, *(plain(found.get(name)) for name in names)] for model, found in report.corpus.items() if found]
    return Table(title="Over all answers together", columns=["model", *names], rows=rows)


def _latency(report: Report) -> Table:
    rows = []
    for model in report.models:
        latency = model.latency
        ends = [time(latency["end_to_end"][name]) for name in ("p50", "p90", "p95", "p99")]
        firsts = [time(latency[name]["p50"]) for name in ("ttft", "tpot", "itl")]
        n = f"{latency['end_to_end']['p50'].n:,}"
        rates = [model.requests_per_s, model.output_tokens_per_s, model.output_tokens_per_s_each]
        goodput = [share(model.goodput)] if model.goodput else []
        rows.append([model.name, *ends, n, *firsts, *map(amount, rates), *goodput])
    loads = "; ".join(f"{model.name}: {model.load}, {model.warm_up} warm-up calls" for model in report.models)
    columns = ["model", "p50", "p90", "p95", "p99", "n", "TTFT p50", "TPOT p50", "ITL p50"]
    columns += ["requests", "tokens, all clients", "tokens, each", *(["goodput"] if report.limits_s else [])]
    notes = [f"Load: {loads}."]
    if report.limits_s:
        limits = ", ".join(f"{name} {1e3 * limit_s:g} ms" for name, limit_s in report.limits_s.items())
        notes.append(f"Goodput: the share of all requests that kept within {limits}.")
    return Table(title="Latency, end to end and per token", columns=columns, rows=rows, notes=notes)


def _memory_energy(report: Report) -> Table:
    has_estimate = any(model.energy_estimate for model in report.models)
    columns = ["model", "peak memory", "device memory", "opening it"]
    columns += ["J/request", "J/output token", "J/token", "J/correct", "how"]
    rows = []
    for model in report.models:
        for energy in model.energy:
            row = [model.name, *(_or_dash(figure, size) for figure in (model.memory, model.device_memory))]
            row += [_or_dash(model.load_s, time), *_joules(energy)]
            if has_estimate:
                estimate = model.energy_estimate
                row.append(amount(estimate.j_per_request, "J (estimate)") if estimate else "-")
            rows.append(row)
    notes = [f"{model.name}, memory: {model.memory.method}." for model in report.models if model.memory.method]
    notes += _reasons(report)
    if has_estimate:
        columns = [*columns, "estimated J/request"]
        how = next(model.energy_estimate.total_j.method for model in report.models if model.energy_estimate)
        notes.append(f"The estimate is no measurement: {how}.")
    notes += [
        f"{model.name}, a request: {model.prompt_tokens.value:.1f} tokens in, {model.completion_tokens.value:.1f} out."
        for model in report.models
        if model.prompt_tokens.value is not None and model.completion_tokens.value is not None
    ]
    return Table(title="Memory and energy", columns=columns, rows=rows, notes=notes)


def _or_dash(figure: Measured, text: Callable[[Measured], str]) -> str:
    return "-" if figure.value is None else text(figure)


def _reasons(report: Report) -> list[str]:
    """Why figures are missing, each reason once with the models that it holds for."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for model in report.models:
        figures = {"memory": model.memory, "device memory": model.device_memory, "energy": model.energy[0].total_j}
        for what, figure in figures.items():
            if figure.value is None:
                found[f"{what}: {figure.why_none}."].append(model.name)
    everyone = len(report.models)
    return [
        why[0].upper() + why[1:] if len(names) == everyone else f"{', '.join(names)}, {why}"
        for why, names in found.items()
    ]


def _joules(energy: Energy) -> list[str]:
    if energy.total_j.value is None:
        return [energy.total_j.why_none.partition(" (")[0].partition(":")[0], "-", "-", "-", "-"]
    each = [
        amount(energy.j_per_request, "J"),
        amount(energy.j_per_output_token, "J"),
        amount(energy.j_per_token, "J"),
        amount(energy.j_per_correct, "J"),
    ]
    return [*each, energy.total_j.method]


def _money(report: Report) -> Table:
    rows = [
        [
            model.name,
            usd(model.money.usd_per_task),
            usd(model.money.usd_per_correct),
            model.money.price or "-",
            share(model.escalated) if model.escalated else "-",
        ]
        for model in report.models
    ]
    columns = ["model", "USD/answer", "USD/correct answer", "USD per million tokens", "escalated"]
    return Table(title="Money", columns=columns, rows=rows)


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
