"""The file of a run: one JSON object a line, only ever appended to, so that a killed run goes on where it stopped.

The first line says what was asked (hashes of data, prompts and scorer). Then follow lines of four kinds: `model` (what
answers, with its hash), `answer` (one per item, model, repeat and variant), `score` (of an answer that was written
before it was known) and `session` (one uninterrupted stretch of work: wall time, memory, energy). Each is written whole
by one system call. A torn last line is cut off when the file is opened again; a file of other data, prompts, scorer or
model is refused, since its rows would be mixed silently.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pilotfish.core.errors import ConfigError, StoreError
from pilotfish.core.ids import fingerprint

FORMAT = 1
KIND = "pilotfish-compare"
LOCK_WAIT_S = 0.5


class Head(msgspec.Struct, kw_only=True):
    """What was asked. Equal heads may share a file. `source` is what `--on` named, as it was typed."""

    data: str
    data_sha256: str
    prompts_sha256: str
    scorer: str
    n_items: int
    sampling: str = ""
    source: str = ""
    kind: str = KIND
    format: int = FORMAT
    environment: dict[str, str] = {}

    @property
    def id(self) -> str:
        """Eight characters that differ where the answers may not be mixed."""
        return fingerprint(self.data_sha256, self.prompts_sha256, self.scorer, self.sampling)[:8]


class ModelRow(msgspec.Struct, kw_only=True, tag_field="row", tag="model"):
    """What answers. `price` are US dollars per million tokens in and out, with source and date."""

    name: str
    kind: str
    spec: str
    sha256: str
    is_local: bool
    price: str = ""


class AnswerRow(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="row", tag="answer"):
    """One answer to one item. Times in seconds; `gaps_ms` are milliseconds between content chunks.

    `time_s` is when the call was meant to be sent (seconds since the epoch). Unknown is None. `cluster` is the item's,
    so that the file alone tells which items are not independent. `verdicts` are those of the model that judged it, in
    the order given and swapped; empty where nobody did.
    """

    model: str
    item: str
    cluster: str = ""
    repeat: int = 0
    variant: str = ""
    answer: str = ""
    score: float = 0.0
    failure: str = ""
    note: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    ttft_s: float | None = None
    latency_s: float | None = None
    gaps_ms: list[float] = []
    certainty: float | None = None
    is_escalated: bool | None = None
    time_s: float = 0.0
    error: str = ""
    finish_reason: str = ""
    is_scored: bool = True
    verdicts: list[str] = []

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What there is one answer of."""
        return self.model, self.item, self.repeat, self.variant


class ScoreRow(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="row", tag="score"):
    """The score of an answer that was written before it."""

    model: str
    item: str
    repeat: int = 0
    variant: str = ""
    score: float = 0.0
    failure: str = ""
    note: str = ""
    verdicts: list[str] = []

    @property
    def key(self) -> tuple[str, str, int, str]:
        """The answer that it belongs to."""
        return self.model, self.item, self.repeat, self.variant


class SessionRow(msgspec.Struct, kw_only=True, tag_field="row", tag="session"):
    """One stretch of work on one model. `readings` are those of the meters, as `meters.base.Reading`."""

    model: str
    started_s: float
    wall_s: float
    load_s: float
    n: int
    completion_tokens: int | None
    load: str
    warm_up: int
    is_whole: bool
    readings: list[dict[str, Any]] = []


Row = ModelRow | AnswerRow | ScoreRow | SessionRow
Key = tuple[str, str, int, str]
_rows = msgspec.json.Decoder(Row)
_heads = msgspec.json.Decoder(Head)
_encode = msgspec.json.Encoder().encode


