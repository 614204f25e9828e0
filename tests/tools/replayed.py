"""A replayed task and its report, put together by hand: every share in them can be counted on fingers."""

from __future__ import annotations

from typing import Any

import numpy as np

from pilotfish.core.certificate import Claim
from pilotfish.core.messages import Usage
from pilotfish.guarantees.attempt import Attempt
from pilotfish.replay.report import Report
from pilotfish.replay.timeline import Replayed, Row
from tools.certificates import certificate, refusal
from tools.served_home import sentences
from tools.traffic import USAGE, colour_task, task_rows


def replayed(
    n: int = 100, *, first: int = 40, offset: int = 0, served: bool = True, usage: Usage | None = USAGE
) -> Replayed:
    """A task of `n` rows that serves from row `first` on, wrong in every tenth row; every fifth is audited."""
    pairs = sentences(n)
    number = np.arange(n)
    ran = (number >= first) & served
    rows = [
        Row(position=offset + row.position, text=row.text, answer=row.answer, time_s=row.time_s, usage=usage)
        for row in task_rows(pairs)
    ]
    return Replayed(
        task=colour_task(pairs),
        rows=rows,
        mode="serve" if served else "observe",
        ran=ran,
        differs=ran & (number % 10 == 0),
        served=ran & (number % 4 != 1),
        first=ran & (number % 4 == 0),
        audited=ran & (number % 5 == 0),
        naive=ran & (number % 8 != 1),
        verdicts=[(first, Attempt(verdict=certificate() if served else refusal()))],
        adopted=[(offset + first + 1, Attempt(verdict=certificate()))] if served else [],
    )


def report(*tasks: Replayed, n_requests: int | None = None, **fields: Any) -> Report:
    """The report of these tasks."""
    values: dict[str, Any] = {"unreadable": [], "cost": None, "local_s": [], "longer": []}
    n = sum(len(task.rows) for task in tasks) if n_requests is None else n_requests
    return Report(n_requests=n, claim=Claim(max_risk=0.05), tasks=list(tasks), **(values | fields))
