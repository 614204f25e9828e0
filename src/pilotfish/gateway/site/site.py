"""The gateway's own web pages: which address leads where, who may see it, and the headers that every reply has.

Pages are made in a thread of their own, one at a time, so that looking at them keeps no request waiting. Reading is
open where the gateway is open to everybody on this machine; elsewhere it takes a session, or the admin key as programs
send it. What changes something takes a session and a token in its form.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from typing import TypeVar
from urllib.parse import parse_qsl, quote

import msgspec

from pilotfish.core.errors import KeyRefusedError, NotAllowedError, RequestError
from pilotfish.gateway import asgi
from pilotfish.gateway.bench import Bench
from pilotfish.gateway.door import Door
from pilotfish.gateway.running import Running
from pilotfish.gateway.site import (
    bench,
    decisions,
    figures,
    graphql,
    marks,
    new_task,
    new_task_forms,
    new_task_result,
    overview,
    reports,
    requests,
    retrain,
    security,
    tasks,
)
from pilotfish.gateway.site.live import Live
from pilotfish.gateway.site.login import login
from pilotfish.gateway.site.page import Page, Seen, render
from pilotfish.gateway.site.request import request
from pilotfish.pages.elements import element

MAX_FORM_BYTES = 16 << 10
MAX_FIELDS = 100
_HTML = (b"content-type", b"text/html; charset=utf-8")
_KINDS = {"csv": (b"content-type", b"text/csv; charset=utf-8"), "json": asgi.JSON}
_STATIC = {
    "site.css": b"text/css; charset=utf-8",
    "site.js": b"text/javascript; charset=utf-8",
    "new.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}
_PAGES: dict[str, Callable[[Seen], Page]] = {
    "/": overview.overview,
    "/overview": overview.overview,
    "/tasks": tasks.tasks,
}
_LISTS: dict[str, Callable[[Seen, int], Page]] = {"/requests": requests.requests, bench.PATH: bench.page}
_ROOTS = frozenset(
    (
        "",
        "overview",
        "tasks",
        "requests",
        "bench",
        "new",
        "compare",
        "inspect",
        "events",
        "graphql",
        "static",
        "login",
        "logout",
    )
)

_Found = TypeVar("_Found")


class Site:
    """The pages of one gateway."""

    def __init__(self, running: Running, door: Door) -> None:
        self._running = running
        self._door = door
        self._attempts = security.Attempts()
        self._thread = ThreadPoolExecutor(1, "pilotfish-pages")
        self._bench = Bench(running)
        self._latest = figures.Live(running)
        self._live = Live(self._figures)
        self._desk = new_task_forms.Desk(running, self._in_thread)
        self._news = Live(self._desk.told)
        folder = files("pilotfish.gateway.site") / "static"
        self._static = {name: (folder / name).read_bytes() for name in _STATIC}

    def has(self, path: str) -> bool:
        """Whether the path is one of the site's, whatever there is at it."""
        return not path.startswith("/v1/") and path[1:].partition("/")[0].partition(".")[0] in _ROOTS

    def end(self) -> None:
        """Let what listens end, since the server does."""
        self._live.end()
        self._news.end()

    def close(self) -> None:
        """Wait for a page that is being made, and make no more."""
        self._thread.shutdown(cancel_futures=True)
        self._latest.close()

    async def answer(
        self, scope: asgi.Message, headers: asgi.ClientHeaders, receive: asgi.Receive, send: asgi.Send
    ) -> None:
        """Answer a request for one of the site's paths. Raises `RequestError` towards programs; people get a page."""
        try:
            await self._answer(scope, headers, receive, send)
        except RequestError as error:
            if not _wants_page(scope):
                raise
            self._running.records.counts.note_error(error.code)
            said = [(name.encode(), value.encode()) for name, value in error.headers]
            body = render(_refused(error), self._seen(scope))
            await asgi.respond(send, error.status, [_HTML, *said, *security.HEADERS], body)

    async def _answer(
        self, scope: asgi.Message, headers: asgi.ClientHeaders, receive: asgi.Receive, send: asgi.Send
    ) -> None:
        path, method = scope["path"], scope["method"]
        if path == graphql.PATH:
            await self._query(scope, headers, receive, send)
        elif method == "POST":
            await self._post(scope, headers, receive, send)
        elif method not in ("GET", "HEAD"):
            raise RequestError(f"The method {method} is not allowed here; use GET.", status=405)
        elif path.startswith("/static/"):
            await self._send_static(path.removeprefix("/static/"), send)
        elif path == "/login":
            await self._send_page(send, login(_query(scope)), self._seen(scope))
        elif not self._may_read(scope, headers):
            await self._turn_away(scope, send)
        elif path == "/events":
            await self._live.listen(security.HEADERS, receive, send)
        elif path == new_task_result.EVENTS:
            await self._news.listen(security.HEADERS, receive, send)
        else:
            await self._get(path, self._seen(scope), send)

    async def _get(self, path: str, seen: Seen, send: asgi.Send) -> None:
        """A page, or the data of one of its tables."""
        stem, dot, kind = path.rpartition(".")
        if dot and kind in _KINDS:
            data = await self._in_thread(partial(_data, stem, kind, seen))
            if data is None:
                raise RequestError(f"There is no table at {path!r}.", status=404)
            await asgi.respond(send, 200, [_KINDS[kind], *security.HEADERS], data)
            return
        body, status = await self._in_thread(partial(_document, path, seen))
        await asgi.respond(send, status, [_HTML, *security.HEADERS], body)

    async def _query(
        self, scope: asgi.Message, headers: asgi.ClientHeaders, receive: asgi.Receive, send: asgi.Send
    ) -> None:
        graphql.check(scope, headers)
        if not self._may_read(scope, headers):
            raise KeyRefusedError
        body = await graphql.read(headers, receive)
        if body is not None:
            found = await self._in_thread(partial(graphql.answer, body, self._seen(scope)))
            await graphql.respond(scope, send, found)

    async def _post(
        self, scope: asgi.Message, headers: asgi.ClientHeaders, receive: asgi.Receive, send: asgi.Send
    ) -> None:
        if not security.is_same_site(headers):
            raise NotAllowedError("This form was sent by another site.", param="origin", hint="Use the gateway's own.")
        path, session = scope["path"], security.cookie(scope["headers"])
        if path == new_task.PATH:
            self._check_session(session)
            taken = await self._desk.take(self._seen(scope), session, asgi.content_type(scope["headers"]), receive)
            await _redirect(send, taken) if taken else None
            return
        is_session = security.is_session(session, self._door.admin_sha256, time.time())
        most_bytes = bench.MAX_BYTES if is_session and path == bench.PATH else MAX_FORM_BYTES
        body = await asgi.read_body(receive, headers.content_length, most_bytes)
        if body is None:
            return
        sent = _fields(body.decode("latin-1"))
        if path == "/login":
            await self._sign_in(scope, sent, send)
            return
        self._check_session(session)
        security.check_csrf(session, sent.get("csrf", ""))
        if path == "/logout":
            await _redirect(send, "/", security.set_cookie(""))
            return
        if path == bench.PATH:
            await self._ask(scope, sent, receive, send)
            return
        if wanted := new_task_forms.read(path):
            found = await self._desk.change(self._seen(scope), *wanted, sent)
            if isinstance(found, Page):
                await self._send_page(send, found, self._seen(scope))
            else:
                await _redirect(send, found)
            return
        goal = await self._in_thread(partial(_carry_out, path, sent, self._seen(scope)))
        if goal is None:
            raise RequestError(f"Nothing can be sent to {path!r}.", status=404)
        await self._running.tasks.refresh()
        await _redirect(send, goal)

    async def _ask(self, scope: asgi.Message, sent: dict[str, str], receive: asgi.Receive, send: asgi.Send) -> None:
        """Ask on the bench; a client that leaves ends the calls."""
        seen, make = self._seen(scope), None
        try:
            system, text, names = bench.read(sent)
            with asgi.Departure(receive):
                run = await self._bench.ask(system, text, names)
                make = partial(bench.answered, seen, sent, run)
        except RequestError as error:
            make = partial(bench.refused, seen, sent, error)
        if make is not None:
            await self._send_page(send, await self._in_thread(make), seen)

    def _check_session(self, session: str) -> None:
        if not security.is_session(session, self._door.admin_sha256, time.time()):
            raise KeyRefusedError

    async def _sign_in(self, scope: asgi.Message, sent: dict[str, str], send: asgi.Send) -> None:
        client = scope.get("client")
        address, now_s = client[0] if client else "", time.time()
        self._attempts.check(address, now_s)
        if not self._door.is_admin(sent.get("key", "").strip().encode()):
            self._attempts.failed(address, now_s)
            await self._send_page(send, login(sent, has_failed=True), self._seen(scope))
            return
        session = security.open_session(self._door.admin_sha256, now_s)
        await _redirect(send, security.local_path(sent.get("next", "/")), security.set_cookie(session))

    def _may_read(self, scope: asgi.Message, headers: asgi.ClientHeaders) -> bool:
        if not self._door.pages_need_admin:
            return True
        session = security.cookie(scope["headers"])
        if session and security.is_session(session, self._door.admin_sha256, time.time()):
            return True
        return bool(headers.credential) and self._door.is_admin(headers.credential)

    async def _turn_away(self, scope: asgi.Message, send: asgi.Send) -> None:
        """To the form for people, with an error for programs."""
        path = scope["path"]
        if path in ("/events", new_task_result.EVENTS) or path.rpartition(".")[2] in _KINDS:
            raise KeyRefusedError
        query = scope["query_string"].decode("latin-1")
        goal = security.local_path(path + ("?" + query if query else ""))
        await _redirect(send, "/login?next=" + quote(goal, safe=""))

    def _seen(self, scope: asgi.Message) -> Seen:
        session, now_s = security.cookie(scope["headers"]), time.time()
        is_admin = bool(session) and security.is_session(session, self._door.admin_sha256, now_s)
        return Seen(
            running=self._running,
            query=_query(scope),
            now_s=now_s,
            csrf=security.csrf(session) if is_admin else "",
            origin=f"{scope.get('scheme', 'http')}://{asgi.read_headers(scope['headers']).host}",
        )

    async def _figures(self) -> bytes:
        def gather() -> bytes:
            now_s = time.time()
            found = self._latest.gather(overview.live_since_s(now_s), now_s)
            return msgspec.json.encode(found.said())

        return await self._in_thread(gather)

    async def _in_thread(self, work: Callable[[], _Found]) -> _Found:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _send_page(self, send: asgi.Send, page: Page, seen: Seen) -> None:
        await asgi.respond(send, page.status, [_HTML, *security.HEADERS], render(page, seen))

    async def _send_static(self, name: str, send: asgi.Send) -> None:
        if name not in self._static:
            raise RequestError(f"There is no file {name!r}.", status=404)
        kept = [header for header in security.HEADERS if header[0] != b"cache-control"]
        headers = [(b"content-type", _STATIC[name]), (b"cache-control", b"max-age=300"), *kept]
        await asgi.respond(send, 200, headers, self._static[name])


