"""The GraphQL schema over requests, tasks, certificates and spend: what the pages' data tell, by the same functions.

Strawberry is imported here and in `graphql_money`, which takes a quarter of a second, so only with the first query.
Nothing can be changed through it. A page is read behind its cursor by an index, so that the last one costs what the
first does. The limits (`graphql_limits`) are looked at once a query is found valid, before any of it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

import strawberry
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import ExecutionContext

from pilotfish.core.errors import RequestError
from pilotfish.gateway.live_tasks import LiveTask
from pilotfish.gateway.site import graphql_limits, graphql_money, requests, tasks
from pilotfish.gateway.site.figures import DEFAULT_DAYS, HOUR_S
from pilotfish.gateway.site.graphql_money import DAY_S, Routed, Spend, Split, Step
from pilotfish.gateway.site.page import Seen
from pilotfish.store.periods import PeriodFilter

MOST_DAYS = 367
"""The longest time that spend is told of at once: a year in whole days."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Node = TypeVar("_Node")


@dataclass
class Context:
    """What one query is answered from."""

    seen: Seen

    @cached_property
    def counted(self) -> tasks.Counted:
        """The counts of all tasks, read once a query."""
        return tasks.Counted(self.seen)


_Info = strawberry.Info[Context, None]


@strawberry.type
class PageInfo:
    """Whether there is more, and the cursor to ask for it with."""

    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class Page(Generic[_Node]):
    """A part of a list."""

    nodes: list[_Node]
    page_info: PageInfo


@strawberry.type
class Verdict:
    """A certificate, or a refusal with what is missing; what only the other has is null."""

    verdict: str
    certificate_id: str | None
    task: str
    task_id: str
    made: str
    attempt: int
    max_risk: float
    confidence: float
    per: str
    said: str
    coverage: float | None
    bound: float | None
    n: int
    n_served: int | None
    errors: float | None
    examples_short: int | None
    passing_risk: float | None
    specialist_sha256: str | None


@strawberry.type
class Request:
    """One request. Texts are null where the log keeps none; times are in UTC."""

    request_id: str
    time: str
    task_name: str | None
    model: str
    reason: str
    status: int
    error: str | None
    latency_s: float
    local_s: float | None
    certainty: float | None
    scope: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    sampling: str
    key_id: str | None
    input: str | None
    answer: str | None
    local_answer: str | None
    reference_answer: str | None

    @strawberry.field
    def task(self, info: _Info) -> Task | None:
        """Its task, where it has one that is known."""
        live = info.context.seen.running.tasks.find(self.task_name or "")
        return _task(info.context, live) if live else None


@strawberry.type
class Task:
    """A recognised task."""

    live: strawberry.Private[LiveTask]
    name: str
    task_id: str
    mode: str
    answers: str
    n_requests: int
    share: float | None
    n_local: int
    local_share: float | None
    coverage: float | None
    certificate_id: str | None
    max_risk: float | None
    said: str
    instructions: str | None

    @strawberry.field
    def requests(self, info: _Info, first: int = 50, after: str | None = None, failed: bool = False) -> Page[Request]:
        """Its requests, newest first."""
        return _requests(info.context.seen, first, after, task=self.task_id, is_failed=failed)

    @strawberry.field
    def certificates(self, info: _Info, first: int = 20, after: str | None = None) -> Page[Verdict]:
        """Its certificates and refusals, newest first."""
        return _verdicts(info.context.seen, self.task_id, first, after)


@strawberry.type
class Query:
    """What can be asked."""

    @strawberry.field
    def requests(
        self,
        info: _Info,
        first: int = 50,
        after: str | None = None,
        task: str = "",
        failed: bool = False,
    ) -> Page[Request]:
        """The requests, newest first; of a task, by name or id, or only those that failed."""
        return _requests(info.context.seen, first, after, task=task, is_failed=failed)

    @strawberry.field
    def request(self, info: _Info, request_id: str) -> Request | None:
        """One request."""
        row = info.context.seen.running.log.row(request_id)
        return _request(requests.data(info.context.seen, [row])[0]) if row else None

    @strawberry.field
    def tasks(self, info: _Info, first: int = 50, after: str = "") -> Page[Task]:
        """The recognised tasks, by name."""
        lives = sorted(info.context.seen.running.tasks.all(), key=lambda live: live.record.name)
        found = [live for live in lives if live.record.name > after][: first + 1]
        return _page([(live.record.name, _task(info.context, live)) for live in found[:first]], len(found) > first)

    @strawberry.field
    def task(self, info: _Info, name: str) -> Task | None:
        """One task, by name or id."""
        live = info.context.seen.running.tasks.find(name)
        return _task(info.context, live) if live else None

    @strawberry.field
    def certificates(self, info: _Info, first: int = 20, after: str | None = None, task: str = "") -> Page[Verdict]:
        """The certificates and refusals, newest first; of a task, by name or id."""
        live = info.context.seen.running.tasks.find(task)
        return _verdicts(info.context.seen, live.record.task_id if live else task, first, after)

    @strawberry.field
    def spend(
        self,
        info: _Info,
        step: Step = Step.DAY,
        by: Split = Split.ALL,
        since: datetime | None = None,
        until: datetime | None = None,
        first: int = 50,
        after: str | None = None,
    ) -> Page[Spend]:
        """Money spent, in whole steps in UTC, oldest first; of the last 30 days where no time is named."""
        seen = info.context.seen
        since_s, until_s = _time(seen, since, until, step.value or HOUR_S)
        where = PeriodFilter(
            since_s=since_s,
            until_s=until_s,
            step_s=step.value,
            by=graphql_money.by(by),
            after=_behind(after),
            limit=first + 1,
        )
        found = seen.running.log.periods(where)
        names = {live.record.task_id: live.record.name for live in seen.running.tasks.all()}
        rows = [
            (f"{one.start_s:.0f}:{one.task_id or one.model}", graphql_money.spend(one, by, names))
            for one in found[:first]
        ]
        return _page(rows, len(found) > first)

    @strawberry.field
    def routed(self, info: _Info, since: datetime | None = None, until: datetime | None = None) -> Routed:
        """What routes saved in whole hours in UTC, net; in the last 30 days where no time is named."""
        seen = info.context.seen
        since_s, until_s = _time(seen, since, until, HOUR_S)
        return graphql_money.routed(seen.running.log.route_sums(since_s, until_s), since_s)


