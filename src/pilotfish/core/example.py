"""Examples: one input of a task and what the reference answered to it.

They carry how they were sampled, because only rows that were chosen without regard to their content may certify. Where
they come from (the log, a traffic file) is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sampling = Literal["observe", "audit", "deferred", "given", "local", "none"]
"""Why the reference's answer is known: `observe` (it answered everything), `audit` (a coin with a
known probability chose the request before anything else was decided), `deferred` (the specialist
passed it on: a biased sample), `given` (not the reference's: the user gave it in a file), `local`
(it was not asked), `none` (no task)."""

UNBIASED: frozenset[Sampling] = frozenset(("observe", "audit"))
"""The samplings that may certify. Deferred and given rows may teach, never certify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One input with the reference's answer.

    `answer` is a tuple of canonical values, one per field of the task's shape, or None where the
    reference's answer does not fit the shape (then no local answer can agree with it).
    `probability` is the known chance with which the row was chosen (1 while observing).
    `said` is what the reference answered each time, in order, where it was asked the same again without regard to
    content. Where the majority of several answers is the standard, `answer` is that majority (None without one), and
    a row with fewer answers is not `is_complete`: it teaches with its first, and is no evidence.
    """

    text: str
    answer: tuple[str, ...] | None
    time_s: float
    sampling: Sampling = "observe"
    probability: float = 1.0
    request_id: str = ""
    said: tuple[tuple[str, ...] | None, ...] = ()
    is_complete: bool = True

    @property
    def is_unbiased(self) -> bool:
        """Whether the row may be used as evidence for a certificate."""
        return self.is_complete and self.sampling in UNBIASED
