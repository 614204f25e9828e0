"""What a page is: its parts, its tables, and the frame around them; and what it is made from.

A page is a function of `Seen`, run in a thread. It only reads; what may be shown of texts is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from pilotfish.gateway.running import Running
from pilotfish.gateway.site.tables import Table
from pilotfish.pages.elements import Child, Html, element, fragment

NOT_KEPT = "(not kept)"
_PLACES = (
    ("/", "Overview"),
    ("/tasks", "Tasks"),
    ("/requests", "Requests"),
    ("/bench", "Bench"),
    ("/new", "New task"),
    ("/compare", "Compare"),
    ("/inspect", "Inspect"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a page is made from: the gateway, the query of the address, the time, and who looks.

    `csrf` is the token that every form of this visitor must bring back, empty where nothing may be changed. `origin` is
    where the visitor reached the gateway, such as `http://127.0.0.1:8710`.
    """

    running: Running
    query: Mapping[str, str]
    now_s: float
    csrf: str = ""
    origin: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether this visitor may change something."""
        return bool(self.csrf)

    @property
    def keeps_text(self) -> bool:
        """Whether texts may be shown: where the settings no longer keep any, older ones are hidden too."""
        return self.running.records.rows.keeps_text

    def text(self, text: str | None) -> str:
        """A text of a request as it may be shown."""
        return text if text is not None and self.keeps_text else NOT_KEPT

    def data(self, text: str | None) -> str | None:
        """The same for data, where what is not kept is null."""
        return text if self.keeps_text else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page before its frame. `path` is what the addresses of its tables begin with; `scripts` are files of ours that
    it works without."""

    path: str
    title: str
    parts: tuple[Child, ...]
    tables: tuple[Table, ...] = ()
    status: int = 200
    is_live: bool = False
    scripts: tuple[str, ...] = ()

    def table(self, name: str) -> Table | None:
        """The table of that name."""
        return next((table for table in self.tables if table.name == name), None)


def render(page: Page, seen: Seen) -> bytes:
    """The whole document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{page.title} - Pilotfish"),
        element("link", rel="stylesheet", href="/static/site.css"),
        element("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
        element("script", src="/static/site.js", defer=True) if page.is_live else None,
        [element("script", src=f"/static/{name}", defer=True) for name in page.scripts],
    )
    links = [_link(path, name, page.path) for path, name in _PLACES]
    body = element(
        "body",
        element("a", "Skip to content", href="#content", class_="skip"),
        element(
            "header",
            element("a", "Pilotfish", href="/", class_="name"),
            element("nav", element("ul", [element("li", link) for link in links]), aria_label="Pages"),
            _visitor(seen),
        ),
        element("main", element("h1", page.title), page.parts, id="content", tabindex=-1),
        data_live=page.is_live,
    )
    return fragment(Html("<!doctype html>\n"), element("html", head, body, lang="en"), "\n").encode("utf-8", "replace")


def task_path(name: str) -> str:
    """The address of a task's page."""
    return "/tasks/" + quote(name, safe="")


def form(path: str, seen: Seen, *children: Child) -> Html:
    """A form that changes something, with the visitor's token."""
    token = element("input", type="hidden", name="csrf", value=seen.csrf)
    return element("form", token, children, method="post", action=path)


def _link(path: str, name: str, current: str) -> Html:
    is_here = current == (path if path != "/" else "/overview")
    is_below = path != "/" and current.startswith(path + "/")
    return element("a", name, href=path, aria_current="page" if is_here else "true" if is_below else None)


def _visitor(seen: Seen) -> Html:
    if seen.is_admin:
        return form("/logout", seen, element("button", "Sign out", type="submit"))
    return element("a", "Sign in", href="/login")
