"""The reference's own consistency: how often it differs from itself, and which promises that rules out.

Nobody can agree with a reference more often than its likeliest answer comes up. What it said to identical requests
shows how often that can be at most, so a promise that asks for more is refused before anything is spent. It counts
answers that are known; who asks for more of them, and what that may cost, is the gateway's business.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from pilotfish.core.example import UNBIASED, Example
from pilotfish.scoring.answers import disagreement, majority
from pilotfish.stats import binomial

CONFIDENCE = 0.95
"""Of the interval that is shown, and of the lower bound that refuses: one in twenty refusals may be wrong, which costs
coverage and never a promise."""

WHAT_HELPS = {
    1: "A larger max_risk, a lower temperature, or `[consistency] answers = 3` would help",
    3: "A larger max_risk or a lower temperature would help",
}


class Repeated(NamedTuple):
    """How many requests the reference was asked twice, and in how many of them its two answers differed."""

    differed: int
    asked: int

    @property
    def share(self) -> float | None:
        """The share that differed, None where nothing was asked twice."""
        return self.differed / self.asked if self.asked else None

    @property
    def low(self) -> float:
        """The one-sided exact lower bound of the true share; 0 where nothing was asked twice."""
        return binomial.lower(self.differed, self.asked, 1.0 - CONFIDENCE) if self.asked else 0.0

    def __str__(self) -> str:
        if not self.asked:
            return "the large model was never asked the same twice"
        low, high = binomial.clopper_pearson(self.differed, self.asked, CONFIDENCE)
        return (
            f"the large model differs from itself in {100 * self.differed / self.asked:.1f} % "
            f"({100 * low:.1f} to {100 * high:.1f}) of {self.asked:,} requests asked twice"
        )

    def to_json(self) -> dict[str, Any]:
        """Counts, share and exact 95 % interval; these are None where nothing was asked twice."""
        low, high = binomial.clopper_pearson(self.differed, self.asked, CONFIDENCE) if self.asked else (None, None)
        return {"asked_twice": self.asked, "differed": self.differed, "share": self.share, "low": low, "high": high}


def from_json(row: dict[str, Any] | None) -> Repeated | None:
    """What `to_json` wrote; None for the certificates from before it did."""
    return None if row is None else Repeated(row["differed"], row["asked_twice"])


def asked_again(examples: Sequence[Example]) -> Repeated:
    """What unbiased requests show of the reference's self-disagreement, under the task's scorer.

    Each counts once at most: with its own second answer where it was asked the same again on purpose, else with the
    answer before to an identical text, where there was one.
    """
    last: dict[str, tuple[str, ...] | None] = {}
    differed = asked = 0
    for row in sorted(examples, key=lambda row: row.time_s):
        if row.sampling not in UNBIASED:
            continue
        first = row.said[0] if row.said else row.answer
        if len(row.said) > 1 or row.text in last:
            other = row.said[1] if len(row.said) > 1 else last[row.text]
            asked += 1
            differed += disagreement(first, other) > 0.0
        last[row.text] = first
    return Repeated(differed, asked)


def least_disagreement(self_disagreement: float, n_votes: int = 1) -> float:
    """The least that anybody can disagree with a reference that differs from itself so often.

    With answer probabilities p the self-disagreement is 1 - sum p^2 >= 1 - (max p)^2, so the likeliest answer has
    a share of at most m = sqrt(1 - self-disagreement), and as the majority of three in at most 3 m^2 - 2 m^3. What is
    left is convex in the self-disagreement, so by Jensen's inequality this holds for means over requests, too.
    """
    likeliest = math.sqrt(1.0 - self_disagreement)
    return 1.0 - (likeliest if n_votes == 1 else likeliest**2 * (3.0 - 2.0 * likeliest))


def why_impossible(
    every: Repeated, surest: Repeated | None, *, max_risk: float, served: float, n_votes: int
) -> str | None:
    """Why the reference's own inconsistency rules the claim out, None where it does not.

    `surest` are those of the repeats that any certificate of this student would serve, at least the share `served` of
    what the risk is counted on: even there the least possible disagreement lies above what is tolerated. None says
    that the student lets expect no certificate at all: then a reference that differs from itself more often than is
    tolerated is the reason (`every`).
    """
    if surest is None:
        floor, seen = standard_floor(every, n_votes), every
    else:
        floor, seen = served * least_disagreement(surest.low, n_votes), surest
    return None if floor <= max_risk else why(seen, n_votes, is_surest=surest is not None)


def standard_floor(seen: Repeated, n_votes: int) -> float:
    """How often the standard differs from itself at least: the reference's answer, or its majority of three."""
    return seen.low if n_votes == 1 else least_disagreement(seen.low, n_votes)


def why(seen: Repeated, n_votes: int, *, is_surest: bool = False) -> str:
    """The numbers behind a refusal for want of consistency, and what would help."""
    where, of = ("among those that the specialist is surest of, ", "of these") if is_surest else ("", "of all")
    standard = "" if n_votes == 1 else " with the majority of three answers"
    return (
        f"{where}the large model differed from itself in {seen.differed:,} of {seen.asked:,} requests it was asked "
        f"twice, so in at least {100 * seen.low:.2g} % {of}, and nobody can differ from it{standard} in less than "
        f"{100 * least_disagreement(seen.low, n_votes):.2g} %. {WHAT_HELPS[n_votes]}"
    )


def with_votes(row: Example, n_votes: int) -> Example:
    """The row with the majority of its first `n_votes` answers as its answer; as it is where one answer counts.

    A row with fewer answers keeps its first: it may teach and is no evidence.
    """
    if n_votes == 1:
        return row
    is_complete = len(row.said) >= n_votes
    answer = majority(row.said[:n_votes]) if is_complete else row.answer
    return dataclasses.replace(row, answer=answer, is_complete=is_complete)
