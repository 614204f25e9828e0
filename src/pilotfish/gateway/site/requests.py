"""The newest requests, fifty a page, and more of them as data."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote, urlencode

from pilotfish.core.log_row import RequestRow
from pilotfish.gateway.site import words
from pilotfish.gateway.site.page import Page, Seen
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.pages.elements import Child, Html, element
from pilotfish.store.base import LogFilter

ON_A_PAGE = 50
AS_DATA = 500
MOST_CHARACTERS = 160


def requests(seen: Seen, n: int = ON_A_PAGE) -> Page:
    """The page, or its table with `n` rows."""
    query = seen.query
    task, before = query.get("task", ""), query.get("before", "")
    is_failed = query.get("failed") == "1"
    rows, has_more = newest(seen, n, task=task, is_failed=is_failed, before=before)
    kept = {key: value for key, value in (("task", task), ("failed", "1" if is_failed else "")) if value}
    here = {**kept, **({"before": before} if before else {})}
    table = of(seen, rows, query=_query(here))
    more = None
    if has_more:
        more = element(
            "p", element("a", "Older requests", href="/requests" + _query({**kept, "before": rows[-1].request_id}))
        )
    parts = (_form(seen, task, is_failed=is_failed), table.html("/requests"), more)
    return Page(path="/requests", title="Requests", parts=parts, tables=(table,))


def newest(seen: Seen, n: int, *, task: str, is_failed: bool, before: str) -> tuple[list[RequestRow], bool]:
    """The newest `n` requests and whether there are more: of a task, by name or id, or those before a request."""
    live = seen.running.tasks.find(task) if task else None
    task_id = live.record.task_id if live else task
    where = LogFilter(task_id=task_id, errors_only=is_failed, limit=n + 1, newest_first=True, before_id=before)
    found = list(seen.running.log.rows(where))
    return found[:n], len(found) > n


def of(seen: Seen, rows: list[RequestRow], *, name: str = "", caption: str = "Newest first", query: str = "") -> Table:
    """A table of some requests."""
    columns = (
        Column(key="request_id", head="Request", show=request_link),
        Column(key="time", head="Time (UTC)"),
        Column(key="task", head="Task"),
        Column(key="model", head="Answered by"),
        Column(key="reason", head="Reason"),
        Column(key="latency_s", head="Took", show=words.duration, is_number=True),
        Column(key="input", head="Asked", show=short, is_text=True),
        Column(key="answer", head="Answer", show=short),
    )
    written = data(seen, rows)
    return Table(name=name, caption=caption, columns=columns, rows=written, none="No such request.", query=query)


def data(seen: Seen, rows: list[RequestRow]) -> list[dict[str, Any]]:
    """Requests as they may be told: without texts where none is kept."""
    names = {live.record.task_id: live.record.name for live in seen.running.tasks.all()}
    return [_row(seen, row, names) for row in rows]


def request_link(request_id: str) -> Html:
    """A link to the page of one request."""
    return element("a", request_id, href="/requests/" + quote(request_id, safe=""), class_="id")


def short(text: str) -> str:
    """The beginning of a text."""
    line = " ".join(text[: 4 * MOST_CHARACTERS].split())
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"


def _row(seen: Seen, row: RequestRow, names: dict[str, str]) -> dict[str, Any]:
    return {
        "request_id": row.request_id,
        "time": words.moment(row.time_s),
        "task": names.get(row.task_id, row.task_id) or None,
        "model": row.model,
        "reason": row.reason if row.status == 200 else f"HTTP {row.status}",
        "status": row.status,
        "error": row.error or None,
        "latency_s": row.latency_s,
        "local_s": row.local_s,
        "certainty": row.certainty,
        "scope": row.scope,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "cost_usd": row.cost_usd,
        "sampling": row.sampling,
        "key_id": row.key_id,
        "input": seen.data(row.input),
        "answer": seen.data(row.answer),
        "local_answer": seen.data(row.local_answer),
        "reference_answer": seen.data(row.reference_answer),
    }


def _query(values: dict[str, str]) -> str:
    return "?" + urlencode(values) if values else ""


def _form(seen: Seen, task: str, *, is_failed: bool) -> Html:
    options: list[Child] = [element("option", "every task", value="")]
    names = [live.record.name for live in itertools.islice(seen.running.tasks.all(), 500)]
    options += [element("option", name, value=name, selected=name == task) for name in sorted(names)]
    return element(
        "form",
        element("label", "Task ", element("select", options, name="task")),
        element(
            "label",
            element("input", type="checkbox", name="failed", value="1", checked=is_failed, class_="box"),
            " only those that failed",
        ),
        element("button", "Show", type="submit"),
        action="/requests",
        method="get",
        class_="filter",
    )
