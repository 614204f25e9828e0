"""Certificates and refusals: what is promised, with everything needed to check it.

These are nouns: how a certificate is earned stands in `guarantees/`, the arithmetic in `stats/`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from pilotfish.core.ids import fingerprint

RiskKind = Literal["answer", "field", "traffic", "loss"]
"""`answer`: expected disagreement among the requests answered locally. `field`: the same of each field of the answer,
counted alone, and each within the promise. `traffic`: the share of all
requests of the task that are answered locally and differently. `loss`: the reference's score less that of the answer
given, on average over all requests that a route decides on; in [-1, 1], negative where the route is better."""

RISK_KINDS: tuple[RiskKind, ...] = ("answer", "field", "traffic")
"""The kinds of promises about specialists, which agree with the reference or not. A route's is always `loss`."""

WHOLE_KINDS: tuple[RiskKind, ...] = ("answer", "traffic")
"""Those about whole answers, which are all there are where an answer has one field."""

_MAJORITY = "with the majority of three answers of the reference"

SCORERS = {
    1: "exact equality of all fields",
    3: f"exact equality of all fields {_MAJORITY} (none agrees without one)",
}
"""How answers are compared, by how many answers of the reference make the one that counts."""


FIELD_SCORERS = {
    1: "exact equality of each field, counted alone",
    3: f"exact equality of each field, counted alone, {_MAJORITY} (none agrees without one)",
}
"""The same of promises per field."""


def text_scorers(min_overlap: float) -> dict[int, str]:
    """The same of retrieved answers, which agree that overlap in words by so much."""
    like = "equality of the whole text"
    if min_overlap < 1.0:
        like = f"word overlap (ROUGE-L F) of at least {min_overlap:g}, with equal figures"
    return {
        1: f"{like}; spaces, case and punctuation do not count",
        3: f"{like}, {_MAJORITY} (none agrees without one); spaces, case and punctuation do not count",
    }


ASSUMPTIONS = (
    "Tomorrow's requests of this task are exchangeable with the calibration rows (audits watch this).",
    "The reference's answer sets the standard; the promise is agreement with it, not truth.",
    "The calibration rows were not used to fit the specialist and were chosen without regard to their content.",
)

LOSS_ASSUMPTIONS = (
    "Tomorrow's requests of this workload are exchangeable with the calibration outcomes (audits watch this).",
    "The scores say how good an answer is; the promise is about them.",
    "The calibration outcomes did not teach the route, and were drawn with the probabilities that they state.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The promise a user asks for: risk of `per` at most `max_risk`, with `confidence`."""

    max_risk: float
    confidence: float = 0.95
    per: RiskKind = "answer"

    @property
    def delta(self) -> float:
        """The tolerated probability that the promise is false, 1 - confidence."""
        return 1.0 - self.confidence

    @property
    def is_of_served(self) -> bool:
        """Whether the risk is counted among the requests answered locally, rather than among all."""
        return self.per in ("answer", "field")

    def covers(self, wanted: Claim) -> bool:
        """Whether this promise is at least as strict as the one that is wanted."""
        return self.per == wanted.per and self.max_risk <= wanted.max_risk and self.confidence >= wanted.confidence


FULL_TIER_NEVER = 2.0
"""As `min_certainty`: no answer of the full mixture is served, whose certainty is a probability. Finite, for JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTier:
    """The n-grams that answer before the text is encoded, where both of their own scores reach these thresholds.

    `n_served` and `errors` are their part of the certificate's. `max_share` of the tolerated risk is what their answers
    were allowed to use up on the out-of-fold rows that the thresholds were chosen on. The promise is
    about both tiers together.
    """

    min_certainty: float
    min_scope: float
    n_served: int
    errors: float
    max_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """`risk <= claim.max_risk` with probability at least 1 - `delta_spent` for this attempt.

    `bound` is the upper confidence bound of the risk at the chosen thresholds, at level
    1 - `delta_spent`. A request is answered locally when scope >= `min_scope` and
    certainty >= `min_certainty`. `coverage` is the share of the `n` calibration rows that pass;
    `n_served` their number and `errors` those among them that differ from the reference.
    With a `first` tier, what it accepts is answered locally whatever the scores of the full mixture, and counts in
    all of these.
    """

    task_id: str
    task_name: str
    claim: Claim
    bound: float
    min_certainty: float
    min_scope: float
    coverage: float
    n: int
    n_served: int
    errors: float
    attempt: int
    delta_spent: float
    schedule: str
    start_certainty: float
    procedure: str
    split_rule: str
    scorer: str
    data_sha256: str
    artefact_sha256: str
    created_at: str
    assumptions: tuple[str, ...] = ASSUMPTIONS
    details: dict[str, Any] = field(default_factory=dict)
    first: FirstTier | None = None

    @property
    def id(self) -> str:
        """The certificate's name: 16 hexadecimal digits over its content."""
        return fingerprint(json.dumps(self.to_json(with_id=False), sort_keys=True))

    @property
    def n_votes(self) -> int:
        """How many answers of the reference make the one that counts: 3 where it is their majority, else 1."""
        return 3 if _MAJORITY in self.scorer else 1

    def keeps(self, wanted: Claim, n_votes: int) -> bool:
        """Whether it may serve where `wanted` is asked for, with promises about `n_votes` answers.

        A promise about a majority serves only while majorities are asked for: its audits need three calls each.
        """
        return self.claim.covers(wanted) and self.n_votes <= n_votes

    def to_json(self, *, with_id: bool = True) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        row = dataclasses.asdict(self)
        row["assumptions"] = list(self.assumptions)
        if self.first is None:
            # A certificate of a single tier keeps the content, and so the id, that it had before there were two.
            del row["first"]
        if with_id:
            row = {"format": 1, "id": self.id, **row}
        return row

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Certificate:
        """The certificate that `to_json` wrote."""
        known = {item.name for item in dataclasses.fields(cls)}
        values = {key: value for key, value in row.items() if key in known}
        values["claim"] = Claim(**values["claim"])
        values["assumptions"] = tuple(values["assumptions"])
        if values.get("first") is not None:
            values["first"] = FirstTier(**values["first"])
        return cls(**values)


Shortage = Literal["examples", "agreement", "consistency", "closed answers", "variety"]
"""What a refusal is short of: more examples; agreement of the specialist with the reference; the
reference's agreement with itself; answers that form a closed set; more than one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The honest "not yet": what is short, in numbers. A value, not an error.

    `examples_short` is how many more answers are needed at the agreement seen, None where no number
    would do. `passing_risk` is the smallest max_risk that would be certified today with at least a
    tenth of the traffic served, None where none below 0.5 would.
    """

    task_id: str
    task_name: str
    claim: Claim
    short_of: Shortage
    message: str
    n: int = 0
    examples_short: int | None = None
    passing_risk: float | None = None
    attempt: int = 0
    delta_spent: float = 0.0
    created_at: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        return {"format": 1, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Refusal:
        """The refusal that `to_json` wrote."""
        known = {item.name for item in dataclasses.fields(cls)}
        values = {key: value for key, value in row.items() if key in known}
        values["claim"] = Claim(**values["claim"])
        return cls(**values)
