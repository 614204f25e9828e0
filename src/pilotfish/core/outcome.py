"""Outcomes: one request, what several models answered to it, and how good each answer was.

They are what routing learns from and is judged by. Where they come from (a file, shadow calls, feedback) and who gave
the scores is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One model's answer to one request, as far as it is known: what is not is None or empty, never 0.

    `score` is in [0, 1]. `logprobs` are those of the `tokens` in order, `margins` by how much each lay above the next
    best one; `samples` are further answers of the model to the same request, `verifier` another model's
    probability that the answer is right, and `verified_by` that model's name.
    """

    score: float
    text: str | None = None
    finish_reason: str = ""
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()
    samples: tuple[str, ...] = ()
    verifier: float | None = None
    verified_by: str = ""

    def begun(self, n_tokens: int) -> Tried:
        """The answer as it stands once so many tokens have come: their log-probabilities, and nothing that only the
        whole of it shows."""
        return replace(
            self,
            text=None,
            finish_reason="",
            output_tokens=None,
            tokens=self.tokens[:n_tokens],
            logprobs=self.logprobs[:n_tokens],
            margins=self.margins[:n_tokens],
            samples=(),
            verifier=None,
            verified_by="",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A request with the graded answers of the models that were asked.

    `probability` is the known chance with which the request was drawn to be graded. `split` is as the source names
    it. Where the answer is to be code, `code` is what it continues and `tests` the program that it must pass.
    """

    request_id: str
    prompt: str
    tried: Mapping[str, Tried]
    task: str = ""
    split: str = ""
    probability: float = 1.0
    tags: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    tests: str = ""
