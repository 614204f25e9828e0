"""One attempt at a route: learn from some outcomes, certify on the others with the very object that would decide.

Which outcomes teach is told by a hash of their ids, so that the same ones teach however a file is ordered. Each model
before the reference becomes a step; one whose gain nothing foretells decides by nothing, which can still be proven
where the model is as good as the reference. A refused route keeps nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.errors import DataError
from pilotfish.core.ids import fingerprint
from pilotfish.core.outcome import Outcome
from pilotfish.evals.outcomes import outcomes_sha256
from pilotfish.guarantees.loss import Workload, certify_loss, threshold_of
from pilotfish.routing.gain import Gain, Heads
from pilotfish.routing.latency import late
from pilotfish.routing.learn import ENCODER_FROM, Learnt, Material, Progress
from pilotfish.routing.prefix import learn_reading
from pilotfish.routing.reader import Frozen
from pilotfish.routing.replay import Trail, recorded, trail
from pilotfish.routing.route import Cost, Route, Step
from pilotfish.routing.signals import SAMPLED, VERIFIER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pilotfish.routing.reader import Reader
    from pilotfish.specialists.encoder import Encoder
    from pilotfish.students.recipe import Tuning

FIT_SHARE = 0.4
MOST_FIT = 3000
"""More outcomes than this teach next to nothing (measured), and prove something."""

SPLIT_RULE = "the outcomes whose hashed ids are least teach (40 %, at most 3,000), the others calibrate"

Embed = Callable[[Sequence[str]], "NDArray[np.float32]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An encoder for prompts, by what it does and by its hash."""

    embed: Embed
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to attempt: a route through `models`, the smallest first and the reference last, that keeps `claim`.

    `number` counts every attempt ever made for this workload, whose `name` tells it from others. `prefix` is how many
    tokens of an answer decide, 0 for all of them, None for what the outcomes say.
    """

    models: tuple[str, ...]
    claim: Claim
    number: int = 1
    name: str = ""
    prefix: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuning:
    """An encoder of the route's own, learnt from the outcomes: from `encoder`, made of the same weights as `tuning`
    starts from. What is done stays in `folder`, which is the caller's to remove."""

    encoder: Encoder
    tuning: Tuning
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAttempt:
    """What came of it. `learnt` has one entry a model before the reference; `taught` are the outcomes that taught,
    `calibration` those that proved; `encoder` the files of an encoder of the route's own, empty where it has none."""

    route: Route
    verdict: Certificate | Refusal
    learnt: tuple[Learnt, ...]
    taught: tuple[Outcome, ...]
    calibration: tuple[Outcome, ...]
    encoder: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def is_routed(self) -> bool:
        """Whether anything may be kept from the reference."""
        return self.route.threshold is not None


