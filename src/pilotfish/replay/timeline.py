"""One task replayed in honest time order: observe, learn, serve, audit, relearn, withdraw.

At every row only what Pilotfish would have known by then is used: every answer while it observes, after
that only deferred and audited ones. Learning is taken to be finished before the next request comes. It
decides with the same policy object and the same attempt as the live gateway; it calls no model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.example import Example, Sampling
from pilotfish.core.messages import Usage
from pilotfish.core.task import AnswerShape, Mode, Task
from pilotfish.guarantees.advance import Workshop, advance, replaces
from pilotfish.guarantees.attempt import Attempt
from pilotfish.guarantees.audit import Audit
from pilotfish.guarantees.drift import Drift
from pilotfish.guarantees.new_answers import NewAnswers, Serving, answerable, untaught
from pilotfish.guarantees.pace import Pace
from pilotfish.routing.policy import Policy, policy_of
from pilotfish.scoring import answers
from pilotfish.specialists.load import load
from pilotfish.specialists.specialist import Predictions, Specialist
from pilotfish.tasks.shapes import Given, settle_shape

if TYPE_CHECKING:  # without an encoder nothing of what runs one is installed
    from pilotfish.specialists.encoder import Encoder

CHUNK = 512
"""Rows encoded and predicted ahead at once; a new specialist throws the rest of a chunk away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One recorded request of a task; `position` counts the whole log from 1."""

    position: int
    text: str
    answer: str
    time_s: float
    usage: Usage | None = None


class Embeddings:
    """The embeddings of texts, each a pure function of its text, made when first asked for.

    Whether a task's answers are closed shows on the way only, and an open task never needs any. Without an encoder they
    have no columns.
    """

    def __init__(self, texts: Sequence[str], encoder: Encoder | None) -> None:
        self._texts = texts
        self._encoder = encoder
        self._found = np.empty((len(texts), encoder.dimension if encoder else 0), np.float32)
        self._n_found = 0

    def upto(self, end: int) -> NDArray[np.float32]:
        """Those of the first `end` texts."""
        while self._encoder is not None and self._n_found < min(end, len(self._texts)):
            chunk = self._texts[self._n_found : self._n_found + CHUNK]
            self._found[self._n_found : self._n_found + len(chunk)] = self._encoder.encode(chunk)
            self._n_found += len(chunk)
        return self._found[:end]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a replay is run with.

    `serve_from` is the first position that may be answered locally; `is_patient` lets the pace wait while
    waiting pays (`guarantees/pace.py`), else the first attempt is made at `serve_from`. `audit_rate` is chosen by the
    certificate where it is None.
    """

    workshop: Workshop
    first_after: int = 300
    growth: float = 1.5
    serve_from: int = 1
    is_patient: bool = True
    audit_rate: float | None = None
    seed: int = 0


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What became of a task's rows, as arrays over them, and every verdict on the way.

    `ran` marks rows that a specialist looked at, `differs` those where its answer was not the
    reference's, `served` those it answered, `first` those of them that its first tier did, `audited` those whose coin
    fell, `naive` those that a threshold without a safety margin would have answered. `drifts` are the positions at
    which the coin was raised or lowered again since scores had drifted, and why.
    """

    task: Task
    rows: list[Row]
    mode: Mode = "observe"
    ran: NDArray[np.bool_]
    differs: NDArray[np.bool_]
    served: NDArray[np.bool_]
    first: NDArray[np.bool_]
    audited: NDArray[np.bool_]
    naive: NDArray[np.bool_]
    verdicts: list[tuple[int, Attempt]] = field(default_factory=list)
    adopted: list[tuple[int, Attempt]] = field(default_factory=list)
    drifts: list[tuple[int, str]] = field(default_factory=list)
    withdrawn_at: int | None = None

    @property
    def first_served_at(self) -> int | None:
        """Position of the first request answered locally."""
        hits = np.flatnonzero(self.served)
        return self.rows[hits[0]].position if len(hits) else None

    @property
    def verdict(self) -> Certificate | Refusal | None:
        """The certificate in force, else the refusal that came last; None before any, and after a withdrawal."""
        if self.mode == "serve":
            return self.adopted[-1][1].verdict
        last = self.verdicts[-1][1].verdict if self.verdicts else None
        return last if isinstance(last, Refusal) else None

    @property
    def why_observed(self) -> str:
        """Why a task without a verdict is observed."""
        if self.withdrawn_at is not None:
            return "no new attempt was due since its certificate was withdrawn"
        return self.task.shape.why_open or "it ended before a first attempt was due"


class _Decided(NamedTuple):
    """An answer with the scores of the tier that decided, whether it is served, and by the first tier; and whether the
    naive policy would serve it."""

    answer: tuple[str, ...]
    certainty: float
    scope: float
    is_local: bool
    is_first: bool
    is_naive: bool


@dataclass(slots=True, kw_only=True)
class _Serving:
    """A specialist at work, with what its tiers say to the rows of the chunk that starts at `start`."""

    specialist: Specialist
    policy: Policy
    certificate: Certificate
    shape: AnswerShape
    naive: Policy | None
    audit: Audit
    drift: Drift
    new: NewAnswers
    start: int = 0
    n_ahead: int = 0
    full: Predictions | None = None
    first: Predictions | None = None

    def holds(self, index: int) -> bool:
        """Whether the chunk holds the row."""
        return self.start <= index < self.start + self.n_ahead

    def look_ahead(self, index: int, texts: Sequence[str], embeddings: NDArray[np.float32]) -> None:
        """Predict the chunk that begins at a row; the first tier only where the policy has one."""
        self.start, self.n_ahead = index, len(texts)
        self.full = self.specialist.predict(texts, embeddings)
        self.first = self.specialist.predict_first(texts) if self.policy.gates.first is not None else None

    def decide(self, index: int) -> _Decided:
        """What became of a row of the chunk, by the policy."""
        at, full, first = index - self.start, self.full, self.first
        assert full is not None
        if first is not None:
            certainty, scope = float(first.certainty[at]), float(first.scope[at])
            if self.policy.accepts_first(certainty, scope):
                is_naive = self.naive is not None
                return _Decided(first.answers[at], certainty, scope, is_local=True, is_first=True, is_naive=is_naive)
        certainty, scope = float(full.certainty[at]), float(full.scope[at])
        is_local = self.policy.decide(certainty, scope) == "certified"
        is_naive = self.naive is not None and self.naive.decide(certainty, scope) == "certified"
        return _Decided(full.answers[at], certainty, scope, is_local=is_local, is_first=False, is_naive=is_naive)


class Timeline:
    """Replays one task. `embeddings` are those of all rows, in order."""

    def __init__(self, task: Task, rows: list[Row], embeddings: Embeddings, setup: Setup) -> None:
        n = len(rows)
        self._setup = setup
        self._embeddings = embeddings
        self._coins = np.random.default_rng(setup.seed).random(n)
        self._chance = random.Random(setup.seed).random
        self._known: list[tuple[int, Sampling, float]] = []
        self._serving: _Serving | None = None
        self._pace = Pace(first_after=setup.first_after, growth=setup.growth, is_patient=setup.is_patient)
        self._n_drawn = 0
        flags = [np.zeros(n, dtype=bool) for _ in range(6)]
        ran, differs, served, first, audited, naive = flags
        self.result = Replayed(
            task=task, rows=rows, ran=ran, differs=differs, served=served, first=first, audited=audited, naive=naive
        )

    def run(self, show: Callable[[int], None]) -> Replayed:
        """Every row in turn; `show` is told how many are done."""
        max_risk = self._setup.workshop.claim.max_risk
        for index, row in enumerate(self.result.rows):
            show(index + 1)
            may_act = row.position >= self._setup.serve_from
            n_new = self._serving.new.most if self._serving is not None else 0
            if may_act and self._pace.is_due(len(self._known), self._n_drawn, max_risk, n_new):
                self._learn(index)
            if self._serving is None:
                self._known.append((index, "observe", 1.0))
            else:
                self._decide(index, self._serving)
        self.result.mode = "observe" if self._serving is None else "serve"
        return self.result

    def _decide(self, index: int, serving: _Serving) -> None:
        result, probability = self.result, self._pace.coin(serving.drift.coin)
        coin = bool(self._coins[index] < probability)
        if not serving.holds(index):
            texts = [row.text for row in result.rows[index : index + CHUNK]]
            serving.look_ahead(index, texts, self._embeddings.upto(index + CHUNK)[index:])
        decided = serving.decide(index)
        local = decided.is_local
        reference = answers.parse(serving.shape, result.rows[index].answer)
        differs = reference != decided.answer
        result.ran[index], result.differs[index], result.served[index] = True, differs, local
        result.first[index], result.naive[index] = decided.is_first, decided.is_naive
        result.audited[index] = coin
        drift, position = serving.drift, result.rows[index].position
        if drift.observe(certainty=decided.certainty, scope=decided.scope, is_local=local):
            result.drifts.append((position, drift.message))
        if coin or not local:
            serving.new.see(reference)
        if coin:
            self._known.append((index, "audit", probability))
            self._n_drawn += 1
            counts = local or serving.certificate.claim.per == "traffic"
            by_field = answers.disagreements(decided.answer, reference)
            if serving.audit.observe(loss=float(differs), is_local=local, by_field=by_field):
                result.withdrawn_at = position
                self._serving = None
                self._pace.begin_again(len(self._known), result.rows[index].time_s)
            elif counts and drift.audited():
                result.drifts.append((position, drift.message))
        elif not local:
            self._known.append((index, "deferred", 1.0))

    def _learn(self, index: int) -> None:
        rows = self.result.rows
        known = [i for i, _, _ in self._known]
        shape = settle_shape([Given(text=rows[i].text, answer=rows[i].answer) for i in known])
        task = replace(self.result.task, shape=shape)
        current = self._serving
        serving = None if current is None else Serving(certificate=current.certificate, new=current.new)
        examples = self._examples(shape)
        embeddings = self._embeddings.upto(index)[known] if shape.is_closed else None
        tried = advance(self._setup.workshop, task, examples, self._pace, serving, embeddings)
        if tried is None:
            self._n_drawn = 0
            return
        self.result.task = task
        self.result.verdicts.append((rows[index].position, tried))
        certificate = tried.verdict
        if isinstance(certificate, Certificate) and replaces(certificate, serving, examples):
            self._adopt(index, tried, certificate, task.shape)

    def _examples(self, shape: AnswerShape) -> list[Example]:
        rows = self.result.rows
        return [
            Example(
                text=rows[i].text,
                answer=answers.parse(shape, rows[i].answer) if shape.is_closed else None,
                time_s=rows[i].time_s,
                sampling=sampling,
                probability=probability,
                request_id=str(rows[i].position),
            )
            for i, sampling, probability in self._known
        ]

    def _adopt(self, index: int, tried: Attempt, certificate: Certificate, shape: AnswerShape) -> None:
        assert tried.fitted is not None
        shape = answerable(shape, tried.fitted.classes)
        new = untaught(shape, self._examples(shape), tried.taught_until_s)
        self._pace.adopted(tried.taught_until_s, new.most)
        self.result.adopted.append((self.result.rows[index].position, tried))
        self._serving = _Serving(
            specialist=load(tried.fitted.folder, self._setup.workshop.encoder),
            policy=tried.policy,
            certificate=certificate,
            shape=shape,
            naive=naive_policy(certificate),
            audit=Audit.start(certificate),
            drift=Drift(certificate, self._setup.audit_rate, chance=self._chance),
            new=new,
            start=index,
        )


def naive_policy(certificate: Certificate) -> Policy | None:
    """The policy that the same rows, first tier and scope gate would give without a proof; None where there is none."""
    certainty = Attempt(verdict=certificate).naive_certainty
    if math.isinf(certainty):
        return None
    return policy_of(replace(certificate, min_certainty=certainty))
