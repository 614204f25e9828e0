"""Learning a gain from outcomes, with what so many outcomes can bear.

First each signal must show its worth: that it orders this workload's gains better than chance, at 5 % over all signals
together (Holm). From 50 outcomes on the signals of the answer that have shown it are weighed; the prompt and trees come
in from 300 on, the heads of an encoder from 800 on, since with fewer they cost more than they bring
(../shared/reference/routing.md). An encoder's heads must show their worth like a signal, out of fold. Which of all this
is best is told out of fold too, and it must be better than chance there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pvariance
from typing import Any, Literal, NamedTuple

from pilotfish.core.errors import MissingExtraError
from pilotfish.core.outcome import Outcome
from pilotfish.routing import fit, prompt
from pilotfish.routing import reader as readers
from pilotfish.routing.gain import UNUSUAL_ENDING, Gain, Heads
from pilotfish.routing.reader import Reader
from pilotfish.routing.signals import BY_NAME, SIGNALS, ending
from pilotfish.stats import resampled_curves, routing
from pilotfish.stats.paired import holm

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("learn", "numpy") from error

Floats = NDArray[np.float64]
Kind = Literal["answer", "prompt", "answer and prompt"]
Progress = Callable[[str, int, int], None]

FEWEST = 50
PROMPT_FROM = 300
ENCODER_FROM = 800
ALPHA = 0.05
FOLDS = 5

_SIGNAL_ROWS = 20.0
_PROMPT_ROWS = 300.0
"""Pseudo-rows that hold each weight at zero: signals were chosen because they tell, features of the prompt were not."""

_HEADS_PART = 0.5
"""An encoder is too sure of itself: least squares out of fold give its heads half the weight of the trees, on subjects
that it knows (MMLU: APGR .686, with equal parts .681) as on others (.597, .593)."""

_KNOWN_SHARE = 0.95
"""Of the outcomes must have a signal that is used. Where it is unknown the larger model is asked, live as here: a call
for a further sample that failed is no reason to do without all others."""

_ENDINGS = 64
_FOLD_DRAWS, _DRAWS = 1_000, 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Outcomes to learn from, of a smaller and a larger model; `reader` is an encoder that has read their prompts."""

    outcomes: Sequence[Outcome]
    smaller: str
    larger: str
    reader: Reader | None = None

    @property
    def gains(self) -> Floats:
        """What the larger model is better by."""
        return np.array([o.tried[self.larger].score - o.tried[self.smaller].score for o in self.outcomes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a signal is worth on these outcomes: its APGR, its p-value after Holm, and whether, or why not, it is
    used."""

    name: str
    cost: str
    apgr: float | None
    p: float | None
    is_used: bool
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A gain with its needs out of fold, one an outcome. `gain` is None where nothing is shown, and `why_none` says so.

    `p` is that of "no better than chance" out of fold, times the `n_tried` gains of which this is the best.
    """

    gain: Gain | None
    kind: Kind
    needs: tuple[float, ...]
    apgr: float | None
    p: float
    worths: tuple[Worth, ...]
    why_none: str = ""
    n_tried: int = 1


def learn(material: Material, *, seed: int = 0, progress: Progress | None = None) -> Learnt:
    """The best gain that the outcomes can bear."""
    table = _Table(material)
    gains = material.gains
    n_folds = FOLDS if table.reader is None else table.reader.n_folds
    folds = np.random.default_rng(seed).permutation(len(gains)) % n_folds
    worths = table.worths(np.arange(len(gains)), _DRAWS, seed, table.read_by_heads(folds))
    used = {worth.name for worth in worths if worth.is_used}
    kinds = _plans(len(gains), has_signals=bool(used - {readers.NAME}), has_encoder=readers.NAME in used)
    found: list[tuple[float, _Plan, Floats]] = []
    for done, plan in enumerate(kinds):
        needs = np.empty(len(gains))
        for fold in range(n_folds):
            if progress is not None:
                progress("learning the gain", n_folds * done + fold, n_folds * len(kinds))
            own = folds == fold
            needs[own] = table.needs(table.fit(plan, np.flatnonzero(~own), seed), np.flatnonzero(own))
        found.append((_value(plan.kind, needs, material), plan, needs))
    if progress is not None:
        progress("learning the gain", 1, 1)
    if not found:
        return Learnt(
            gain=None,
            kind="answer",
            needs=(),
            apgr=None,
            p=1.0,
            worths=worths,
            why_none=_too_few(len(gains)),
        )
    _, plan, needs = max(found, key=lambda one: one[0])
    p = min(1.0, len(found) * resampled_curves.better_than_chance(needs.tolist(), gains.tolist(), seed=seed))
    shown = p <= ALPHA
    return Learnt(
        gain=table.fit(plan, np.arange(len(gains)), seed).gain if shown else None,
        kind=plan.kind,
        needs=tuple(needs.tolist()),
        apgr=routing.apgr(needs.tolist(), gains.tolist()),
        p=p,
        worths=worths,
        why_none="" if shown else f"out of fold the best of {len(found)} is no better than chance (p = {p:.2g})",
        n_tried=len(found),
    )


def _too_few(n: int) -> str:
    if n < FEWEST:
        return f"{n:,} outcomes to learn from; {FEWEST} are the fewest"
    return f"no signal is better than chance, and the prompt is looked at from {PROMPT_FROM} outcomes on"


class _Plan(NamedTuple):
    """What a gain may read."""

    kind: Kind
    has_encoder: bool = False


def _plans(n: int, *, has_signals: bool, has_encoder: bool) -> list[_Plan]:
    if n < FEWEST:
        return []
    plans = [_Plan("answer")] if has_signals else []
    if n >= PROMPT_FROM:
        kinds: list[Kind] = ["prompt", "answer and prompt"] if has_signals else ["prompt"]
        plans += [_Plan(kind, has_encoder=one) for kind in kinds for one in ([False, True] if has_encoder else [False])]
    return plans


class _Fitted(NamedTuple):
    """A gain, with the embeddings of all outcomes that its heads go with."""

    gain: Gain
    embeddings: NDArray[np.floating[Any]] | None = None


def _value(kind: Kind, needs: Floats, material: Material) -> float:
    """What a kind is worth out of fold: the mean quality over its costs above a random choice between the two."""
    small, large = (
        [outcome.tried[name].cost_usd for outcome in material.outcomes] for name in (material.smaller, material.larger)
    )
    gains, weak = material.gains.tolist(), [o.tried[material.smaller].score for o in material.outcomes]
    kept, sent = [0.0] * len(gains), [1.0] * len(gains)
    if None not in small and None not in large:
        kept = [cost or 0.0 for cost in small]
        both = 0.0 if kind == "prompt" else 1.0
        sent = [(cost or 0.0) + both * own for cost, own in zip(large, kept, strict=True)]
    points = routing.cost_curve(needs.tolist(), weak, gains, kept, sent)
    mixed = routing.hull([routing.Point(fmean(kept), fmean(weak)), _reference(kept, sent, kind, weak, gains)])
    return routing.over_hull(points, mixed) or 0.0


def _reference(
    kept: Sequence[float], sent: Sequence[float], kind: Kind, weak: Sequence[float], gains: Sequence[float]
) -> routing.Point:
    """The larger model alone, which needs no answer of the smaller."""
    cost = fmean(sent) - (fmean(kept) if kind != "prompt" else 0.0)
    return routing.Point(cost, fmean(weak) + fmean(gains))


class _Table:
    """Everything that can be known of the outcomes, read once."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._gains = material.gains
        tried = [outcome.tried[material.smaller] for outcome in material.outcomes]
        pairs = list(zip(material.outcomes, tried, strict=True))
        self._signals = {signal.name: [signal.read(*pair) for pair in pairs] for signal in SIGNALS}
        self._ends = [None if one.text is None else ending(one.text) for one in tried]
        self._prompts = np.array([prompt.features(outcome.prompt) for outcome in material.outcomes])
        self._tasks = [outcome.task for outcome in material.outcomes]
        self.reader = material.reader if len(self._gains) >= ENCODER_FROM else None

    def read_by_heads(self, folds: NDArray[np.intp]) -> list[float] | None:
        """What heads alone say of each outcome, taught by the other folds; None without an encoder."""
        if self.reader is None:
            return None
        said = np.empty(len(folds))
        for fold in range(self.reader.n_folds):
            heads, embeddings = self._heads(self.reader, np.flatnonzero(folds != fold))
            own = np.flatnonzero(folds == fold)
            said[own] = [heads(embedding) for embedding in embeddings[own].tolist()]
        return said.tolist()

    def worths(
        self, rows: NDArray[np.intp], draws: int, seed: int, encoded: list[float] | None = None
    ) -> tuple[Worth, ...]:
        """What each signal is worth on some rows, and what heads say of them, out of fold."""
        gains = self._gains[rows].tolist()
        columns = {name: [values[i] for i in rows] for name, values in self._signals.items()}
        columns[UNUSUAL_ENDING] = list(self._unusual(rows, rows))
        columns |= {} if encoded is None else {readers.NAME: list[float | None](encoded)}
        known = {name: [v for v in values if v is not None] for name, values in columns.items()}
        least = _KNOWN_SHARE * len(rows)
        told = {
            name: [np.inf if value is None else value for value in columns[name]]
            for name, values in known.items()
            if len(values) >= least and len(set(values)) > 1
        }
        raw = [
            resampled_curves.better_than_chance(needs, gains, permutations=draws, seed=seed) for needs in told.values()
        ]
        adjusted = dict(zip(told, holm(raw), strict=True))
        return tuple(
            self._worth(name, len(known[name]), told.get(name, []), gains, adjusted.get(name)) for name in columns
        )

    def _worth(self, name: str, n_known: int, needs: list[float], gains: list[float], p: float | None) -> Worth:
        cost = BY_NAME[name].cost if name in BY_NAME else "encoder" if name == readers.NAME else "text"
        if p is not None:
            why = "" if p <= ALPHA else f"not better than chance here (p = {p:.2g} after Holm)"
            return Worth(name=name, cost=cost, apgr=routing.apgr(needs, gains), p=p, is_used=p <= ALPHA, why_not=why)
        why = "the same for all" if n_known == len(gains) else f"known for {n_known:,} of {len(gains):,}"
        return Worth(name=name, cost=cost, apgr=None, p=None, is_used=False, why_not=why)

    def fit(self, plan: _Plan, rows: NDArray[np.intp], seed: int) -> _Fitted:
        """The gain of a plan, learnt on some rows: the mean of its parts, then an offset a task."""
        names: tuple[str, ...] = ()
        if plan.kind != "prompt":
            names = tuple(worth.name for worth in self.worths(rows, _FOLD_DRAWS, seed) if worth.is_used)
        reads_prompt = plan.kind != "answer"
        endings = self._endings(rows) if UNUSUAL_ENDING in names else {}
        known = self._known(names, rows)
        values = self._rows(names, reads_prompt, known, rows)
        gains = self._gains[known]
        gain = Gain(signals=names, reads_prompt=reads_prompt, endings=endings, intercept=float(gains.mean()))
        if values.shape[1]:
            weights, intercept = fit.line(values, gains, _PROMPT_ROWS if reads_prompt else _SIGNAL_ROWS)
            gain = replace(gain, weights=tuple(weights.tolist()), intercept=intercept)
        fitted = _Fitted(gain)
        if len(self._gains) >= PROMPT_FROM and values.shape[1]:
            fitted = self._more(plan, gain, values, gains, rows, seed)
        return fitted._replace(gain=replace(fitted.gain, tasks=self._offsets(fitted, rows)))

    def _known(self, names: Sequence[str], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those of the rows of which all these signals are known."""
        columns = [self._ends if name == UNUSUAL_ENDING else self._signals[name] for name in names]
        return np.array([i for i in rows if all(column[i] is not None for column in columns)], np.intp)

    def _more(
        self, plan: _Plan, gain: Gain, values: Floats, gains: Floats, rows: NDArray[np.intp], seed: int
    ) -> _Fitted:
        """Trees, the heads of an encoder to half a part, and the line where it reads an answer.

        By the prompt alone the line only takes from the trees: on MMLU's training subjects .580 with it, .588 without.
        """
        heads, embeddings, has_line = None, None, bool(gain.signals)
        if plan.has_encoder and self.reader is not None:
            heads, embeddings = self._heads(self.reader, rows)
        part = 1.0 / (1.0 + has_line + (_HEADS_PART if heads is not None else 0.0))
        mean = float(gains.mean())
        more = replace(
            gain,
            weights=tuple(part * weight for weight in gain.weights) if has_line else (),
            intercept=part * (mean + gain.intercept * has_line),
            trees=fit.forest(values, gains, seed),
            trees_part=part,
            heads=None if heads is None else replace(heads, part=_HEADS_PART * part),
        )
        return _Fitted(more, embeddings)

    def _heads(self, reader: Reader, rows: NDArray[np.intp]) -> tuple[Heads, NDArray[np.floating[Any]]]:
        return reader.heads(rows, self._material.smaller, self._material.larger)

    def needs(self, fitted: _Fitted, rows: NDArray[np.intp]) -> Floats:
        """What a gain says of some rows."""
        outcomes, (gain, embeddings) = self._material.outcomes, fitted
        vectors = [None] * len(rows) if embeddings is None else embeddings[rows].tolist()
        found = [
            gain(outcomes[i], outcomes[i].tried[self._material.smaller], vector)
            for i, vector in zip(rows, vectors, strict=True)
        ]
        return np.array([np.inf if value is None else value for value in found])

    def _rows(
        self, names: Sequence[str], reads_prompt: bool, rows: NDArray[np.intp], taught: NDArray[np.intp]
    ) -> Floats:
        columns = [
            self._unusual(rows, taught) if name == UNUSUAL_ENDING else [self._signals[name][i] for i in rows]
            for name in names
        ]
        signals = np.array(columns, np.float64).T if columns else np.empty((len(rows), 0))
        return np.hstack([signals, self._prompts[rows]]) if reads_prompt else signals

    def _endings(self, rows: NDArray[np.intp]) -> dict[str, int]:
        return dict(Counter(end for i in rows if (end := self._ends[i]) is not None).most_common(_ENDINGS))

    def _unusual(self, rows: NDArray[np.intp], taught: NDArray[np.intp]) -> list[float | None]:
        endings = self._endings(taught)
        total = sum(endings.values()) + 1.0
        return [
            None if end is None else -float(np.log((endings.get(end, 0) + 1.0) / total))
            for end in (self._ends[i] for i in rows)
        ]

    def _offsets(self, fitted: _Fitted, rows: NDArray[np.intp]) -> dict[str, float]:
        """Each task's mean of what the gain leaves over, drawn to zero as far as tasks differ by chance alone."""
        left: defaultdict[str, list[float]] = defaultdict(list)
        for i, need in zip(rows, self.needs(fitted, rows), strict=True):
            if np.isfinite(need):
                left[self._tasks[i]].append(float(self._gains[i] - need))
        several = {task: values for task, values in left.items() if len(values) > 1}
        if len(several) < 2:
            return {}
        noise = {task: max(pvariance(values), 1e-4) / (len(values) - 1) for task, values in several.items()}
        means = {task: fmean(values) for task, values in several.items()}
        between = max(0.0, pvariance(list(means.values())) - fmean(noise.values()))
        return {task: mean * between / (between + noise[task]) for task, mean in means.items()}