class RunFile:
    """An open run file; `answers` holds what it already has. Use as a context manager.

    One process writes at a time; a second one is refused.
    """

    def __init__(self, path: Path, head: Head) -> None:
        """Raises `ConfigError` where the file belongs to another run, `StoreError` where it is in use or broken."""
        self.path = path
        self.models: dict[str, ModelRow] = {}
        self.answers: dict[Key, AnswerRow] = {}
        self.sessions: list[SessionRow] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if not _locked(self._file):
            os.close(self._file)
            raise StoreError(f"Another process is writing {path.name}.", hint="Wait for it, or name another --run.")
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self._file)
            self.head = self._read(head)
            undo.pop_all()
        self.n_found = len(self.answers)

    def __enter__(self) -> RunFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def add_model(self, row: ModelRow) -> None:
        """Enter a model. Raises `ConfigError` where another model of that name has answered here."""
        known = self.models.get(row.name)
        if known is None:
            self._write(row)
        elif known.sha256 != row.sha256:
            raise ConfigError(
                f"{row.name!r} is another model now than the one whose answers are in {self.path.name}.",
                hint="Give it another name (NAME=MODEL), or begin anew with --fresh.",
            )
        self.models[row.name] = row

    def add_answer(self, row: AnswerRow) -> None:
        """Append one answer."""
        self._write(row)
        self.answers[row.key] = row

    def add_score(self, row: ScoreRow) -> None:
        """Append the score of an answer that is there."""
        self._write(row)
        enter(self.answers, row)

    def add_session(self, row: SessionRow) -> None:
        """Append one stretch of work."""
        self._write(row)
        self.sessions.append(row)

    def catch_up(self) -> None:
        """Read again what is in the file, after another process of this run has written to it."""
        _, _, rest = self.path.read_bytes().partition(b"\n")
        self._take(rest)

    def _write(self, row: Row) -> None:
        os.write(self._file, _encode(row) + b"\n")

    def _read(self, head: Head) -> Head:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.ftruncate(self._file, len(whole))
        if not whole:
            os.write(self._file, _encode(head) + b"\n")
            return head
        first, _, rest = whole.partition(b"\n")
        found = _head(first, self.path.name)
        _check(found, head, self.path.name)
        self._take(rest)
        return found

    def _take(self, data: bytes) -> None:
        self.sessions = []
        for row in _decoded(data, self.path.name):
            if isinstance(row, ModelRow):
                self.models[row.name] = row
            elif isinstance(row, SessionRow):
                self.sessions.append(row)
            else:
                enter(self.answers, row)


def enter(answers: dict[Key, AnswerRow], row: AnswerRow | ScoreRow) -> None:
    """Put an answer, or the score of one, among the `answers`."""
    if isinstance(row, AnswerRow):
        answers.setdefault(row.key, row)
    elif (known := answers.get(row.key)) is not None:
        answers[row.key] = msgspec.structs.replace(
            known, score=row.score, failure=row.failure, note=row.note, verdicts=row.verdicts, is_scored=True
        )


def _locked(file: int) -> bool:
    """Whether the file is ours alone; the model's process of a run that was killed ends a moment after it."""
    deadline_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.02)
        else:
            return True


def read_head(path: Path) -> Head:
    """What was asked in a run file that nobody writes. Raises `StoreError` where it is none."""
    with path.open("rb") as file:
        return _head(file.readline(), path.name)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a run file that nobody writes. Raises `StoreError` where it is none."""
    first, _, rest = path.read_bytes().partition(b"\n")
    _head(first, path.name)
    return _decoded(rest[: rest.rfind(b"\n") + 1], path.name)


def _decoded(data: bytes, name: str) -> Iterator[Row]:
    for number, line in enumerate(data.splitlines(), start=2):
        try:
            yield _rows.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{name}, line {number} is no row of a run: {error}.") from error


def _head(line: bytes, name: str) -> Head:
    try:
        head = _heads.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{name} is no run file: {error}.", hint="Name another file with --run.") from error
    if head.kind != KIND or head.format > FORMAT:
        raise StoreError(f"{name} is a {head.kind} file of format {head.format}; this version reads {KIND} {FORMAT}.")
    return head


def _check(found: Head, asked: Head, name: str) -> None:
    for field, what in (
        ("data_sha256", "other data"),
        ("prompts_sha256", "other prompts, or another choice of items"),
        ("scorer", "another scorer"),
        ("sampling", "another temperature or token limit"),
    ):
        if getattr(found, field) != getattr(asked, field):
            raise ConfigError(
                f"{name} was begun with {what}.",
                hint="Name another file with --run, or begin anew with --fresh.",
            )
