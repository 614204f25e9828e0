"""Outcomes from the log: pairs that the gateway has collected or audited, graded, in the layout that routes learn from.

Grades of the judge stand in the log, or are asked for here; a scorer takes the reference's answer for right. What
collecting and grading has cost is told with them, and how far the judge agrees with the users' own marks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pilotfish.core.log_row import AuditRow, GradeRow, RequestRow, TriedRow
from pilotfish.core.outcome import Outcome, Tried
from pilotfish.store.base import Log

_LISTS = ("tokens", "logprobs", "margins", "samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The answers of smaller models and of the reference to one request, not yet graded but for what the log has.

    `tried` holds every model's answer by name, the reference's last; scores in it mean nothing. `grades` are those of
    the log by their source, scores by model.
    """

    request_id: str
    prompt: str
    reference: str
    probability: float
    tried: Mapping[str, Tried]
    grades: Mapping[str, Mapping[str, float]]
    collected_usd: float | None
    graded_usd: float | None

    def smaller(self) -> dict[str, Tried]:
        """The answers of the others than the reference."""
        return {name: tried for name, tried in self.tried.items() if name != self.reference}

    def graded(self, scores: Mapping[str, float]) -> Outcome:
        """The outcome with these scores of all its models."""
        tried = {name: replace(one, score=scores[name]) for name, one in self.tried.items()}
        return Outcome(request_id=self.request_id, prompt=self.prompt, tried=tried, probability=self.probability)


def pairs(log: Log, models: Sequence[str], reference: str) -> list[Pair]:
    """The requests that all of `models` and the reference have answered, in the order of time.

    Those are drawn by coins with the probability they state, and never for what was said. Where a call failed, the
    request is left out whoever failed: that is told by nobody's words.
    """
    tried: dict[str, dict[str, TriedRow]] = {}
    for row in log.tried():
        tried.setdefault(row.request_id, {})[row.model] = row
    grades: dict[str, list[GradeRow]] = {}
    for grade in log.grades():
        grades.setdefault(grade.request_id, []).append(grade)
    found = []
    for request_id, rows in tried.items():
        request = log.row(request_id)
        if request is None or not all(name in rows and rows[name].tried for name in models):
            continue
        answer = _reference(request, log.audit(request_id))
        prompt = rows[models[0]].prompt
        if answer is None or not prompt:
            continue
        said = grades.get(request_id, [])
        found.append(
            Pair(
                request_id=request_id,
                prompt=prompt,
                reference=reference,
                probability=rows[models[0]].probability,
                tried={**{name: _tried(rows[name]) for name in models}, reference: answer},
                grades={grade.source: json.loads(grade.scores) for grade in said},
                collected_usd=_sum(row.cost_usd for row in rows.values() if row.purpose == "collect"),
                graded_usd=_sum(grade.cost_usd for grade in said if grade.source == "judge"),
            )
        )
    return found


def agreement(found: Iterable[Pair], scores: Mapping[str, Mapping[str, float]]) -> tuple[int, int]:
    """How often a grade stands on the same side of one half as the user's mark of that answer, and of how many.

    Marks and grades of exactly one half take no side.
    """
    same = n = 0
    for pair in found:
        for name, mark in pair.grades.get("feedback", {}).items():
            grade = scores.get(pair.request_id, {}).get(name)
            if grade is not None and 0.5 not in (grade, mark):
                same, n = same + ((grade > 0.5) == (mark > 0.5)), n + 1
    return same, n


def _reference(request: RequestRow, audit: AuditRow | None) -> Tried | None:
    row: Any = request if audit is None else audit
    text = request.reference_answer
    if text is None:
        return None
    return Tried(
        score=0.0,
        text=text,
        cost_usd=row.cost_usd,
        input_tokens=row.prompt_tokens,
        output_tokens=row.completion_tokens,
        latency_s=row.latency_s,
    )


def _tried(row: TriedRow) -> Tried:
    said: dict[str, Any] = json.loads(row.tried or "{}")
    lists = {name: tuple(said[name]) for name in _LISTS if name in said}
    return Tried(**{**said, **lists, "score": 0.0})


def _sum(costs: Iterable[float | None]) -> float | None:
    known = list(costs)
    return None if None in known else sum(cost for cost in known if cost is not None)
