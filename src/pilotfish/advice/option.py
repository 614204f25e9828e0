"""What can be chosen between, and what is known of each: a measurement and an estimate never stand in one place.

An option is a way to answer all requests: one model, a specialist with the large model behind it, a cascade. It says
what it is and what it costs, not whether it is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pilotfish.core.measured import Measured

Shape = Literal["large only", "small only", "specialist only", "specialist + large", "cascade"]
Where = Literal["own", "remote", "unknown"]
"""Where requests go: to machines of one's own only, to somebody else's too, or nobody knows."""
Word = Literal["reference", "better", "non-inferior", "certified", "worse", "not enough data", "not measured"]

GOOD: frozenset[Word] = frozenset({"reference", "better", "non-inferior", "certified"})


def nothing(why: str, unit: str = "") -> Measured:
    """A figure that is not known, and why."""
    return Measured(value=None, unit=unit, why_none=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One quantity, as measured and as estimated. What decides is the measurement where there is one."""

    measured: Measured
    estimate: Measured = field(default_factory=lambda: nothing("-"))

    @property
    def value(self) -> float | None:
        """The measured value, else the estimated one, else None."""
        return self.estimate.value if self.measured.value is None else self.measured.value

    @property
    def is_estimate(self) -> bool:
        """Whether the value is an estimate."""
        return self.measured.value is None and self.estimate.value is not None

    @property
    def why_none(self) -> str:
        """Why there is no value."""
        return self.measured.why_none


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is shown about the quality against the reference, in a word and a sentence.

    `margin_needed` is the tolerated loss from which the verdict would be good, None where none would; `more_items` how
    many more items would decide.
    """

    word: Word
    sentence: str
    n: int = 0
    more_items: int | None = None
    margin_needed: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether it is good enough within the tolerated loss."""
        return self.word in GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. `source` says where its figures come from.

    A request costs `paid_share` of `usd_per_call`; what runs on a machine of one's own (`is_own`) costs that machine's
    hours, one for each `capacity_per_h` requests, and the upkeep. `latency` is the 95th percentile in seconds,
    `memory` bytes at the peak, `context` a number of tokens that is known to fit. `tells_certainty` says that it may go
    first in a cascade. `measure` is the command that would measure it, empty where nothing is left to measure.
    """

    name: str
    shape: Shape
    source: str
    where: Where
    is_own: bool
    judged: Judged
    quality: Measured
    latency: Known
    memory: Known
    usd_per_call: Known
    paid_share: float = 1.0
    rent_usd_per_h: float | None = None
    capacity_per_h: Known = field(default_factory=lambda: Known(measured=nothing("not measured")))
    context: int | None = None
    languages: tuple[str, ...] | None = None
    parameters: int | None = None
    n_endpoints: int = 1
    tells_certainty: bool = True
    measure: str = ""
    notes: tuple[str, ...] = ()
