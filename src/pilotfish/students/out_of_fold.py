"""Scores out of fold: what students say of examples that they did not learn from."""

from __future__ import annotations

from dataclasses import dataclass

from pilotfish.specialists.specialist import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfFold:
    """Scores of the examples by students that did not learn from them, for the start of a certificate's test.

    One entry per example, repeated texts included, in the order given (the latest that teach; of a student that is
    learnt once, the latest, which were held out). They are no evidence for a certificate: the specialist that serves
    has learnt from these examples, or was chosen by them. `answers` are what these students said, `by_field` the
    disagreement of each field [examples, fields], None where there is one field. `first` are the same examples by the
    first tier, the n-grams alone; None where there is no other.
    """

    certainty: Floats
    scope: Floats
    disagreement: Floats
    answers: tuple[tuple[str, ...], ...]
    by_field: Floats | None = None
    first: OutOfFold | None = None
