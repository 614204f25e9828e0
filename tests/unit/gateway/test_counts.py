"""What is counted, with labels from closed sets only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pilotfish.gateway.counts import BOUNDS_S, MAX_SERIES, OTHER, Counts, Histogram, code_of
from pilotfish.gateway.privacy_guard import Guarded
from pilotfish.gateway.rows import Turn
from pilotfish.models.scripted import ScriptedModel
from pilotfish.models.wire.chat import CHAT
from pilotfish.routing.cascade import Decision
from tools.log_rows import audit_row, request_row


def turn(task: str = "t") -> Turn:
    """A finished turn of a task, as far as counting reads it."""
    live: Any = SimpleNamespace(record=SimpleNamespace(name=task))
    return Turn(
        request_id="r",
        request=CHAT.decode_request(b'{"messages": []}', ()),
        model="large",
        recognised=None,
        live=live,
        is_audited=False,
        decision=Decision(reason="observing"),
        task_id="t",
        mode="serve",
        target=ScriptedModel(["x"]),
        privacy=Guarded(body=b""),
    )


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram()
    for seconds in (0.0, *BOUNDS_S, 1e9):
        histogram.see(seconds)
    assert histogram.buckets == [2] + [1] * len(BOUNDS_S)


def test_tasks_beyond_the_limit_are_one() -> None:
    counts = Counts(["large"])
    for n in range(MAX_SERIES + 10):
        counts.note(turn(f"task-{n}"), request_row())
    assert len(counts.requests) == MAX_SERIES + 1
    assert sum(n for labels, n in counts.requests.items() if labels[4] == OTHER) == 10


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": 499, "error": "the client left"}, "client_left"),
        ({"status": 504, "error": "model_timeout: it did not answer"}, "model_timeout"),
        ({"status": 200, "error": "overloaded_error: words of a server's own"}, OTHER),
        ({"status": 200, "error": ""}, ""),
    ],
)
def test_an_error_is_known_by_its_code(fields: dict[str, Any], code: str) -> None:
    assert code_of(request_row(**fields)) == code


@pytest.mark.parametrize("tokens", [None, -1, 10**400])
def test_tokens_that_no_model_gives_are_not_known(tokens: int | None) -> None:
    counts = Counts(["large"])
    counts.note(turn(), request_row(prompt_tokens=tokens, cost_usd=float("inf")))
    counts.note_spent("large", audit_row(prompt_tokens=3, completion_tokens=1, cost_usd=0.5))
    spent = counts.spent["large"]
    assert (spent.prompt, spent.completion, spent.cost_usd) == (3, 1, 0.5)
    assert (spent.unknown_tokens, spent.unknown_cost) == (1, 1)