class _Limited(SchemaExtension):
    def on_operation(self) -> Iterator[None]:
        self.execution_context.parse_options["max_tokens"] = graphql_limits.MAX_TOKENS
        yield

    def on_validate(self) -> Iterator[None]:
        yield
        asked = self.execution_context
        if not asked.pre_execution_errors:
            assert asked.graphql_document is not None
            graphql_limits.check(
                asked.schema._schema,
                asked.graphql_document,
                asked.variables,
                asked.operation_name,
            )


class _Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Nothing: what is the asker's fault is told to the asker alone; what is ours, `answer` raises."""


_SCHEMA = _Schema(Query, extensions=[_Limited])


def answer(seen: Seen, query: str, variables: dict[str, Any] | None, name: str | None) -> dict[str, Any]:
    """The response to a query as a JSON object. Raises what fails in the store, or elsewhere of ours."""
    try:
        found = _SCHEMA.execute_sync(query, variables, context_value=Context(seen), operation_name=name)
    except (CannotGetOperationTypeError, InvalidOperationTypeError) as error:
        said = "There is no such operation in the query, or it is none that only reads."
        raise RequestError(said, param="operationName") from error
    for failure in found.errors or ():
        original = failure.original_error
        if isinstance(original, RecursionError):
            raise RequestError("The query is nested too deeply.", param="query") from original
        if original is not None and not isinstance(original, GraphQLError):
            raise original
    if not found.errors:
        return {"data": found.data}
    errors = [failure.formatted for failure in found.errors]
    # What was refused before it ran has no data, not even null (GraphQL, section 7.1).
    has_run = any("path" in failure for failure in errors)
    return {"errors": errors, "data": found.data} if has_run else {"errors": errors}


def _page(found: Sequence[tuple[str, _Node]], has_next_page: bool) -> Page[_Node]:
    """A page out of nodes with their cursors."""
    end = found[-1][0] if found else None
    return Page(nodes=[node for _, node in found], page_info=PageInfo(has_next_page=has_next_page, end_cursor=end))


def _requests(seen: Seen, first: int, after: str | None, *, task: str, is_failed: bool) -> Page[Request]:
    if after is not None and seen.running.log.row(after) is None:
        raise GraphQLError(f"`after` is {after[:100]!r}, which is no request in the log; begin again without it.")
    rows, has_more = requests.newest(seen, first, task=task, is_failed=is_failed, before=after or "")
    return _page([(row["request_id"], _request(row)) for row in requests.data(seen, rows)], has_more)


def _request(row: dict[str, Any]) -> Request:
    return Request(task_name=row["task"], **{key: value for key, value in row.items() if key != "task"})


def _task(context: Context, live: LiveTask) -> Task:
    row = tasks.data(context.seen, live, context.counted)
    same = ("task_id", "mode", "answers", "share", "coverage", "certificate_id", "max_risk", "said")
    return Task(
        live=live,
        name=row["task"],
        n_requests=row["requests"],
        n_local=row["answered_locally"],
        local_share=row["locally"],
        instructions=context.seen.data(live.record.instructions),
        **{key: row[key] for key in same},
    )


def _verdicts(seen: Seen, task_id: str, first: int, after: str | None) -> Page[Verdict]:
    before = None if after is None else _number(after, after)
    found = seen.running.registry.verdict_page(task_id, before=before, limit=first + 1)
    nodes = [(str(number), Verdict(**tasks.told(verdict))) for number, verdict in found[:first]]
    return _page(nodes, len(found) > first)


def _behind(after: str | None) -> tuple[float, str] | None:
    """Start and key of the row that a cursor names."""
    if after is None:
        return None
    start, _, key = after.partition(":")
    return _number(start, after), key


def _number(text: str, after: str) -> int:
    if re.fullmatch("[0-9]{1,15}", text) is None:
        raise GraphQLError(f"`after` is {after[:100]!r}, which is no cursor of this list.")
    return int(text)


def _time(seen: Seen, since: datetime | None, until: datetime | None, step_s: int) -> tuple[float, float]:
    """The time asked for, from a whole step on. Raises `GraphQLError` where it is too long."""
    since_s = seen.now_s - DEFAULT_DAYS * DAY_S if since is None else _seconds(since)
    until_s = seen.now_s + HOUR_S if until is None else _seconds(until)
    since_s -= since_s % step_s
    if until_s - since_s > MOST_DAYS * DAY_S:
        raise GraphQLError(f"`since` to `until` is more than {MOST_DAYS} days.")
    return since_s, until_s


def _seconds(at: datetime) -> float:
    """Seconds since the epoch; a time without a zone is in UTC."""
    return (at - _EPOCH if at.tzinfo else at.replace(tzinfo=UTC) - _EPOCH).total_seconds()