def find(path: str, seen: Seen, *, is_data: bool = False) -> Page | None:
    """The page at a path; None where there is none."""
    if path in _PAGES:
        return _PAGES[path](seen)
    if path in _LISTS:
        return _LISTS[path](seen, requests.AS_DATA if is_data else requests.ON_A_PAGE)
    place, _, name = path[1:].partition("/")
    if place == "tasks":
        asked = decisions.read(name)
        if task := retrain.read(name):
            return retrain.confirm(seen, task)
        return decisions.confirm(seen, *asked) if asked else tasks.task(seen, name)
    if place in ("compare", "inspect", "new"):
        return _further(place, name, seen)
    return request(seen, name) if place == "requests" else None


def _carry_out(path: str, sent: dict[str, str], seen: Seen) -> str | None:
    """Do what a form about a task asks for; the path to go to, None where there is nothing such."""
    place, _, name = path[1:].partition("/")
    task, _, last = name.rpartition("/")
    if place != "tasks":
        return None
    if last == "mark":
        return marks.carry_out(seen, task, sent)
    if retrain.read(name):
        return retrain.carry_out(seen, task)
    asked = decisions.read(name)
    return decisions.carry_out(seen, *asked) if asked else None


def _further(place: str, name: str, seen: Seen) -> Page | None:
    if place == "new":
        return new_task.new_task(seen, name) if name else new_task.new_tasks(seen)
    if place == "inspect":
        return None if name else reports.inspected(seen)
    return reports.compare(seen, name)


