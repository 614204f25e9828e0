"""Recomputes a certificate from the logged rows and the specialist folder, and lists every difference.

Nothing is taken from the certificate but the promise, the first tier's gates, the scope gate and the order in which
thresholds were tested (all fixed before the calibration rows were looked at, and covered by the certificate's id);
rows, predictions of both tiers, counts and bound are made anew. Rows are read by their request ids with the shape and
the template the specialist learnt with, so what the log or the task has become since changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pilotfish.core.certificate import Certificate
from pilotfish.core.errors import SpecialistError, TaskError
from pilotfish.core.example import UNBIASED, Example
from pilotfish.core.task import AnswerShape
from pilotfish.guarantees import drift, kept_curve
from pilotfish.guarantees.certify import first_tier, statistics
from pilotfish.guarantees.consistency import with_votes
from pilotfish.guarantees.known import example, repeated
from pilotfish.guarantees.prove import Design, by_field, most_errors, prove
from pilotfish.guarantees.split import data_sha256
from pilotfish.guarantees.tiers import Rows
from pilotfish.routing.policy import policy_of
from pilotfish.scoring.answers import disagreement, disagreements
from pilotfish.specialists.load import load
from pilotfish.specialists.specialist import Predictions, Specialist
from pilotfish.stats import sequence, spending, weighted
from pilotfish.stats.sequence import Curve
from pilotfish.store.home import Home
from pilotfish.tasks.recognise import Recogniser, task_id

if TYPE_CHECKING:
    from pilotfish.specialists.encoder import Encoder

# Bounds are exact to 1e-12; anything above is a different number.
_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field of the certificate that does not come out the same."""

    field: str
    stated: str
    found: str

    def __str__(self) -> str:
        return f"{self.field}: the certificate states {self.stated}, recomputed {self.found}"


class Recomputed(NamedTuple):
    """Every difference, and the calibration rows over the score of both tiers; None where they cannot be predicted."""

    differences: list[Difference]
    rows: Curve | None


def recompute(home: Home, certificate_id: str, encoder: Encoder | None) -> Recomputed:
    """A certificate of a home's registry, however old, recomputed from the home's log and specialist folder.

    A specialist that cannot be loaded is a difference, not an error. `TaskError` where there is no such certificate.
    """
    certificate = home.registry.certificate(certificate_id)
    record = home.registry.task(certificate.task_id) if certificate else None
    if certificate is None or record is None:
        raise TaskError(f"There is no certificate {certificate_id!r}.")
    found = _registered(home, certificate, certificate_id)
    try:
        specialist = load(home.specialists / certificate.artefact_sha256[:16], encoder)
    except SpecialistError as error:
        found.append(_differs("artefact_sha256", certificate.artefact_sha256, error.message))
        rows = logged(home, certificate, record.shape)
        return Recomputed(found + _of_rows(certificate, rows), None)
    again = examine(certificate, logged(home, certificate, specialist.card.shape), specialist)
    return again._replace(differences=found + again.differences)


def logged(home: Home, certificate: Certificate, shape: AnswerShape) -> list[Example]:
    """The calibration rows that the log still holds, in the certificate's order, read in `shape`."""
    recogniser = Recogniser([item for item in home.registry.templates() if task_id(item) == certificate.task_id])
    examples = []
    for request_id in certificate.details.get("request_ids", []):
        row = home.log.row(request_id)
        if row is None or row.input is None or row.reference_answer is None:
            continue
        found = recogniser.split(row.instructions_id, row.input)
        if found.task_id == certificate.task_id and found.text is not None:
            again = repeated(home.log, request_id)[request_id] if certificate.n_votes > 1 else []
            read = example(found.text, row.reference_answer, row, shape, again)
            examples.append(with_votes(read, certificate.n_votes))
    return examples


def verify(certificate: Certificate, examples: Sequence[Example], specialist: Specialist) -> list[Difference]:
    """Every difference; empty where the certificate holds as stated.

    `examples` are the task's rows from the log; those named in the certificate are looked up by request id.
    """
    return examine(certificate, examples, specialist).differences


