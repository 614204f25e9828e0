"""The promises of `Registry`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.errors import StoreError
from pilotfish.core.task import AnswerShape, Field, Template
from pilotfish.store.base import Event, Registry, TaskRecord
from pilotfish.store.build import open_registry
from pilotfish.store.sqlite_file import migrate
from pilotfish.store.sqlite_registry import MIGRATIONS, SqliteRegistry

CLAIM = Claim(max_risk=0.02)
SHAPE = AnswerShape(
    kind="json",
    fields=(Field(name="team", values=('"a"', "null")), Field(name="urgent", values=("true", "false"))),
    style=(("separators", ", "),),
)


def certificate(task_id: str = "t", **fields: Any) -> Certificate:
    values: dict[str, Any] = {
        "task_id": task_id, "task_name": "intents", "claim": CLAIM, "bound": 0.0199, "min_certainty": 0.7,
        "min_scope": 0.1, "coverage": 0.8, "n": 500, "n_served": 400, "errors": 3.0, "attempt": 1,
        "delta_spent": 0.025, "schedule": "s", "start_certainty": 0.9, "procedure": "p", "split_rule": "r",
        "scorer": "exact", "data_sha256": "d", "artefact_sha256": "a", "created_at": "2025-01-01T00:00:00Z",
        "details": {"trail": [1, 2.5]},
    }  # fmt: skip
    return Certificate(**(values | fields))


def refusal(**fields: Any) -> Refusal:
    values: dict[str, Any] = {
        "task_id": "t", "task_name": "intents", "claim": CLAIM, "short_of": "examples", "message": "180, 412 needed",
    }  # fmt: skip
    return Refusal(**(values | fields))


def record(task_id: str = "t", **fields: Any) -> TaskRecord:
    values: dict[str, Any] = {
        "task_id": task_id, "name": f"name-{task_id}", "instructions_id": "i", "instructions": "Name it.",
        "shape": SHAPE, "mode": "observe", "updated_s": 5.0,
    }  # fmt: skip
    return TaskRecord(**(values | fields))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = open_registry(tmp_path / "home")
    yield opened
    opened.close()


def test_tasks_come_back_as_they_were_put(registry: Registry) -> None:
    full = record(
        "b",
        mode="serve",
        specialist_sha256="a",
        certificate_id="c",
        is_held=True,
        audit_state={"w": [1.5]},
        drift_state={"n": 1},
    )
    registry.put_task(full)
    registry.put_task(record("a", name="zz"))
    assert registry.tasks() == [full, record("a", name="zz")]
    assert registry.task("b") == registry.task("name-b") == full
    assert registry.task("absent") is None
    registry.put_task(replace(full, mode="observe", name="renamed"))
    assert registry.task("renamed") == replace(full, mode="observe", name="renamed")
    assert registry.task("name-b") is None


def test_a_registry_of_an_older_version_is_read_and_goes_on(tmp_path: Path) -> None:
    """Each migration but the last was once the newest."""
    path = tmp_path / "registry.db"
    migrate(path, MIGRATIONS[:1])
    with closing(sqlite3.connect(path)) as connection:
        row = ("t", "n", "i", "x", '{"kind":"text"}', "serve", "a", "c", 0, None, None, 1.0)
        connection.execute(f"INSERT INTO tasks VALUES ({', '.join('?' * len(row))})", row)
        connection.commit()
    opened = SqliteRegistry(path)
    (found,) = opened.tasks()
    assert (found.task_id, found.mode, found.updated_s, found.drift_state) == ("t", "serve", 1.0, None)
    opened.update_task("t", drift_state={"n": 1})
    assert opened.tasks()[0].drift_state == {"n": 1}
    opened.close()


def test_an_id_wins_over_a_name_and_a_taken_name_is_refused(registry: Registry) -> None:
    registry.put_task(record("a", name="b"))
    registry.put_task(record("b", name="other"))
    found = registry.task("b")
    assert found is not None
    assert found.task_id == "b"
    with pytest.raises(StoreError, match="already called 'other'"):
        registry.put_task(record("c", name="other"))
    assert [task.task_id for task in registry.tasks()] == ["a", "b"]


def test_templates_are_replaced_as_a_whole_and_keep_their_order(registry: Registry) -> None:
    templates = [Template(instructions_id="i", prefix=f"p{n}\n", suffix="s", task_id=f"t{n}") for n in (2, 1)]
    registry.put_templates([Template(instructions_id="old", prefix="x")])
    registry.put_templates(templates)
    assert registry.templates() == templates


def test_verdicts_stay_in_order_and_count_as_attempts_when_they_spent_delta(registry: Registry) -> None:
    verdicts = [refusal(), refusal(attempt=1, delta_spent=0.025), certificate(attempt=2), certificate("u")]
    for verdict in verdicts:
        registry.add_verdict(verdict)
    assert registry.verdicts("t") == verdicts[:3]
    newest = registry.verdict_page(limit=2)
    assert [verdict for _, verdict in newest] == verdicts[:1:-1]
    assert [verdict for _, verdict in registry.verdict_page("t", before=newest[1][0])] == verdicts[1::-1]
    assert registry.n_attempts("t") == 2
    assert registry.certificate(verdicts[3].id) == verdicts[3]  # type: ignore[union-attr]
    assert registry.certificate("absent") is None
    registry.add_verdict(verdicts[2])
    assert registry.n_attempts("t") == 2


def test_certificates_cannot_be_changed_or_deleted(registry: Registry, tmp_path: Path) -> None:
    registry.add_verdict(certificate())
    with closing(sqlite3.connect(tmp_path / "home" / "registry.db")) as connection:
        for statement in ("DELETE FROM verdicts", "UPDATE verdicts SET body = ''"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    assert registry.certificate(certificate().id) == certificate()


def test_adopt_is_all_or_nothing(registry: Registry) -> None:
    given = certificate()
    with pytest.raises(StoreError, match="knows no task"):
        registry.adopt(given)
    assert registry.certificate(given.id) is None
    registry.put_task(record(audit_state={"old": 1}, drift_state={"old": 2}, pace={"due_at": 7}))
    version = registry.version()
    assert registry.adopt(given)
    assert registry.version() == version + 1
    found = registry.task("t")
    assert found is not None
    assert (found.mode, found.specialist_sha256, found.certificate_id) == ("serve", given.artefact_sha256, given.id)
    assert (found.audit_state, found.drift_state) == (None, None)
    assert found.pace == {"due_at": 7}
    assert registry.verdicts("t") == [given]


def test_a_task_that_a_person_holds_back_is_not_adopted(registry: Registry) -> None:
    registry.put_task(record(is_held=True))
    assert not registry.adopt(certificate())
    found = registry.task("t")
    assert found is not None
    assert found.mode == "observe"
    assert registry.certificate(certificate().id) == certificate()


def test_two_writers_change_their_own_columns_only(registry: Registry) -> None:
    registry.put_task(record())
    registry.update_task("t", audit_state={"n": 1})
    registry.update_task("t", mode="observe", is_held=True)
    registry.update_task("t", pace={"due_at": 450}, shape=SHAPE)
    found = registry.task("t")
    assert found is not None
    assert (found.audit_state, found.is_held, found.pace) == ({"n": 1}, True, {"due_at": 450})
    with pytest.raises(StoreError, match="knows no task"):
        registry.update_task("absent", mode="serve")


def test_audits_of_several_processes_add_up(registry: Registry, tmp_path: Path) -> None:
    registry.put_task(record(certificate_id="c"))

    def one_more(state: dict[str, Any] | None) -> dict[str, Any]:
        return {"n": (state or {"n": 0})["n"] + 1}

    def audit(_: int) -> None:
        with closing(open_registry(tmp_path / "home")) as other:
            other.change_audit("t", "c", one_more)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(audit, range(40)))
    registry.change_audit("t", "another", one_more)
    found = registry.task("t")
    assert found is not None
    assert found.audit_state == {"n": 40}


def test_events_newest_first(registry: Registry) -> None:
    events = [
        Event(time_s=float(i), task_id="tu"[i % 2], kind="learnt", message=f"{i}", details={"n": i}) for i in range(5)
    ]
    for event in events:
        registry.add_event(event)
    assert registry.events() == events[::-1]
    assert registry.events("u") == [events[3], events[1]]
    assert registry.events(limit=2) == [events[4], events[3]]


def test_every_change_grows_the_version_and_reading_does_not(registry: Registry) -> None:
    seen = [registry.version()]
    for change in (
        lambda: registry.put_task(record()),
        lambda: registry.put_templates([]),
        lambda: registry.add_verdict(refusal()),
        lambda: registry.add_event(Event(time_s=1.0, task_id="t", kind="k", message="m", details={})),
    ):
        change()
        registry.tasks()
        registry.verdicts("t")
        seen.append(registry.version())
    assert seen == list(range(seen[0], seen[0] + 5))


CHANGE = """
import sys
from pathlib import Path
from pilotfish.store.build import open_registry
from pilotfish.store.sqlite_file import migrate
from pilotfish.store.sqlite_registry import MIGRATIONS, SqliteRegistry
from test_registry import record
open_registry(Path(sys.argv[1])).put_task(record("other"))
"""


def test_a_change_by_another_process_is_seen(registry: Registry, tmp_path: Path) -> None:
    version = registry.version()
    subprocess.run([sys.executable, "-c", CHANGE, str(tmp_path / "home")], check=True, cwd=Path(__file__).parent)
    assert registry.version() == version + 1
    assert registry.task("other") == record("other")


def test_several_threads_lose_no_change(registry: Registry, tmp_path: Path) -> None:
    other = open_registry(tmp_path / "home")

    def change(mine: Registry, name: str) -> None:
        for i in range(10):
            mine.put_task(record(f"{name}{i}"))

    threads = [
        threading.Thread(target=change, args=(r, n)) for r, n in ((registry, "a"), (registry, "b"), (other, "c"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert len(registry.tasks()) == registry.version() == 30


def test_a_closed_registry_is_a_store_error(registry: Registry) -> None:
    registry.close()
    with pytest.raises(StoreError, match="closed"):
        registry.version()
