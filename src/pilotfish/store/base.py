"""The protocols of the store: the request log, the registry of what was learnt, virtual keys and their tallies.

The log is append-only and written by one process; readers never block it. The registry holds what
people and the learner decide: modes, certificates, attempts. Neither knows how a task is recognised. Keys stand
beside the registry; what they have used is counted apart, since it changes with every request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, Unpack

from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.key import KeyRecord, Limits
from pilotfish.core.log_row import AuditRow, GradeRow, InstructionsRow, LogRow, RepeatRow, RequestRow, TriedRow
from pilotfish.core.privacy import PrivacyMode
from pilotfish.core.task import AnswerShape, Mode, Template
from pilotfish.store.periods import Period, PeriodFilter, RouteSum


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which request rows: all fields that are set must hold. Times are seconds since the epoch.

    `before_id` is a request: only those that come before it in time, none where it is not known.
    """

    task_id: str = ""
    since_s: float | None = None
    reason: str = ""
    errors_only: bool = False
    limit: int | None = None
    newest_first: bool = False
    before_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCount:
    """How often a task occurs in the log; `n_first` of the `n_local` local answers were the first tier's."""

    task_id: str
    instructions_id: str
    n_requests: int
    n_local: int
    n_reference_known: int
    first_s: float
    last_s: float
    n_first: int


class LogWriter(Protocol):
    """The append side, called on the request path: it must never raise and never wait."""

    def append(self, row: LogRow) -> None:
        """Write one row durably against a kill of the process; a failure is counted as a gap."""

    @property
    def n_gaps(self) -> int:
        """Rows that could not be written since the start (disk full)."""

    def is_writable(self) -> bool:
        """Whether rows can be written now, as far as is known."""

    def close(self) -> None:
        """Flush and close."""


class Log(Protocol):
    """The query side. `AuditRow`s are merged into their request rows (`reference_answer`, sampling)."""

    def rows(self, where: LogFilter) -> Iterator[RequestRow]:
        """Request rows in time order (or newest first), streamed."""

    def row(self, request_id: str) -> RequestRow | None:
        """One request row."""

    def audit(self, request_id: str) -> AuditRow | None:
        """The audit of one request, where there was one."""

    def repeats(self, request_id: str = "") -> list[RepeatRow]:
        """What the reference was asked again, of one request or of all, by request and number."""

    def tried(self, request_id: str = "") -> list[TriedRow]:
        """What smaller models said, to one request or to all, in the order of time."""

    def grades(self, request_id: str = "") -> list[GradeRow]:
        """How answers were graded, those to one request or to all, in the order of time."""

    def collected_usd(self, since_s: float) -> float:
        """What collecting has cost since a time; what was set aside where the cost is not known."""

    def routed(self, since_s: float, until_s: float) -> tuple[int, float | None]:
        """How many requests a route has decided on between two times, and when the first of them came."""

    def instructions(self, instructions_id: str) -> InstructionsRow | None:
        """The shared part of a request."""

    def task_counts(self) -> list[TaskCount]:
        """Per task and instructions, most frequent first."""

    def periods(self, where: PeriodFilter) -> list[Period]:
        """What happened, in order; by model without audits and repeated calls."""

    def route_sums(self, since_s: float, until_s: float | None = None) -> list[RouteSum]:
        """What requests under a route, and finding out about routes, came to, by kind and model; whole hours."""

    def differing(self, task_id: str, limit: int) -> list[RequestRow]:
        """The newest audited requests of a task whose local answer differed from the reference's, newest first."""

    def prune(self, before_s: float) -> int:
        """Delete request rows before a time, with audits and instructions that no request needs; how many went.

        Of repeated and collected calls only the texts go: what a budget has spent stays spent.
        """

    def n_gaps(self) -> int:
        """Rows known to be lost: those that writers reported, and lines that a crash left torn."""

    def reader(self) -> LogReader:
        """The same for one thread that asks often."""


class LogReader(Log, Protocol):
    """A log that is kept open until it is closed. For one thread at a time."""

    def version(self) -> int:
        """Another number after each change by anybody, cheap to poll."""

    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """What is decided about one task. `specialist_sha256` and `certificate_id` are empty where there is none.

    `is_held` says that a person demoted the task: the learner leaves it alone until promoted again. `pace` is
    the learner's state (`guarantees/pace.py`), `audit_state` the auditor's (`guarantees/audit.py`), `drift_state` what
    the scores of the certificate's requests say (`guarantees/drift.py`). `asked_s` is when a person asked for the task
    to be learnt anew, None once that has begun.
    """

    task_id: str
    name: str
    instructions_id: str
    instructions: str
    shape: AnswerShape
    mode: Mode
    specialist_sha256: str = ""
    certificate_id: str = ""
    is_held: bool = False
    audit_state: dict[str, Any] | None = None
    pace: dict[str, Any] | None = None
    drift_state: dict[str, Any] | None = None
    updated_s: float = 0.0
    asked_s: float | None = None