def _document(path: str, seen: Seen) -> tuple[bytes, int]:
    page = find(path, seen) or _missing(path)
    return render(page, seen), page.status


def _data(stem: str, kind: str, seen: Seen) -> bytes | None:
    """The data of the main table of the page at `stem`, or of the table that its last part names."""
    parent, _, name = stem.rpartition("/")
    for path, table_name in ((stem, ""), (parent, name)):
        page = find(path, seen, is_data=True) if path else None
        table = page.table(table_name) if page is not None else None
        if table is not None:
            return table.csv() if kind == "csv" else table.json()
    return None


def _missing(path: str) -> Page:
    said = element("p", "There is nothing at ", element("code", path), ".")
    return Page(path="", title="Not found", parts=(said,), status=404)


def _refused(error: RequestError) -> Page:
    parts = (element("p", str(error), role="alert"), element("p", element("a", "To the overview", href="/")))
    return Page(path="", title="This was refused", parts=parts, status=error.status)


def _wants_page(scope: asgi.Message) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _query(scope: asgi.Message) -> dict[str, str]:
    return _fields(scope["query_string"].decode("latin-1"))


def _fields(text: str) -> dict[str, str]:
    """The fields of a form or a query. Raises `RequestError` where there are too many."""
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise RequestError("The form has too many fields.") from error


async def _redirect(send: asgi.Send, path: str, *headers: tuple[bytes, bytes]) -> None:
    await asgi.respond(send, 303, [(b"location", path.encode("ascii")), *headers, *security.HEADERS], b"")
