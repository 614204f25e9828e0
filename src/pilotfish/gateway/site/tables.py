"""Tables of the pages: one set of rows, shown as HTML, or fetched as CSV or JSON.

A spreadsheet takes a cell for a formula that begins with `=`, `+`, `-` or `@`, and would run what a stranger wrote
into a request: such texts get an apostrophe in front (OWASP's rule for CSV injection). Numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pilotfish.gateway.site import words
from pilotfish.pages.elements import Child, Html, element

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: the key of its values in the rows, its head, and how a value is shown (as it is where unset)."""

    key: str
    head: str
    show: Callable[[Any], Child] | None = None
    is_number: bool = False
    is_text: bool = False

    @property
    def kind(self) -> str | None:
        """The class of its cells."""
        return "number" if self.is_number else "text" if self.is_text else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a caption. `name` tells its data from those of the page's other tables, empty for the main one.

    Keys that no column shows are in the data only. `query` is what the data's address has behind it. `none` is what is
    shown in place of no rows.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    none: str
    query: str = ""

    def html(self, path: str) -> Html:
        """The table, with the addresses of its data; `path` is that of its page."""
        if not self.rows:
            return element("section", element("h2", self.caption), element("p", self.none, class_="soft"))
        heads = [element("th", c.head, scope="col", class_=c.kind) for c in self.columns]
        table = element(
            "table",
            element("caption", self.caption, class_="unseen"),
            element("thead", element("tr", heads)),
            element("tbody", [element("tr", self._cells(row)) for row in self.rows]),
        )
        base = f"{path}/{self.name}" if self.name else path
        links = [
            element(
                "a", kind.upper(), href=f"{base}.{kind}{self.query}", aria_label=f"{self.caption} as {kind.upper()}"
            )
            for kind in ("csv", "json")
        ]
        return element(
            "section",
            element("h2", self.caption),
            element("div", table, class_="scroll", tabindex=0, role="group", aria_label=self.caption),
            element("p", "Data: ", links[0], " ", links[1], class_="data"),
        )

    def _cells(self, row: Row) -> list[Html]:
        cells = []
        for position, column in enumerate(self.columns):
            value = row[column.key]
            shown = words.NONE if value is None else column.show(value) if column.show else str(value)
            name, scope = ("th", "row") if position == 0 else ("td", None)
            cells.append(element(name, shown, scope=scope, class_=column.kind))
        return cells

    def json(self) -> bytes:
        """The rows as a JSON array of objects."""
        return msgspec.json.encode(self.rows)

    def csv(self) -> bytes:
        """The rows as CSV (RFC 4180) with one line of names."""
        keys = list(self.rows[0]) if self.rows else [column.key for column in self.columns]
        file = io.StringIO(newline="")
        writer = csv.writer(file)
        writer.writerow(keys)
        writer.writerows([_cell(row[key]) for key in keys] for row in self.rows)
        return file.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return "'" + text if text.startswith(_FORMULA) else text
