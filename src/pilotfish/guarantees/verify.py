"""Recomputes a certificate from the logged rows and the specialist folder, and lists every difference.

Nothing is taken from the certificate but the promise and the order in which thresholds were tested (fixed
before the calibration rows were looked at); rows, predictions, counts and bound are made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.core.certificate import Certificate
from pilotfish.core.example import Example
from pilotfish.guarantees.certify import choose, gated, policy_of
from pilotfish.guarantees.split import data_sha256
from pilotfish.scoring.answers import disagreement
from pilotfish.specialists.specialist import Specialist
from pilotfish.stats import spending

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


def verify(certificate: Certificate, examples: Sequence[Example], specialist: Specialist) -> list[Difference]:
    """Every difference; empty where the certificate holds as stated.

    `examples` are the task's rows from the log; those named in the certificate are looked up by request id.
    """
    by_id = {row.request_id: row for row in examples}
    wanted: list[str] = certificate.details["request_ids"]
    missing = [name for name in wanted if name not in by_id]
    if missing:
        return [_differs("request_ids", len(wanted), f"{len(missing)} of them missing in the log ({missing[0]}, …)")]
    rows = [by_id[name] for name in wanted]
    found = check(certificate, rows, specialist)
    biased = [row.request_id for row in rows if not row.is_unbiased]
    if biased:
        found.append(_differs("sampling", "unbiased rows", f"{len(biased)} biased rows ({biased[0]}, …)"))
    return found


def check(certificate: Certificate, rows: Sequence[Example], specialist: Specialist) -> list[Difference]:
    """The same, on exactly the calibration rows, in order."""
    predicted = specialist.predict([row.text for row in rows])
    losses = [disagreement(said, row.answer) for said, row in zip(predicted.answers, rows, strict=True)]
    certainty, scope = predicted.certainty.tolist(), predicted.scope.tolist()
    found: dict[str, object] = {
        "n": len(rows),
        "data_sha256": data_sha256(rows),
        "artefact_sha256": specialist.sha256,
        "delta_spent": spending.share(certificate.claim.delta, certificate.attempt),
        "schedule": spending.SCHEDULE,
    }
    choice = choose(
        gated(certainty, scope, losses, certificate.min_scope),
        certificate.details["order_of_tests"],
        certificate.claim,
        spending.share(certificate.claim.delta, certificate.attempt),
    )
    found["min_certainty"] = choice.threshold if choice else None
    found["bound"] = choice.bound if choice else None
    policy = policy_of(certificate)
    served = [policy.decide(c, s) == "certified" for c, s in zip(certainty, scope, strict=True)]
    found["n_served"] = sum(served)
    found["errors"] = sum(loss for loss, is_served in zip(losses, served, strict=True) if is_served)
    found["coverage"] = sum(served) / len(rows)
    return [
        _differs(name, stated, value)
        for name, value in found.items()
        if not _equal(stated := getattr(certificate, name), value)
    ]


def _equal(stated: object, found: object) -> bool:
    if isinstance(stated, float) and isinstance(found, int | float):
        return abs(stated - found) <= _TOLERANCE
    return stated == found


def _differs(field: str, stated: object, found: object) -> Difference:
    return Difference(field=field, stated=str(stated), found=str(found))