def examine(certificate: Certificate, examples: Sequence[Example], specialist: Specialist) -> Recomputed:
    """The same, with the rows as they were recomputed."""
    rows = _named(certificate, examples)
    found = _of_rows(certificate, rows)
    if len(rows) != certificate.n:
        return Recomputed(found, None)
    texts = [row.text for row in rows]
    said = specialist.predict(texts)
    full = _said(said, rows)
    gates = policy_of(certificate).gates
    try:
        first = None if gates.first is None else _said(specialist.predict_first(texts), rows)
    except SpecialistError as error:
        return Recomputed([*found, _differs("first", "gates of a first tier", error.message)], None)
    order = certificate.details.get("order_of_tests", [])
    planned = Design(min_scope=certificate.min_scope, first=gates.first, order=order, expected_coverage=0.0)
    names = certificate.details.get("fields")
    counted = [(full, first)] if names is None else [(one, None) for one in _by_field(said, rows, full)]
    delta = spending.share(certificate.claim.delta, certificate.attempt)
    weights = weighted.weights([row.probability for row in rows])
    proven = prove(planned, counted, weights, certificate.claim, delta)
    curve, unequal, choice = most_errors(proven) if proven else (planned.curve(*counted[0]), None, None)
    served = curve.at([certificate.min_certainty])[0]
    again: dict[str, object] = {
        "artefact_sha256": specialist.sha256,
        "delta_spent": delta,
        "schedule": spending.SCHEDULE,
        "min_certainty": choice.threshold if choice else None,
        "bound": choice.bound if choice else None,
        "n_served": served.n_served,
        "errors": served.errors,
        "coverage": unequal.share(certificate.min_certainty) if unequal else served.n_served / len(rows),
    }
    if certificate.first is not None and first is not None and gates.first is not None:
        parts = first_tier(first, gates.first)
        again["first"] = replace(certificate.first, n_served=parts.n_served, errors=parts.errors)
    found += _compare(certificate, again)
    if names is not None and (proven is None or not _all_equal(names, by_field(proven, specialist.card.shape.names))):
        found.append(_differs("details.fields", "the errors and bound of each field", "others"))
    stated = certificate.details.get("baseline")
    if stated is not None and stated != drift.recounted(stated, statistics(full, first, gates.first)):
        found.append(_differs("details.baseline", "the scores drift is watched against", "others"))
    if not _keeps(certificate, curve):
        found.append(_differs("details.curve", "the curve of these rows", "another"))
    return Recomputed(found, curve)


def _keeps(certificate: Certificate, rows: Curve) -> bool:
    """Whether the curve it keeps is that of its rows; true of older ones, which keep none."""
    if "curve" not in certificate.details:
        return True
    naive = sequence.naive(rows, certificate.claim.max_risk, per_traffic=certificate.claim.per == "traffic")
    again: object = kept_curve.to_json(rows, certificate.min_certainty, naive)
    return bool(certificate.details["curve"] == again)


def _said(said: Predictions, rows: Sequence[Example]) -> Rows:
    losses = [disagreement(answer, row.answer) for answer, row in zip(said.answers, rows, strict=True)]
    return Rows(losses, said.certainty.tolist(), said.scope.tolist())


def _by_field(said: Predictions, rows: Sequence[Example], full: Rows) -> list[Rows]:
    """The rows with the losses of each field alone."""
    losses = [disagreements(answer, row.answer) for answer, row in zip(said.answers, rows, strict=True)]
    return [full._replace(losses=one) for one in zip(*losses, strict=True)]


def _all_equal(stated: Mapping[str, Mapping[str, float]], found: Mapping[str, Mapping[str, float]]) -> bool:
    return stated.keys() == found.keys() and all(
        _equal(stated[name][key], value) for name, one in found.items() for key, value in one.items()
    )


def _registered(home: Home, certificate: Certificate, certificate_id: str) -> list[Difference]:
    """What the registry says otherwise: the id is the fingerprint of the content, attempts are counted."""
    verdicts = home.registry.verdicts(certificate.task_id)
    spent = [verdict for verdict in verdicts[: verdicts.index(certificate)] if verdict.delta_spent > 0]
    found = []
    if certificate.id != certificate_id:
        found.append(_differs("id", certificate_id, f"{certificate.id} from its content"))
    if certificate.attempt != len(spent) + 1:
        found.append(_differs("attempt", certificate.attempt, f"{len(spent)} attempts before it"))
    return found


def _named(certificate: Certificate, examples: Sequence[Example]) -> list[Example]:
    """The rows the certificate names, each once, as far as they are known."""
    by_id = {row.request_id: row for row in examples}
    names = dict.fromkeys(certificate.details.get("request_ids", []))
    return [by_id[name] for name in names if name in by_id]


def _of_rows(certificate: Certificate, rows: Sequence[Example]) -> list[Difference]:
    """What differs about the calibration rows themselves."""
    names: list[str] = certificate.details.get("request_ids", [])
    missing = set(names) - {row.request_id for row in rows}
    if missing:
        first = min(missing)
        return [
            _differs("request_ids", f"{len(names)} rows", f"{len(missing)} of them missing in the log ({first}, …)")
        ]
    found = _compare(certificate, {"n": len(rows), "data_sha256": data_sha256(rows, certificate.n_votes)})
    short = [row.request_id for row in rows if not row.is_complete]
    if short:
        found.append(_differs("scorer", certificate.scorer, f"{len(short)} rows with fewer answers ({short[0]}, …)"))
    biased = [row.request_id for row in rows if row.sampling not in UNBIASED]
    if biased:
        found.append(_differs("sampling", "unbiased rows", f"{len(biased)} biased rows ({biased[0]}, …)"))
    return found


def _compare(certificate: Certificate, again: dict[str, object]) -> list[Difference]:
    stated = {name: getattr(certificate, name) for name in again}
    return [_differs(name, stated[name], found) for name, found in again.items() if not _equal(stated[name], found)]


def _equal(stated: object, found: object) -> bool:
    if isinstance(stated, float) and isinstance(found, int | float):
        return abs(stated - found) <= _TOLERANCE
    return stated == found


def _differs(field: str, stated: object, found: object) -> Difference:
    return Difference(field=field, stated=str(stated), found=str(found))