class TaskChanges(TypedDict, total=False):
    """What may change of a task record, a few columns at a time.

    Gateway, learner and people write to the same record; each writes only what it decides, so that no
    one undoes another's change by writing back what it read before.
    """

    shape: AnswerShape
    mode: Mode
    specialist_sha256: str
    certificate_id: str
    is_held: bool
    audit_state: dict[str, Any] | None
    pace: dict[str, Any] | None
    drift_state: dict[str, Any] | None
    asked_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that changed a task: learnt, certified, refused, promoted, demoted, asked, drift, withdrawn."""

    time_s: float
    task_id: str
    kind: str
    message: str
    details: dict[str, Any]


class Registry(Protocol):
    """Tasks, templates, certificates, refusals and events. Certificates stay readable for ever."""

    def version(self) -> int:
        """A number that grows with every change, cheap to poll (also when another process changed it)."""

    def tasks(self) -> list[TaskRecord]:
        """All task records, by name."""

    def task(self, name_or_id: str) -> TaskRecord | None:
        """One task by id or name."""

    def put_task(self, record: TaskRecord) -> None:
        """Insert or replace one task record."""

    def templates(self) -> list[Template]:
        """The learnt templates."""

    def put_templates(self, templates: list[Template]) -> None:
        """Replace the templates."""

    def add_verdict(self, verdict: Certificate | Refusal) -> None:
        """Append a certificate or a refusal."""

    def certificate(self, certificate_id: str) -> Certificate | None:
        """One certificate, however old."""

    def verdicts(self, task_id: str, newest: int | None = None) -> list[Certificate | Refusal]:
        """All verdicts of a task, or the newest so many; oldest first."""

    def verdict_page(
        self, task_id: str = "", *, before: int | None = None, limit: int = -1
    ) -> list[tuple[int, Certificate | Refusal]]:
        """Verdicts with their numbers, newest first, of all tasks where none is named; those before a number."""

    def n_attempts(self, task_id: str) -> int:
        """How many verdicts of this task have spent delta (whatever the outcome)."""

    def update_task(self, task_id: str, **changes: Unpack[TaskChanges]) -> None:
        """Change some columns of one task. Raises `StoreError` where the task is not known."""

    def change_audit(
        self, task_id: str, certificate_id: str, change: Callable[[dict[str, Any] | None], dict[str, Any]]
    ) -> None:
        """Replace the auditor's state of a task in one transaction; nothing where it has another certificate."""

    def adopt(self, certificate: Certificate) -> bool:
        """Let the certificate's specialist serve, in one transaction, so that no reader sees half of it.

        False where a person holds the task back: then the certificate is only kept.
        """

    def add_event(self, event: Event) -> None:
        """Append an event."""

    def events(self, task_id: str = "", limit: int = 100) -> list[Event]:
        """Newest first."""

    def event_counts(self) -> dict[tuple[str, str], int]:
        """How many events there were, by task id and kind."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRecord:
    """A route that was adopted, as JSON objects, with its certificate. `audit_state` is the auditor's
    (`guarantees/audit.py`)."""

    certificate: Certificate
    route: dict[str, Any]
    adopted_s: float
    audit_state: dict[str, Any] | None = None
    withdrawn_s: float | None = None


class Routes(Protocol):
    """The route that decides on open-ended requests: the one adopted last, until it is withdrawn."""

    def version(self) -> int:
        """A number that grows with every change of the registry, cheap to poll."""

    def newest(self) -> RouteRecord | None:
        """The one adopted last, withdrawn or not; an older one never comes back."""

    def adopt(self, certificate: Certificate, route: dict[str, Any]) -> None:
        """Let this route decide from now on.

        Raises `StoreError` where its certificate was withdrawn, or counts fewer attempts than its workload had here.
        """

    def change_audit(self, certificate_id: str, change: Callable[[dict[str, Any] | None], dict[str, Any]]) -> None:
        """Replace the auditor's state in one transaction; nothing where the route is no longer in force."""

    def withdraw(self, certificate_id: str, message: str) -> bool:
        """End the route for good, and say why in an event; False where it was not in force."""

    def close(self) -> None:
        """Close the connection."""


class Keys(Protocol):
    """Virtual keys, by their hashes, and the admin key's."""

    def version(self) -> int:
        """A number that grows with every change, cheap to poll (also when another process changed it)."""

    def all(self) -> list[KeyRecord]:
        """All keys, by name, those that were revoked or have expired included."""

    def get(self, name: str) -> KeyRecord:
        """The key of that name or id. Raises `TaskError` naming those there are."""

    def create(
        self,
        name: str,
        sha256: str,
        *,
        models: Sequence[str],
        limits: Limits,
        expires_s: float | None,
        privacy: PrivacyMode = "allow",
    ) -> KeyRecord:
        """A new key. Raises `StoreError` where the name is taken."""

    def rotate(self, key_id: str, sha256: str) -> None:
        """Give a key another secret; the old one is void at once."""

    def revoke(self, key_id: str) -> None:
        """Void a key."""

    def delete(self, key_id: str) -> None:
        """Forget a key."""

    def admin_sha256(self) -> str:
        """The hash of the admin key, empty where there is none."""

    def set_admin(self, sha256: str) -> None:
        """Replace the admin key; an empty hash removes it."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceeded:
    """A limit that a request would exceed: its name, what is used (reservations included), and its value."""

    limit: str
    used: float
    value: float


class Tallies(Protocol):
    """What each key has used, in all processes of a home. Reserving and settling are called on the request path."""

    def count_request(self, key: KeyRecord, now_s: float) -> Exceeded | None:
        """Count one request, unless a limit on requests forbids it."""

    def reserve(
        self, key: KeyRecord, now_s: float, *, tokens: int, usd: float, least: tuple[int, float]
    ) -> Exceeded | None:
        """Hold tokens and money until they are settled, unless `least` of them exceeds what a limit has left."""

    def settle(self, key: KeyRecord, now_s: float, *, held: tuple[int, float], used: tuple[int, float]) -> None:
        """Give back what was held, and count what was used."""

    def used(self, key: KeyRecord, now_s: float, count: str) -> float:
        """What stands in one count of a key now, such as `usd_per_day`."""

    def refresh(self) -> None:
        """Take notice of other processes: those that have begun, and what those that were killed still hold."""

    def flush(self) -> None:
        """Guard what was counted against a power loss; takes milliseconds, safe from any thread."""

    def close(self) -> None:
        """Let go of the files; what was counted stays."""
