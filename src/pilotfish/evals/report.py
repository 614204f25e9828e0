"""The report of a comparison: axes, verdicts, slices, flips and disagreements, from a run file and its items.

It holds figures and texts, no layout: the terminal, Markdown, HTML and JSON are made from it. Everything in it can be
computed again from the run file, whoever ran it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from pilotfish.core.item import Item
from pilotfish.core.measured import Measured
from pilotfish.evals.answerers import last_text
from pilotfish.evals.axes import Axes, axes, item_scores, quality
from pilotfish.evals.judge import Labels, judge_reports
from pilotfish.evals.run_file import AnswerRow, Head, RunFile
from pilotfish.evals.verdict import Comparison, Rule, compare, pairs
from pilotfish.scoring.judging import JudgeReport
from pilotfish.scoring.scorers import corpus_figures

MOST_DISAGREEMENTS = 50
LONGEST_LABEL = 64
MOST_SLICES = 40
"""Values of a tag; one with more is left out, since every item would be a slice of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The quality of every model on the items of one tag's value."""

    tag: str
    value: str
    n: int
    quality: dict[str, Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Macro:
    """The mean over a tag's values, each counting alike, beside which stands the mean over items (micro)."""

    tag: str
    n_values: int
    quality: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """An item whose score or answer changed when its text was perturbed."""

    model: str
    item: str
    text: str
    answer: str
    perturbed_answer: str
    score: float
    perturbed_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """One model under one perturbation. Both shares are over the items that could be perturbed."""

    model: str
    variant: str
    n: int
    quality: Measured
    quality_before: Measured
    share_of_answers_changed: float
    flips: list[Flip]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """An item that models score differently, with what each said."""

    item: str
    text: str
    expected: str
    answers: dict[str, tuple[str, float, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that is known. `left_out` counts items that some recording does not hold.

    `corpus` holds, per model, what is defined for all answers together only (BLEU with its signature, entity F1);
    `judge` how a model that judged did on the answers of each, and is empty where none did.
    """

    head: Head
    rule: Rule
    models: list[Axes]
    comparisons: list[Comparison]
    slices: list[Slice]
    macros: list[Macro]
    robustness: list[Robustness]
    disagreements: list[Disagreement]
    n_disagreements: int
    corpus: dict[str, dict[str, float | str]]
    judge: dict[str, JudgeReport]
    limits_s: dict[str, float]
    left_out: int
    is_clustered: bool
    command: str = ""
    run_path: str = ""
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """One JSON object; the same keys whatever was found."""
        return {
            "data": self.head.data,
            "data_sha256": self.head.data_sha256,
            "prompts_sha256": self.head.prompts_sha256,
            "scorer": self.head.scorer,
            "items": self.head.n_items,
            "left_out": self.left_out,
            "is_clustered": self.is_clustered,
            "rule": asdict(self.rule),
            "models": [model.to_json() for model in self.models],
            "comparisons": [_comparison(found) for found in self.comparisons],
            "slices": [{**asdict(row), "quality": _measured(row.quality)} for row in self.slices],
            "macros": [asdict(row) for row in self.macros],
            "robustness": [
                {**asdict(row), "quality": row.quality.to_json(), "quality_before": row.quality_before.to_json()}
                for row in self.robustness
            ],
            "disagreements": [asdict(row) for row in self.disagreements],
            "n_disagreements": self.n_disagreements,
            "corpus": self.corpus,
            "limits_s": self.limits_s,
            "judge": {name: asdict(found) for name, found in self.judge.items()},
            "environment": self.head.environment,
            "command": self.command,
            "run": self.run_path,
            "notes": self.notes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the user states beside the data: rents (USD an hour), people's labels, limits of latency (seconds)."""

    rents: Mapping[str, float] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    limits_s: Mapping[str, float] = field(default_factory=dict)


def report(
    items: Sequence[Item],
    file: RunFile,
    names: Sequence[str],
    rule: Rule,
    *,
    stated: Stated | None = None,
    left_out: int = 0,
    command: str = "",
) -> Report:
    """The report on the models `names`, the first of which is the baseline. ValueError without items or models."""
    stated = stated or Stated()
    wanted = {item.id: item for item in items}
    rows: dict[str, list[AnswerRow]] = {name: [] for name in names}
    for row in file.answers.values():
        if row.model in rows and row.item in wanted:
            rows[row.model].append(row)
    clusters = {item.id: item.cluster or item.id for item in items} if any(item.cluster for item in items) else None
    scores = {name: item_scores(found) for name, found in rows.items()}
    shared = [item.id for item in items if all(item.id in found for found in scores.values())]
    found = [
        axes(
            file.models[name],
            rows[name],
            [session for session in file.sessions if session.model == name],
            clusters=clusters,
            rent_usd_per_h=stated.rents.get(name),
            limits_s=stated.limits_s,
        )
        for name in names
    ]
    slices, macros = _slices(items, scores, shared)
    differing = _differing(scores, shared)
    return Report(
        head=file.head,
        rule=rule,
        models=found,
        comparisons=compare(pairs(names, scores, shared, clusters), rule) if shared else [],
        slices=slices,
        macros=macros,
        robustness=_robustness(wanted, rows),
        disagreements=[_disagreement(wanted[item], rows) for item in differing[:MOST_DISAGREEMENTS]],
        n_disagreements=len(differing),
        corpus={name: _corpus(file.head.scorer, wanted, found) for name, found in rows.items()},
        judge=judge_reports((row for found in rows.values() for row in found if not row.variant), stated.labels),
        limits_s=dict(stated.limits_s),
        left_out=left_out,
        is_clustered=clusters is not None,
        command=command,
        run_path=str(file.path),
        notes=_notes(names, shared, items),
    )


def _notes(names: Sequence[str], shared: Sequence[str], items: Sequence[Item]) -> list[str]:
    notes = []
    if len(names) > 2:
        notes.append(
            f"{len(names) - 1} candidates were compared; p-values are adjusted for that (Holm). The best of them looks "
            "better on these items than it is: confirm it on others."
        )
    if len(shared) < len(items):
        notes.append(f"The run is not complete: {len(shared):,} of {len(items):,} items are answered by all models.")
    return notes


def _slices(
    items: Sequence[Item], scores: Mapping[str, Mapping[str, float]], shared: Sequence[str]
) -> tuple[list[Slice], list[Macro]]:
    groups: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    is_shared = set(shared)
    for item in items:
        for tag, value in item.tags.items():
            if item.id in is_shared:
                groups[tag][value].append(item.id)
    slices, macros = [], []
    for tag, values in groups.items():
        if not 1 < len(values) <= max(MOST_SLICES, 2) and tag != "subject":
            continue
        found = [
            Slice(
                tag=tag,
                value=value,
                n=len(ids),
                quality={name: quality([of[item] for item in ids]) for name, of in scores.items()},
            )
            for value, ids in sorted(values.items())
        ]
        slices += found
        means = {name: fmean(row.quality[name].value or 0.0 for row in found) for name in scores}
        macros.append(Macro(tag=tag, n_values=len(found), quality=means))
    return slices, macros


def _differing(scores: Mapping[str, Mapping[str, float]], shared: Sequence[str]) -> list[str]:
    """Items on which the scores part, the widest first."""
    spread = {
        item: max(of[item] for of in scores.values()) - min(of[item] for of in scores.values()) for item in shared
    }
    return sorted((item for item, gap in spread.items() if gap > 0), key=lambda item: -spread[item])


def _disagreement(item: Item, rows: Mapping[str, Sequence[AnswerRow]]) -> Disagreement:
    answers = {}
    for name, found in rows.items():
        first = next((row for row in found if row.item == item.id and not row.variant), None)
        if first is not None:
            answers[name] = (first.answer, first.score, first.failure)
    expected = item.expected if isinstance(item.expected, str) else str(item.expected)
    return Disagreement(item=item.id, text=last_text(item), expected=expected, answers=answers)


def _robustness(items: Mapping[str, Item], rows: Mapping[str, Sequence[AnswerRow]]) -> list[Robustness]:
    result = []
    for name, found in rows.items():
        before = {row.item: row for row in found if not row.variant and row.repeat == 0}
        for variant in dict.fromkeys(row.variant for row in found if row.variant):
            after = [row for row in found if row.variant == variant and row.item in before]
            changed = [row for row in after if row.answer.strip() != before[row.item].answer.strip()]
            flipped = [row for row in after if row.score != before[row.item].score or _said_else(before[row.item], row)]
            result.append(
                Robustness(
                    model=name,
                    variant=variant,
                    n=len(after),
                    quality=quality([row.score for row in after]),
                    quality_before=quality([before[row.item].score for row in after]),
                    share_of_answers_changed=len(changed) / len(after) if after else 0.0,
                    flips=[_flip(items[row.item], before[row.item], row) for row in flipped],
                )
            )
    return result


def _corpus(scorer: str, items: Mapping[str, Item], rows: Sequence[AnswerRow]) -> dict[str, float | str]:
    """Figures that are defined for all answers together only; none for scores that were recorded elsewhere."""
    first = [(items[row.item], row.answer) for row in rows if not row.variant and row.repeat == 0 and row.answer]
    return corpus_figures(scorer.partition(" ")[0], first)


def _said_else(before: AnswerRow, after: AnswerRow) -> bool:
    """Whether a short answer changed. Longer texts change with every word and tell nothing."""
    said, then = before.answer.strip(), after.answer.strip()
    return said != then and max(len(said), len(then)) <= LONGEST_LABEL


def _flip(item: Item, before: AnswerRow, after: AnswerRow) -> Flip:
    return Flip(
        model=after.model,
        item=item.id,
        text=last_text(item),
        answer=before.answer,
        perturbed_answer=after.answer,
        score=before.score,
        perturbed_score=after.score,
    )


def _comparison(found: Comparison) -> dict[str, Any]:
    row = asdict(found)
    row["interval"], row["bootstrap"] = list(found.interval), list(found.bootstrap)
    row["mcnemar"] = found.mcnemar._asdict() if found.mcnemar else None
    return row


def _measured(figures: Mapping[str, Measured]) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in figures.items()}