def split(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Those that teach, and those that calibrate."""
    ranked = sorted(outcomes, key=lambda outcome: hashlib.sha256(outcome.request_id.encode()).digest())
    n = min(MOST_FIT, round(FIT_SHARE * len(ranked)))
    return ranked[:n], ranked[n:]


def in_all(n_proving: int) -> int:
    """How many outcomes there must be for so many to prove."""
    return min(math.ceil(n_proving / (1.0 - FIT_SHARE)), n_proving + MOST_FIT)


def attempt_route(
    outcomes: Sequence[Outcome],
    wanted: Wanted,
    *,
    encoder: Encoded | Finetuning | None = None,
    progress: Progress | None = None,
) -> RouteAttempt:
    """The wanted route, certified or refused.

    Outcomes that lack one of the models are left out, and of the proof, where the route reads a verifier, those that
    another one has verified. An `encoder` reads the prompts where there are enough outcomes for that, as it is or after
    it has learnt from them. Raises `DataError` where fewer than two are left to learn from.
    """
    models = wanted.models
    usable = [outcome for outcome in outcomes if all(model in outcome.tried for model in models)]
    taught, rows = split(usable)
    if len(taught) < 2 or not rows:
        raise DataError(
            f"{len(usable):,} outcomes have answers of all of {', '.join(models)}; that is too few to learn."
        )
    fit = of_one_verifier(taught, models[:-1])
    reader = _reader(fit, models, encoder, progress)
    found = [
        learn_reading(
            Material(outcomes=fit, smaller=model, larger=models[-1], reader=reader), wanted.prefix, progress=progress
        )
        for model in models[:-1]
    ]
    learnt = [one for _, one in found]
    route = _route(fit, models, found)
    rows = [row for row in rows if route.suits(row)]
    if not rows:
        raise DataError("Of the outcomes that are to prove the route another verifier has verified all.")
    workload = Workload(
        id=fingerprint("route", wanted.name, *models),
        name=wanted.name or " > ".join(models),
        attempt=wanted.number,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        split_rule=SPLIT_RULE,
        scorer="recorded scores",
        data_sha256=outcomes_sha256(rows),
        route_id=route.id,
        request_ids=tuple(row.request_id for row in rows),
    )
    embeddings, encoded, files = None, None, {}
    if reader is not None and any(step.gain.heads is not None for step in route.steps):
        embeddings = reader.embeddings
        if isinstance(reader, Tuned):
            encoded, files = reader.encoded, dict(reader.files)
        elif isinstance(encoder, Encoded):
            encoded = encoder
    fold = fold_trails(route, fit, learnt, embeddings)
    verdict = certify_loss(fold, trails(route, rows, encoded), wanted.claim, workload)
    if isinstance(verdict, Certificate):
        route = replace(route, threshold=threshold_of(verdict))
    return RouteAttempt(
        route=route,
        verdict=verdict,
        learnt=tuple(learnt),
        taught=tuple(taught),
        calibration=tuple(rows),
        encoder=files,
    )


class Tuned:
    """A `Reader` whose encoder learns from the outcomes itself."""

    n_folds = 2

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        models: Sequence[str],
        finetuning: Finetuning,
        progress: Progress | None = None,
    ) -> None:
        """Raises `MissingExtraError` without torch."""
        # torch is loaded only where something is to be trained.
        from pilotfish.students.outcome_reader import OutcomeReader  # noqa: PLC0415

        self._models = list(models)
        self._own = OutcomeReader(
            [outcome.prompt for outcome in outcomes],
            [[outcome.tried[name].score for name in models] for outcome in outcomes],
            finetuning.encoder,
            finetuning.tuning,
            finetuning.folder,
            progress,
        )

    @property
    def encoded(self) -> Encoded:
        """The encoder that all outcomes taught."""
        return Encoded(embed=self._own.encoder.encode, sha256=self._own.encoder.sha256)

    @property
    def files(self) -> Mapping[str, bytes]:
        """Those of that encoder, by name."""
        return self._own.files

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """As `Reader` says."""
        return self._own.whole.embeddings

    def heads(self, rows: NDArray[np.intp], smaller: str, larger: str) -> tuple[Heads, NDArray[np.float32]]:
        """As `Reader` says."""
        read = self._own.read(rows)
        high, low = self._models.index(larger), self._models.index(smaller)
        heads = Heads(
            encoder_sha256=read.encoder_sha256,
            larger=tuple(read.heads[high].tolist()),
            smaller=tuple(read.heads[low].tolist()),
            biases=(float(read.biases[high]), float(read.biases[low])),
        )
        return heads, read.embeddings


def _reader(
    fit: Sequence[Outcome], models: Sequence[str], encoder: Encoded | Finetuning | None, progress: Progress | None
) -> Reader | None:
    if encoder is None or len(fit) < ENCODER_FROM:
        return None
    if isinstance(encoder, Finetuning):
        return Tuned(fit, models, encoder, progress)
    return Frozen(fit, encoder.embed([outcome.prompt for outcome in fit]), encoder.sha256)


def trails(route: Route, outcomes: Sequence[Outcome], encoded: Encoded | None = None) -> list[Trail]:
    """What the route says of each outcome. Embeds the prompts one by one where it reads embeddings, as live.

    Raises `DataError` where the route needs an encoder that is not given, or outcomes lack one of its models.
    """
    needed = route.encoder_sha256
    if needed and (encoded is None or needed != encoded.sha256):
        raise DataError(
            "The route reads embeddings of another encoder.",
            hint="Name the one it learnt with: --encoder; one of its own lies in a folder beside the route.",
        )
    names = set(route.models)
    missing = sorted({name for outcome in outcomes for name in names - outcome.tried.keys()})
    if missing:
        raise DataError(f"Some outcomes have no answer of {', '.join(missing)}, which the route asks.")
    embeddings = encoded.embed([outcome.prompt for outcome in outcomes]) if needed and encoded is not None else None
    return _trails(route, outcomes, embeddings)


def _route(fit: Sequence[Outcome], models: Sequence[str], learnt: Sequence[tuple[int, Learnt]]) -> Route:
    steps = []
    for place, (model, (prefix, found)) in enumerate(zip(models, learnt, strict=False)):
        gain = found.gain
        if gain is None:
            gains = [outcome.tried[models[-1]].score - outcome.tried[model].score for outcome in fit]
            gain = Gain(intercept=fmean(gains))
        steps.append(
            Step(
                model=model,
                gain=gain,
                reads_answer=bool(gain.signals),
                prefix=prefix if gain.signals else 0,
                samples=_samples(fit, model) if SAMPLED.intersection(gain.signals) else 0,
                verifier=_verifier(fit, model) if VERIFIER in gain.signals else "",
                cost=_cost(fit, model),
                further=_cost(fit, models[place + 1]),
            )
        )
    known = [usd for outcome in fit if (usd := steps[0].further.of(outcome.prompt)) is not None]
    return Route(
        steps=tuple(steps),
        reference=models[-1],
        unit_usd=fmean(known) if known and fmean(known) > 0.0 else None,
        learnt={"outcomes": len(fit), "kinds": [found.kind if found.gain else "" for _, found in learnt]},
    )


def _samples(outcomes: Sequence[Outcome], model: str) -> int:
    """As many further samples as most of the model's answers have."""
    counts = Counter(len(samples) for outcome in outcomes if (samples := outcome.tried[model].samples))
    return counts.most_common(1)[0][0]


def _verifier(outcomes: Sequence[Outcome], model: str) -> str:
    """Who has verified most of the model's answers, of those that name it; empty where none does."""
    counts = Counter(name for outcome in outcomes if (name := outcome.tried[model].verified_by))
    return counts.most_common(1)[0][0] if counts else ""


def of_one_verifier(outcomes: Sequence[Outcome], models: Sequence[str]) -> list[Outcome]:
    """The same without what others say of these models' answers than the verifier of most: a signal is one model's
    word, or none."""
    found = list(outcomes)
    for model in models:
        name = _verifier(found, model)
        for i, outcome in enumerate(found):
            tried = outcome.tried[model]
            if tried.verified_by not in ("", name):
                own = replace(tried, verifier=None, verified_by="")
                found[i] = replace(outcome, tried={**outcome.tried, model: own})
    return found


def _cost(outcomes: Sequence[Outcome], model: str) -> Cost:
    """What the model's answers cost here: a straight line over the prompt's length, where that falls nowhere to
    nothing."""
    tried = [(len(outcome.prompt), outcome.tried[model]) for outcome in outcomes]
    times = [one.latency_s for _, one in tried if one.latency_s is not None]
    latency_s = late(times)
    known = [(length, one.cost_usd) for length, one in tried if one.cost_usd is not None]
    if len(known) < len(tried):
        return Cost(latency_s=latency_s)
    middle, mean = fmean(length for length, _ in known), fmean(usd for _, usd in known)
    spread = math.fsum((length - middle) ** 2 for length, _ in known)
    slope = math.fsum((length - middle) * (usd - mean) for length, usd in known) / spread if spread else 0.0
    slope = min(max(slope, 0.0), mean / middle if middle else 0.0)
    return Cost(usd=mean - slope * middle, usd_per_character=slope, latency_s=latency_s)


def fold_trails(
    route: Route, fit: Sequence[Outcome], learnt: Sequence[Learnt], embeddings: NDArray[np.floating[Any]] | None = None
) -> list[Trail]:
    """The outcomes that taught, ordered by their needs out of fold, on the scale of the needs that the route says.

    Each fold's gain has a scale of its own, and a threshold must mean the same share for the one that serves.
    """
    found = _trails(route, fit, embeddings)
    columns = []
    for place, one in enumerate(learnt):
        said = sorted(row.needs[place] for row in found)
        if one.gain is None:
            columns.append(said)
            continue
        outside = [route.per_cost(place, need, row.prompt) for need, row in zip(one.needs, fit, strict=True)]
        column = [0.0] * len(said)
        for rank, i in enumerate(sorted(range(len(outside)), key=outside.__getitem__)):
            column[i] = said[rank]
        columns.append(column)
    return [recorded(route, row, needs) for row, needs in zip(fit, zip(*columns, strict=True), strict=True)]


def _trails(route: Route, outcomes: Sequence[Outcome], embeddings: NDArray[np.floating[Any]] | None) -> list[Trail]:
    vectors: Sequence[Sequence[float] | None] = [None] * len(outcomes) if embeddings is None else embeddings.tolist()
    return [trail(route, outcome, vector) for outcome, vector in zip(outcomes, vectors, strict=True)]
