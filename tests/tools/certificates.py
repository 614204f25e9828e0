"""Certificates and refusals written by hand, for tests of what is done with them."""

from __future__ import annotations

from typing import Any

from pilotfish.core.certificate import Certificate, Claim, Refusal


def certificate(**fields: Any) -> Certificate:
    """A certificate that is valid in form only; its naive threshold lies below its own."""
    values: dict[str, Any] = {
        "task_id": "t", "task_name": "colours", "claim": Claim(max_risk=0.05), "bound": 0.0499, "min_certainty": 0.7,
        "min_scope": 0.1, "coverage": 0.8, "n": 500, "n_served": 400, "errors": 3.0, "attempt": 1,
        "delta_spent": 0.03, "schedule": "s", "start_certainty": 0.9, "procedure": "p", "split_rule": "r",
        "scorer": "exact", "data_sha256": "d", "artefact_sha256": "a", "created_at": "2026-11-22T00:00:00Z",
        "details": {"naive": {"min_certainty": 0.5, "n_served": 450, "errors": 20.0}},
    }  # fmt: skip
    return Certificate(**(values | fields))


def refusal(**fields: Any) -> Refusal:
    """A refusal for want of examples."""
    values: dict[str, Any] = {
        "task_id": "t", "task_name": "colours", "claim": Claim(max_risk=0.05), "short_of": "examples",
        "message": "Cannot promise it: 412 more are needed.", "examples_short": 412,
    }  # fmt: skip
    return Refusal(**(values | fields))
