"""Which of several generative models answers an open request: the one object that decides live, in replay and in
certification.

The models stand in a cascade, the smallest first, the reference last. At each step the expected gain of asking
further is weighed against its cost ("gain per dollar", where prices are known) and compared with one number, the
`threshold`, that all steps share. It decides on plain numbers and calls nobody. Whatever it cannot tell goes to the
reference: a missing signal, a deadline that two calls would miss, a request of a kind that it may not touch.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pilotfish.core.errors import SpecialistError
from pilotfish.core.ids import fingerprint
from pilotfish.core.outcome import Outcome, Tried
from pilotfish.routing.gain import Gain

FORMAT = 1

Why = Literal["kept", "gain", "deadline", "unknown", "reference", "budget"]
"""`kept`: asking further is not worth it; `gain`: it is; `deadline`: the cascade would be too late, so the reference
is asked at once; `unknown`: a signal in use could not be read; `reference`: there is nothing larger;
`budget`: nothing larger can be paid for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a call of a model is expected to cost: `usd` plus `usd_per_character` of the prompt, and the time that nine
    in ten of its answers stay within.

    None where no price, or no time, is known.
    """

    usd: float | None = None
    usd_per_character: float = 0.0
    latency_s: float | None = None

    def of(self, prompt: str) -> float | None:
        """US dollars for this prompt."""
        return None if self.usd is None else self.usd + self.usd_per_character * len(prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One model before the reference. `gain` says what asking further brings, with `reads_answer` once it has answered.

    `cost` is that of its own call, `further` that of the next model's. With a `prefix` the first so many tokens of the
    answer decide, so that a stream need not be held back longer; 0 is the whole answer. `samples` are as many as the
    gain was learnt with, 0 where it reads none; `verifier` is who said it to be right, empty where the gain reads none
    or the outcomes do not name it.
    """

    model: str
    gain: Gain
    reads_answer: bool
    prefix: int = 0
    samples: int = 0
    verifier: str = ""
    cost: Cost = field(default_factory=Cost)
    further: Cost = field(default_factory=Cost)

    def seen(self, tried: Tried) -> Tried:
        """What of an answer decides, however much of it is known."""
        if self.prefix:
            return tried.begun(self.prefix)
        return tried if self.suits(tried) else dataclasses.replace(tried, verifier=None, verified_by="")

    def suits(self, tried: Tried) -> bool:
        """Whether nobody but the step's verifier was asked about an answer; one that is not named may be it."""
        return not self.verifier or tried.verified_by in ("", self.verifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who is asked, or kept, and why. `need` is that of the step that decided, None where none did."""

    model: str
    why: Why
    need: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The choice as a JSON object."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Decides by `threshold` alone: a need above it asks further, so that equal needs get equal decisions.

    Without a threshold nothing is proven and everything goes to the reference. `unit_usd` is the mean cost of asking
    further that needs are stated in, None where no price is known: then a need is the expected gain itself. `learnt`
    says from what, for people.
    """

    steps: tuple[Step, ...]
    reference: str
    threshold: float | None = None
    unit_usd: float | None = None
    learnt: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """16 hexadecimal digits over everything that decides, the threshold left out: a certificate names that."""
        row = self.to_json()
        return fingerprint(json.dumps({key: row[key] for key in ("steps", "reference", "unit_usd")}, sort_keys=True))

    @property
    def models(self) -> tuple[str, ...]:
        """All that it chooses from, in the order in which they are asked: the reference is the last."""
        return (*(step.model for step in self.steps), self.reference)

    @property
    def encoder_sha256(self) -> str:
        """The encoder whose embeddings the route reads, by its hash; empty where it reads none."""
        return next((step.gain.heads.encoder_sha256 for step in self.steps if step.gain.heads is not None), "")

    def suits(self, outcome: Outcome) -> bool:
        """Whether the answers of an outcome were verified by whom the route reads, so that it says something of it."""
        tried = [(step, outcome.tried.get(step.model)) for step in self.steps]
        return all(one is None or step.suits(one) for step, one in tried)

    def need(
        self, place: int, outcome: Outcome, tried: Tried | None = None, embedding: Sequence[float] | None = None
    ) -> float | None:
        """How much a request at step `place` needs a larger model; None where it cannot be told."""
        step = self.steps[place]
        seen = step.seen(tried) if tried is not None and step.reads_answer else None
        gain = step.gain(outcome, seen, embedding)
        if gain is None or math.isnan(gain):
            return None
        return self.per_cost(place, gain, outcome.prompt)

    def per_cost(self, place: int, gain: float, prompt: str) -> float:
        """An expected gain in relation to what asking further costs for this prompt, where prices are known."""
        usd = self.steps[place].further.of(prompt)
        if usd is None or usd <= 0.0 or not self.unit_usd or gain <= 0.0:
            # A loss is not smaller because the call is dear: only gains are put in relation to their cost.
            return gain
        return gain * self.unit_usd / usd

    def first(
        self,
        outcome: Outcome,
        embedding: Sequence[float] | None = None,
        *,
        deadline_s: float | None = None,
        latency_s: float | None = None,
    ) -> Choice:
        """Who is asked first. With a deadline the reference, where a cascade is expected to end after it.

        `latency_s` is what the whole cascade takes where that was measured; else the outcomes say it.
        """
        if self.threshold is None:
            return Choice(model=self.reference, why="reference")
        if deadline_s is not None and (self.latency_s if latency_s is None else latency_s) > deadline_s:
            return Choice(model=self.reference, why="deadline")
        return self._from(0, outcome, embedding)

    def after(self, place: int, outcome: Outcome, tried: Tried, embedding: Sequence[float] | None = None) -> Choice:
        """Whether the answer of step `place` is kept, or who is asked next."""
        need = self.need(place, outcome, tried, embedding)
        if need is None:
            return Choice(model=self.reference, why="unknown")
        if self.keeps(need):
            return Choice(model=self.steps[place].model, why="kept", need=need)
        return dataclasses.replace(self._from(place + 1, outcome, embedding), why="gain", need=need)

    def keeps(self, need: float) -> bool:
        """Whether an answer of this need is kept."""
        return self.threshold is not None and need <= self.threshold

    @property
    def latency_s(self) -> float:
        """The expected time until the reference has answered where every reading step was tried; inf where unknown."""
        reading = [step.cost.latency_s for step in self.steps if step.reads_answer]
        last = self.steps[-1].further.latency_s if self.steps else 0.0
        times = [math.inf if time is None else time for time in (*reading, last)]
        return math.fsum(times) if math.inf not in times else math.inf

    def _from(self, place: int, outcome: Outcome, embedding: Sequence[float] | None) -> Choice:
        """The first model from `place` on that is tried for its answer, or is enough by the prompt alone."""
        need: float | None = None
        for i in range(place, len(self.steps)):
            if self.steps[i].gain.heads is not None and embedding is None:
                # Whatever it answered, nothing could be told of it.
                return Choice(model=self.reference, why="unknown")
            if self.steps[i].reads_answer:
                return Choice(model=self.steps[i].model, why="kept", need=need)
            need = self.need(i, outcome, None, embedding)
            if need is None:
                return Choice(model=self.reference, why="unknown")
            if self.keeps(need):
                return Choice(model=self.steps[i].model, why="kept", need=need)
        return Choice(model=self.reference, why="gain" if need is not None else "reference", need=need)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        steps = [
            {
                "model": step.model,
                "reads_answer": step.reads_answer,
                # Left out where there is none, so that routes from before keep their ids, and with them certificates.
                **({"prefix": step.prefix} if step.prefix else {}),
                **({"samples": step.samples} if step.samples else {}),
                **({"verifier": step.verifier} if step.verifier else {}),
                "cost": dataclasses.asdict(step.cost),
                "further": dataclasses.asdict(step.further),
                "gain": step.gain.to_json(),
            }
            for step in self.steps
        ]
        return {
            "format": FORMAT,
            "steps": steps,
            "reference": self.reference,
            "threshold": self.threshold,
            "unit_usd": self.unit_usd,
            "learnt": dict(self.learnt),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Route:
        """The route that `to_json` wrote. Raises `SpecialistError` where it is none, or too new."""
        try:
            if row["format"] > FORMAT:
                raise SpecialistError("The route has a newer format.", hint="Update pilotfish.")
            steps = tuple(
                Step(
                    model=step["model"],
                    reads_answer=step["reads_answer"],
                    prefix=step.get("prefix", 0),
                    samples=step.get("samples", 0),
                    verifier=step.get("verifier", ""),
                    cost=Cost(**step["cost"]),
                    further=Cost(**step["further"]),
                    gain=Gain.from_json(step["gain"]),
                )
                for step in row["steps"]
            )
            fields = {key: row[key] for key in ("reference", "threshold", "unit_usd", "learnt")}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SpecialistError(
                f"This is no route: {type(error).__name__}: {error}.", hint="Learn it anew: pilotfish route train."
            ) from error
        return cls(steps=steps, **fields)
