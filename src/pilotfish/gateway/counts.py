"""What one gateway process counts of the requests that pass: a few additions each, after the reply has left.

Every label comes from a closed set: reasons, modes, error codes, paths, configured models, and tasks as the registry
names them, up to `MAX_SERIES` combinations. No text of a client becomes one. How it is shown is the business of
`metrics.py`; what is known elsewhere (the registry, the breakers) is not counted again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from pilotfish.core import errors
from pilotfish.core.log_row import AuditRow, RepeatRow, RequestRow, TriedRow
from pilotfish.gateway import error_bodies
from pilotfish.gateway.rows import Turn
from pilotfish.gateway.tried import Call, Said
from pilotfish.gateway.visit import MOST_TOKENS

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

MAX_SERIES = 1000
"""Combinations of labels of the requests; of tasks that come later, all are counted as one. To tell so many takes 7 ms
(`benchmarks/seen.py`), in which nothing else is answered."""

OTHER = "other"
"""A task beyond `MAX_SERIES`, a model that only the client knows, an error in another's words."""

CODES = frozenset(
    kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PilotfishError)
) | {"internal_error", "not_found", "method_not_allowed", "foreign_site", "client_left"}

_HERE = frozenset(("certified", "encoder"))
_ANSWERED = frozenset((200, error_bodies.CLIENT_LEFT))

Labels = tuple[str, str, int, str, str, str]
"""Reason, mode, status, path, task and tier."""


class Histogram:
    """Seconds by `BOUNDS_S`, each upper bound included."""

    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def see(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class Spent:
    """What one model has cost: tokens, dollars, and requests of which one or the other is not known."""

    __slots__ = ("completion", "cost_usd", "prompt", "unknown_cost", "unknown_tokens")

    def __init__(self) -> None:
        self.prompt = self.completion = self.unknown_tokens = self.unknown_cost = 0
        self.cost_usd = 0.0

    def see(self, row: RequestRow | AuditRow | RepeatRow | TriedRow) -> None:
        """Count one request."""
        self.add(row.prompt_tokens, row.completion_tokens, row.cost_usd)

    def add(self, prompt: int | None, completion: int | None, cost_usd: float | None) -> None:
        """Count tokens and their cost. Numbers that no model gives, from a broken server, are none."""
        completion = completion or 0
        if prompt is None or not (0 <= prompt <= MOST_TOKENS and 0 <= completion <= MOST_TOKENS):
            self.unknown_tokens += 1
            cost_usd = None
        else:
            self.prompt += prompt
            self.completion += completion
        if cost_usd is None:
            self.unknown_cost += 1
        else:
            self.cost_usd += cost_usd


class Counts:
    """The counts of one gateway."""

    def __init__(self, models: Iterable[str]) -> None:
        """`models` are the names of the configured ones."""
        self.requests: dict[Labels, int] = {}
        self.spent = {name: Spent() for name in (*models, OTHER)}
        self.errors: Counter[str] = Counter()
        self.privacy: Counter[str] = Counter()
        self.audits: Counter[tuple[str, str]] = Counter()
        self.here, self.remote = Histogram(), Histogram()
        self.decision, self.first_byte = Histogram(), Histogram()

    def note(self, turn: Turn, row: RequestRow) -> None:
        """Count a request that came so far that it has a row in the log."""
        live = turn.live
        tier = str(row.tier) if row.reason == "certified" else ""
        task = live.record.name if live is not None else ""
        labels = (row.reason, row.mode, row.status, turn.request.format.path, task, tier)
        try:
            self.requests[labels] += 1
        except KeyError:
            self._begin(labels)
        if row.reason in _HERE:
            self.here.see(row.latency_s)
        else:
            self.remote.see(row.latency_s)
            if row.status in _ANSWERED:
                self.spent.get(row.model, self.spent[OTHER]).see(row)
        if row.local_s is not None:
            self.decision.see(row.local_s)
        for said in turn.routing.given_up if turn.routing is not None else ():
            self.note_given_up(said)
        if turn.routing is not None:
            late = [Call(model=model) for model, _ in turn.routing.late]
            self.note_further([*turn.routing.kept_further, *late])
        if turn.begun_s is not None:
            self.first_byte.see(turn.begun_s - turn.started_s)
        if row.error:
            self.note_error(code_of(row))
        self._note_privacy(turn)

    def _note_privacy(self, turn: Turn) -> None:
        if turn.privacy.is_local_only:
            self.privacy["local"] += 1
        elif turn.privacy.restorer is not None:
            self.privacy["masked"] += 1

    def note_error(self, code: str) -> None:
        """Count an error by its code, also of what never became a request."""
        self.errors[code if code in CODES else OTHER] += 1

    def note_given_up(self, said: Said) -> None:
        """Count what an answer has cost that was not given, and the further calls about it."""
        tried = said.tried
        spent = self.spent.get(said.model, self.spent[OTHER])
        spent.add(tried.input_tokens, tried.output_tokens, tried.cost_usd)
        self.note_further(said.further)

    def note_further(self, calls: Iterable[Call]) -> None:
        """Count what further calls about an answer have cost."""
        for call in calls:
            prompt, completion = (None, None) if call.usage is None else (call.usage.prompt, call.usage.completion)
            self.spent.get(call.model, self.spent[OTHER]).add(prompt, completion, call.cost_usd)

    def note_spent(self, model: str, row: AuditRow | RepeatRow | TriedRow) -> None:
        """Count what asking a model once more has cost."""
        self.spent.get(model, self.spent[OTHER]).see(row)

    def note_audit(self, task: str, row: AuditRow) -> None:
        """Count an audit: the reference answered it, or not."""
        self.audits[task, "failed" if row.error else "made"] += 1

    def note_difference(self, task: str) -> None:
        """Count an audit by which the reference disagreed."""
        self.audits[task, "differed"] += 1

    def _begin(self, labels: Labels) -> None:
        if len(self.requests) >= MAX_SERIES:
            reason, mode, status, path, _, tier = labels
            labels = (reason, mode, status, path, OTHER, tier)
        self.requests[labels] = self.requests.get(labels, 0) + 1


def code_of(row: RequestRow) -> str:
    """The code of a row's error, empty where there is none."""
    if row.status == error_bodies.CLIENT_LEFT:
        return "client_left"
    code = row.error.partition(":")[0]
    return code if code in CODES or not code else OTHER
