"""The columns of an uploaded table of examples: what they are called, what they seem to hold, and what becomes of rows.

A row becomes an exchange through the same reader as recorded traffic, so that the same complaints come of it, and
through the gate of `[privacy]`. Rows that are conversations or logged requests already need no columns. Nothing of the
file is trusted: its size is bounded where it is received, a row that cannot be read is told with its line.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from pilotfish.core.errors import DataError, UserError
from pilotfish.evals.files import Row, contents
from pilotfish.store.traffic_formats import (
    ANSWER_KEYS,
    INPUT_KEYS,
    TIME_KEYS,
    Exchange,
    RowError,
    parse_time_s,
    read_row,
)
from pilotfish.tasks.find import MAX_ROWS

MOST_COLUMNS = 200
_LOOKED_AT = 200
"""Rows by which the columns are guessed."""

_FORMS = "CSV needs a first line that names its columns; JSON lines need one object a line with the same keys."
_RECORDED = frozenset(("messages", "request", "conversation", "conversations", "choices"))
_INPUTS = (*INPUT_KEYS, "message", "sentence", "body", "content", "utterance")
_ANSWERS = (*ANSWER_KEYS, "class", "category", "intent", "target", "tag", "result")
_TIMES = (*TIME_KEYS, "date", "datetime", "when", "sent at")

Order = Literal["file", "any"]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which column is what. `order` says whether that of the file means anything where no column holds times."""

    input: str = ""
    answer: str = ""
    time: str = ""
    order: Order = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """An uploaded table. `columns` is empty where each row is an exchange by itself."""

    rows: Sequence[Row]
    columns: tuple[str, ...]

    @property
    def is_recorded(self) -> bool:
        """Whether rows are recorded exchanges, which need no columns."""
        return not self.columns

    def first(self, n: int) -> list[tuple[int, dict[str, Any]]]:
        """Lines and contents of the first `n` rows that could be read."""
        found = [(row.line, row.content) for row in self.rows if isinstance(row.content, dict)]
        return found[:n]


@dataclass(slots=True, kw_only=True)
class Converted:
    """What became of the rows: written, withheld by `[privacy]`, or unreadable for a reason each."""

    n_written: int = 0
    n_withheld: int = 0
    unreadable: list[tuple[int, str]] = field(default_factory=list)


def read_sheet(path: Path) -> Sheet:
    """The table in a file. Raises `DataError` where it holds no row, too many rows or columns, or no text."""
    try:
        found = islice(contents(path), MAX_ROWS + 1)
        rows = [Row(content=content, file="", line=line) for line, content in found]
    except UserError as error:
        # Where it lies here is nothing to whoever uploaded it.
        raise DataError(error.message.replace(repr(str(path)), "The file"), hint=error.hint) from error
    if not rows:
        raise DataError("The file holds no row.", hint=_FORMS)
    if len(rows) > MAX_ROWS:
        raise too_many("more")
    columns: dict[str, None] = {}
    for row in rows[:_LOOKED_AT]:
        if isinstance(row.content, list):
            return Sheet(rows=rows, columns=())
        if isinstance(row.content, dict):
            columns.update(dict.fromkeys(map(str, row.content)))
    if _RECORDED & columns.keys():
        return Sheet(rows=rows, columns=())
    if len(columns) < 2 or len(columns) > MOST_COLUMNS:
        why = next((str(row.content) for row in rows if isinstance(row.content, RowError)), "")
        raise DataError(
            f"Expected rows with 2 to {MOST_COLUMNS} columns, got {len(columns)}{f' ({why})' if why else ''}.",
            hint=_FORMS,
        )
    return Sheet(rows=rows, columns=tuple(columns))


def too_many(got: str) -> DataError:
    """The error for a file of too many rows."""
    return DataError(
        f"Expected at most {MAX_ROWS:,} rows, got {got}.",
        hint="Upload the newest of them, or a random sample; learning looks at no more.",
    )


def guess(sheet: Sheet) -> Choice:
    """What the columns seem to be, by their names, else by what they hold."""
    if sheet.is_recorded:
        return Choice()
    by_name = {name.strip().lower(): name for name in sheet.columns}
    answer, asked, time = (_named(by_name, names) for names in (_ANSWERS, _INPUTS, _TIMES))
    rows = [content for _, content in sheet.first(_LOOKED_AT)]
    free = [name for name in sheet.columns if name not in (answer, asked, time)]
    if not asked:
        asked = max(free, key=lambda name: sum(len(str(row.get(name, ""))) for row in rows), default="")
        free = [name for name in free if name != asked]
    if not answer:
        n_values = {name: len({str(row.get(name)) for row in rows}) for name in free}
        answer = min(free, key=lambda name: (n_values[name] < 2, n_values[name]), default="")
    return Choice(input=asked, answer=answer, time=time)


def convert(
    sheet: Sheet, choice: Choice, instructions: str, admit: Callable[[Exchange], Exchange | None], to: Path
) -> Converted:
    """Write the rows as recorded traffic to a file, in random order where theirs means nothing.

    The order drawn is the same for the same rows, so that starting again teaches and tests with the same ones.
    """
    done, lines = Converted(), []
    for row in sheet.rows:
        try:
            exchange = admit(_exchange(row, choice, instructions, is_recorded=sheet.is_recorded))
        except RowError as error:
            done.unreadable.append((row.line, str(error)))
            continue
        if exchange is None:
            done.n_withheld += 1
        else:
            lines.append(_line(exchange))
    if choice.order == "any" and not choice.time:
        random.Random(len(lines)).shuffle(lines)
    done.n_written = len(lines)
    to.write_bytes(b"".join(lines))
    return done


def _exchange(row: Row, choice: Choice, instructions: str, *, is_recorded: bool) -> Exchange:
    """The exchange in a row. Raises `RowError` saying what was expected and what came."""
    content = row.content
    if isinstance(content, RowError):
        raise content
    if is_recorded:
        return read_row(content, line=row.line, instructions=instructions)
    if not isinstance(content, dict):
        raise RowError(f"expected an object with the columns, got {str(content)[:60]!r}")
    asked, answer = (_cell(content, name) for name in (choice.input, choice.answer))
    if not isinstance(asked, str):
        raise RowError(f"expected text in the column {choice.input!r}, got {str(asked)[:60]!r}")
    read: dict[str, Any] = {"input": asked, "output": answer, "instructions": instructions}
    if choice.time:
        read["time"] = _cell(content, choice.time)
        if parse_time_s(read["time"]) is None:
            raise RowError(f"expected a time in the column {choice.time!r}, got {str(read['time'])[:60]!r}")
    return read_row(read, line=row.line)


def _cell(content: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - JSON
    value = content.get(name)
    if value is None or value == "":
        raise RowError(f"expected something in the column {name!r}, got nothing")
    return value


def _line(exchange: Exchange) -> bytes:
    kept: dict[str, object] = {
        "messages": exchange.request.messages,
        "output": exchange.answer,
        "model": exchange.model,
    }
    if exchange.time_s is not None:
        kept["time_s"] = exchange.time_s
    return msgspec.json.encode(kept) + b"\n"


def _named(by_name: dict[str, str], names: Sequence[str]) -> str:
    return next((by_name[name] for name in names if name in by_name), "")
