"""Outcomes from the log: pairs that the gateway has collected or audited, graded, in the layout that routes learn from.

Grades of the judge stand in the log, or are asked for by who calls; a scorer takes the reference's answer for right. A
user's mark is of one answer, so it grades no pair alone: it bounds by how much the other can be better or worse. What
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

Scores = Mapping[str, Mapping[str, float]]
"""Scores by request and model."""

GRADED_BY = "graded_by"
"""The tag of an outcome that says who graded it."""

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

    def graded(self, scores: Mapping[str, float], by: str = "") -> Outcome:
        """The outcome with these scores of all its models, tagged with who gave them."""
        tried = {name: replace(one, score=scores[name]) for name, one in self.tried.items()}
        return Outcome(
            request_id=self.request_id,
            prompt=self.prompt,
            tried=tried,
            probability=self.probability,
            tags={GRADED_BY: by} if by else {},
        )

    def heeding(self, scores: Mapping[str, float]) -> Mapping[str, float]:
        """The scores nearest to these that the marks of users leave possible.

        An answer that was marked m of 1 can be beaten by 1 - m at most and beat another by m. Differences are stated on
        the scale of the grader, whose reference scores 0.5 (a judge compares) or 1 (a scorer takes it for right).
        """
        own = scores[self.reference]
        found = dict(scores)
        for name, mark in self.grades.get("feedback", {}).items():
            for other in found.keys() - {self.reference}:
                if name not in (self.reference, other):
                    continue
                low, high = (-mark, 1.0 - mark) if name == self.reference else (mark - 1.0, mark)
                found[other] = min(max(found[other], own + own * low), own + own * high, 1.0)
        return found


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


def judged(found: Iterable[Pair]) -> Scores:
    """What the log has of the judge's grades."""
    return {pair.request_id: pair.grades["judge"] for pair in found if "judge" in pair.grades}


def outcomes(found: Iterable[Pair], scores: Scores, by: str, *, heeds_marks: bool = True) -> list[Outcome]:
    """Those of the pairs whose answers all have a score, within what the marks of users leave possible."""
    result = []
    for pair in found:
        given = scores.get(pair.request_id, {})
        if given.keys() >= pair.tried.keys():
            heeded = pair.heeding(given) if heeds_marks else given
            result.append(pair.graded(heeded, by if heeded == given else f"{by}, within the marks of users"))
    return result


def agreement(found: Iterable[Pair], scores: Scores) -> tuple[int, int]:
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
