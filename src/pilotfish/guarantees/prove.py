"""A test whose design is fixed, run on calibration rows: the threshold that it proves.

Of the whole answer, or of each of its fields. It knows rows, not where they come from, and says neither what becomes of
the outcome (`certify.py`) nor whether it was stated rightly (`verify.py`), which both run this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pilotfish.core.certificate import Claim
from pilotfish.guarantees import tiers
from pilotfish.guarantees.tiers import Rows, joint
from pilotfish.routing.policy import Gates
from pilotfish.stats import sequence, weighted


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Everything that is fixed before the calibration rows are looked at.

    `first` are the first tier's gates, None for a single tier; `order` the thresholds to test, where the test needs
    them; `expected_coverage` what the test is expected to let serve.
    """

    min_scope: float
    first: Gates | None
    order: list[float]
    expected_coverage: float

    def curve(self, full: Rows, first: Rows | None) -> sequence.Curve:
        """Rows as the test sees them: over the score of both tiers together."""
        return joint(full, self.min_scope, first, self.first)

    def drawn(self, full: Rows, first: Rows | None, weights: Sequence[float]) -> weighted.Drawn | None:
        """The same with their weights, None where there are none: then counting is exact."""
        if not weights:
            return None
        return weighted.Drawn(*tiers.scored(full, self.min_scope, first, self.first), weights)


class Proven(NamedTuple):
    """What a test found of the whole answer, or of one field: the rows, those that carry weights, and the threshold."""

    rows: sequence.Curve
    unequal: weighted.Drawn | None
    choice: sequence.Choice


def prove(
    planned: Design, counted: Sequence[tuple[Rows, Rows | None]], weights: Sequence[float], claim: Claim, delta: float
) -> list[Proven] | None:
    """What the design proves of each thing that a claim counts, given both tiers' rows of it: the lowest threshold of
    the order at which all of them pass, None where there is none.

    A test stops where the first of them fails, each at the full delta: that all keep the risk is claimed wrongly only
    where one does not, and its own test must then have passed (Berger, Technometrics 24, 1982).
    """
    curves = [(planned.curve(*tiers_rows), planned.drawn(*tiers_rows, weights)) for tiers_rows in counted]
    order, found = planned.order, [choose(*pair, planned.order, claim, delta) for pair in curves]
    if len(found) > 1 and None not in found:
        order = order[: 1 + min(order.index(choice.threshold) for choice in found if choice)]
        found = [choose(*pair, order, claim, delta) for pair in curves]
    proven = [Proven(*pair, choice) for pair, choice in zip(curves, found, strict=True) if choice]
    return proven if len(proven) == len(curves) else None


def most_errors(found: Sequence[Proven]) -> Proven:
    """The one of them that a certificate tells of: that with the highest bound."""
    return max(found, key=lambda one: (one.choice.bound, one.choice.errors))


def by_field(found: Sequence[Proven], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """The errors and the bound of each field."""
    return {
        name: {"errors": one.choice.errors, "bound": one.choice.bound} for name, one in zip(names, found, strict=True)
    }


def choose(
    rows: sequence.Curve, unequal: weighted.Drawn | None, order: Sequence[float], claim: Claim, delta: float
) -> sequence.Choice | None:
    """The proven threshold for `claim` at level 1 - `delta`, or None; `unequal` are the rows that carry weights."""
    if unequal is not None:
        return weighted.choose(unequal, order, claim.max_risk, delta, per_traffic=claim.per == "traffic")
    if claim.per == "traffic":
        return sequence.per_traffic(rows, claim.max_risk, delta)
    return sequence.per_answer(rows, order, claim.max_risk, delta)
