"""Reads the traffic a user has on file: what was asked, what was answered, in time order.

It opens files (JSON lines, one JSON array, gzipped, standard input), numbers their rows, joins the two files of
the batch API and orders the result; the formats of a row stand in `traffic_formats.py`. A row that cannot be
read is reported with its line and the reason, never dropped. Recorded traffic is read whole: what is made of it
(a backtest) needs all of it in time order.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from pilotfish.core.errors import TrafficError
from pilotfish.store.traffic_formats import Exchange, RowError, is_conversation, read_row

__all__ = ["Exchange", "Traffic", "Unreadable", "read_rows", "read_traffic"]

EXPECTED = (
    'one JSON object a line, such as {"input": ..., "output": ...}, {"messages": [..., the answer last]} '
    'or {"request": ..., "response": ...}'
)
_SUFFIXES = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz")
_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_BOM = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A row that could not be read. `file` is empty where only one file was given."""

    line: int
    why: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.file + ', ' if self.file else ''}line {self.line}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a traffic file holds. Either every exchange has a time, and they are sorted by it, or none has.

    `format` names the formats met, the most frequent first.
    """

    exchanges: list[Exchange]
    unreadable: list[Unreadable]
    format: str


@dataclass(slots=True)
class _Collected:
    """The rows of all files so far; those of the batch API wait for their other half."""

    exchanges: list[Exchange] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    batch_requests: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    batch_answers: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)


def read_traffic(path: str | Path | Sequence[str | Path], *, instructions: str = "") -> Traffic:
    """The exchanges recorded in a file, a folder, several files, or standard input (`-`).

    `instructions` become the system message of rows that are bare input/output pairs. The order is by time where every
    row states one, else that of the file; the batch API's rows keep the order of the input file, since its output
    is in no order and its `created` is when the batch was worked off. Raises `TrafficError` where nothing is usable.
    """
    paths = _files([path] if isinstance(path, str | Path) else path)
    collected = _Collected()
    for file in paths:
        name = str(file) if len(paths) > 1 else ""
        for line, row in read_rows(file):
            _collect(collected, name, line, row, instructions)
    _join_batch(collected)
    if not collected.exchanges:
        raise TrafficError(_nothing_usable(paths, collected.unreadable))
    formats = Counter(exchange.format for exchange in collected.exchanges)
    return Traffic(
        exchanges=_in_time_order(collected.exchanges),
        unreadable=sorted(collected.unreadable, key=lambda row: (row.file, row.line)),
        format=", ".join(name for name, _ in formats.most_common()),
    )


def read_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Line and content of each row of a JSON or JSON lines file, gzipped or not; `RowError` for what is no JSON.

    Raises `TrafficError` where the file cannot be read.
    """
    return _rows(_content(path))


def _collect(collected: _Collected, file: str, line: int, row: object, instructions: str) -> None:
    if isinstance(row, dict) and "custom_id" in row and "request" not in row:
        if "body" in row:
            collected.batch_requests.append((file, line, row))
            return
        if "response" in row or "error" in row:
            collected.batch_answers.append((file, line, row))
            return
    try:
        if isinstance(row, RowError):
            raise row
        collected.exchanges.append(read_row(row, line=line, instructions=instructions))
    except RowError as error:
        collected.unreadable.append(Unreadable(line=line, why=str(error), file=file))


def _join_batch(collected: _Collected) -> None:
    """Join requests and answers of the batch API by `custom_id`, in the order of the requests."""
    n_requests = Counter(str(row["custom_id"]) for _, _, row in collected.batch_requests)
    n_answers = Counter(str(row["custom_id"]) for _, _, row in collected.batch_answers)
    answers = {str(row["custom_id"]): row for _, _, row in collected.batch_answers}
    for file, line, row in collected.batch_requests:
        key = str(row["custom_id"])
        try:
            if n_requests[key] > 1 or n_answers[key] > 1:
                raise RowError(f"custom_id {key!r} occurs more than once; read one batch at a time")
            if key not in answers:
                raise RowError(f"no answer with custom_id {key!r}; give the batch's output file as well")
            exchange = read_row(_batch_row(row, answers[key]), line=line)
            collected.exchanges.append(replace(exchange, format="batch files"))
        except RowError as error:
            collected.unreadable.append(Unreadable(line=line, why=str(error), file=file))
    for file, line, row in collected.batch_answers:
        if str(row["custom_id"]) not in n_requests:
            why = f"no request with custom_id {row['custom_id']!r}; give the batch's input file as well"
            collected.unreadable.append(Unreadable(line=line, why=why, file=file))


def _batch_row(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Both halves as one request-and-response row, with a time only where the request states one."""
    response = answer.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    if isinstance(body, dict):
        body = {key: value for key, value in body.items() if key != "created"}
    else:
        body = {"error": answer.get("error") or "no body"}
    return {**request, "request": request["body"], "response": body}


def _in_time_order(exchanges: list[Exchange]) -> list[Exchange]:
    times = [exchange.time_s for exchange in exchanges]
    if None in times:
        return [replace(exchange, time_s=None) if exchange.time_s is not None else exchange for exchange in exchanges]
    return sorted(exchanges, key=lambda exchange: exchange.time_s or 0.0)


def _files(paths: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES))
            if not inside:
                raise TrafficError(f"The folder {str(path)!r} holds no file ending in {', '.join(_SUFFIXES)}.")
            files += inside
        else:
            files.append(path)
    return files


def _content(path: Path) -> bytes:
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
    except FileNotFoundError as error:
        raise TrafficError(f"There is no file {str(path)!r}.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TrafficError(f"{str(path)!r} cannot be decompressed: {error}.") from error
    except OSError as error:
        raise TrafficError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    return data.removeprefix(_UTF8_BOM)


def _rows(data: bytes) -> Iterator[tuple[int, object]]:
    """Number and content of each row; a line that is no JSON comes as the `RowError` that says so.

    A file that is one JSON document is told from JSON lines by its content: it has a single line, or its
    first line is no JSON by itself.
    """
    lines = [(number, line) for number, line in enumerate(data.splitlines(), start=1) if line.strip()]
    is_document = len(lines) == 1 or (bool(lines) and isinstance(_decoded(lines[0][1]), RowError))
    document = _decoded(data) if is_document else None
    if document is None or isinstance(document, RowError):
        yield from ((number, _decoded(line)) for number, line in lines)
    else:
        yield from enumerate(_unwrapped(document), start=1)


def _unwrapped(document: object) -> list[object]:
    """The rows in one JSON document: a list of them, a page of the API's list, or the one row that it is."""
    if isinstance(document, dict) and document.get("object") == "list" and isinstance(document.get("data"), list):
        document = document["data"]
    if isinstance(document, list) and not is_conversation(document):
        return document
    return [document]


def _decoded(text: bytes) -> object:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return RowError(f"not JSON ({error})")


def _nothing_usable(paths: list[Path], unreadable: list[Unreadable]) -> str:
    names = ", ".join(repr(str(path)) for path in paths)
    if not unreadable:
        return f"{names} is empty: expected {EXPECTED}."
    first = "; ".join(map(str, unreadable[:3]))
    return f"No usable row in {names}: expected {EXPECTED}. Rows that cannot be read: {len(unreadable)}. First {first}."
