"""The rows of data files: JSON lines, JSON, CSV, TSV and Parquet, of one file or of a folder, with where each stood.

It opens and splits; what a row means stands in `layouts.py`. A file's split is told from its name or its folder's
("test.jsonl", "anatomy_test.csv", "test/anatomy.csv", "train-00000-of-00001.parquet"), a row's own `split` column
going first. The CSV files of MMLU have no header and are known by their shape. Only this file imports pyarrow, the
extra `data`.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.core.errors import DataError, MissingExtraError
from pilotfish.store.traffic import read_rows
from pilotfish.store.traffic_formats import RowError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_ABOUT = re.compile(r"(dataset_infos?|state|manifest|baselines|config|package)\.json")
_SPLIT = re.compile(r"(?:^|[_\-.])(train|training|test|testing|dev|val|valid|validation)(?=[_\-.]|$)")
_SPLIT_NAMES = {"training": "train", "testing": "test", "val": "dev", "valid": "dev", "validation": "dev"}
_MMLU_COLUMNS = ["question", "A", "B", "C", "D", "answer"]
_MAX_FIELD = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row as read. `content` is a `RowError` where it could not be; `subject` is the file's name but its split."""

    content: object
    file: str
    line: int
    split: str = ""
    subject: str = ""

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.file}, line {self.line}" if self.file else f"row {self.line}"


def split_name(name: str) -> str:
    """One word for the names in which a split goes: train, test, dev, or the name itself."""
    plain = name.strip().lower()
    return _SPLIT_NAMES.get(plain, plain)


def file_rows(path: Path) -> list[Row]:
    """The rows of a file, or of all data files in a folder. Raises `DataError` where there are none."""
    rows = []
    for file in data_files(path):
        stem = _stem(file.name)
        named = _SPLIT.search(stem) or (_SPLIT.fullmatch(file.parent.name) if path.is_dir() else None)
        split = split_name(named[1]) if named else ""
        subject = _SPLIT.sub("", stem).strip("_-.")
        rows += [
            Row(content=content, file=file.name, line=line, split=_own_split(content) or split, subject=subject)
            for line, content in contents(file)
        ]
    if not rows:
        raise DataError(f"{str(path)!r} holds no row.")
    return rows


def data_files(path: Path) -> list[Path]:
    """The file, or the data files of a folder and its subfolders in order of name."""
    if not path.is_dir():
        if not path.is_file():
            raise DataError(f"There is no file or folder {str(path)!r}.")
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and file.name.removesuffix(".gz").endswith(SUFFIXES) and not _ABOUT.fullmatch(file.name)
    )
    if not found:
        raise DataError(
            f"The folder {str(path)!r} holds no data file.", hint=f"Known are {', '.join(SUFFIXES)}, or .gz."
        )
    return found


def _stem(name: str) -> str:
    bare = name.removesuffix(".gz")
    return next((bare.removesuffix(suffix) for suffix in SUFFIXES if bare.endswith(suffix)), bare)


def _own_split(content: object) -> str:
    split = content.get("split") if isinstance(content, dict) else None
    return split_name(split) if isinstance(split, str) else ""


def contents(file: Path) -> Iterator[tuple[int, object]]:
    """Line and content of each row of one file, by its name; `RowError` for what is no row. Raises as `file_rows`."""
    kind = Path(file.name.removesuffix(".gz")).suffix
    if kind == ".parquet":
        return enumerate(_parquet(file), start=1)
    if kind in (".csv", ".tsv"):
        return _separated(file, "\t" if kind == ".tsv" else ",")
    return read_rows(file)


def _separated(file: Path, delimiter: str) -> Iterator[tuple[int, object]]:
    """Line and content of each record; the first names the columns, but in MMLU's files."""
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{str(file)!r} cannot be read: {error}.", hint="Expected UTF-8 text.") from error
    csv.field_size_limit(_MAX_FIELD)
    head = text.partition("\n")[0]
    if delimiter == "," and ";" in head and "," not in head:
        delimiter = ";"  # what spreadsheets write where the comma is the decimal point
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    try:
        for record in reader:
            if not columns:
                columns = record
                if len(record) != len(_MMLU_COLUMNS) or record[-1] not in ("A", "B", "C", "D"):
                    continue
                columns = _MMLU_COLUMNS
            if record:
                yield reader.line_num, _record(columns, record)
    except csv.Error as error:
        yield reader.line_num, RowError(f"not CSV ({error})")


def _record(columns: list[str], record: list[str]) -> object:
    if len(record) != len(columns):
        return RowError(f"{len(record)} fields for the {len(columns)} columns {', '.join(columns[:8])}")
    return dict(zip(columns, record, strict=True))


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("data", "pyarrow") from error
    try:
        rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{str(file)!r} cannot be read as Parquet: {error}.") from error
    return rows
