"""What people do on the pages beside deciding: they mark which of two answers was right, and ask models on the bench.

Neither is traffic and neither is evidence: marks are given to what somebody chose to read, and what is asked on the
bench nobody needed. No certificate, audit or sum of requests may rest on them. They hold no text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["reference", "specialist", "both", "neither"]

VERDICTS: dict[Verdict, str] = {
    "reference": "the large model was right",
    "specialist": "the specialist was right",
    "both": "both were right",
    "neither": "neither was right",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Which answer to a request a person found right, where specialist and reference disagreed.

    `specialist_sha256` is the specialist that was judged. The latest mark of a request counts, earlier ones stay.
    """

    request_id: str
    task_id: str
    verdict: Verdict
    time_s: float
    specialist_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCall:
    """One call of a model from the bench. `run_id` is shared by the calls of one click.

    It is written before the call with status 0, so that what was spent is known whatever becomes of it, and again once
    the call has ended. `error` is an error's code. `cost_usd` is None where tokens or price are unknown.
    """

    run_id: str
    model: str
    time_s: float
    status: int = 0
    error: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float = 0.0
