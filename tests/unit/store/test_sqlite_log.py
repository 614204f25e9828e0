"""The log's schema: migrations, query plans, errors."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pilotfish.core.errors import StoreError
from pilotfish.store import sqlite_periods
from pilotfish.store.base import LogFilter
from pilotfish.store.periods import By, PeriodFilter
from pilotfish.store.sqlite_file import migrate
from pilotfish.store.sqlite_log import DIFFERING, MIGRATIONS, SqliteLog, query
from tools.log_rows import local_row, request_row

OF_THE_RECEIPT = ("server", "tries", "price_source", "route", "tried_usd")
"""The columns that came last."""


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (LogFilter(), "requests_by_time"),
        (LogFilter(newest_first=True, limit=50), "requests_by_time"),
        (LogFilter(since_s=1.0, errors_only=True), "requests_failed"),
        (LogFilter(task_id="t", errors_only=True, newest_first=True), "requests_failed_by_task"),
        (LogFilter(task_id="t", since_s=1.0), "requests_by_task"),
        (LogFilter(task_id="t", newest_first=True), "requests_by_task"),
    ],
)
def test_every_filter_reads_an_index_in_its_order(tmp_path: Path, where: LogFilter, index: str) -> None:
    SqliteLog(tmp_path / "log.db")
    sql, values = query(where)
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert f"USING INDEX {index}" in plan[0]
    assert len(plan) == 2
    assert plan[1].startswith("SEARCH a USING INDEX")
    assert not any("TEMP B-TREE" in step for step in plan)


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        query(LogFilter(newest_first=True, limit=50, before_id="r")),
        query(LogFilter(task_id="t", newest_first=True, limit=50, before_id="r")),
        (DIFFERING, ["t", 20]),
        sqlite_periods.query(PeriodFilter(since_s=1.0, step_s=3600)),
        sqlite_periods.query(PeriodFilter(since_s=1.0, until_s=2.0, task_id="t", by="task")),
        sqlite_periods.query(PeriodFilter(since_s=1.0, step_s=3600, by="model", after=(3600.0, "m"), limit=9)),
    ],
)
def test_what_pages_ask_scans_no_table(tmp_path: Path, sql: str, values: list[object]) -> None:
    SqliteLog(tmp_path / "log.db")
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert [step for step in plan if step.startswith("SCAN")] == []


@pytest.mark.parametrize("by", ["all", "task", "model"])
def test_a_page_of_hours_is_sorted_by_its_key(tmp_path: Path, by: By) -> None:
    SqliteLog(tmp_path / "log.db")
    sql, values = sqlite_periods.query(PeriodFilter(since_s=1.0, step_s=3600, by=by, after=(7200.0, "t"), limit=9))
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        (step,) = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert step.startswith("SEARCH hourly")


def test_a_log_from_before_there_were_hours_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    migrate(path, MIGRATIONS[: MIGRATIONS.index(sqlite_periods.MIGRATION)])
    with closing(sqlite3.connect(path)) as connection, connection:
        for row in (request_row("a"), local_row("b", time_s=4000.0)):
            values = dataclasses.asdict(row)
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO requests ({', '.join(values)}) VALUES ({marks})", [*values.values()])
        connection.execute(
            "INSERT INTO audits (request_id, time_s, reference_answer, status, error, cost_usd, latency_s) "
            "VALUES ('b', 4001.0, 'refund', 200, '', 0.5, 1.0)"
        )
    first, second = SqliteLog(path).periods(PeriodFilter(since_s=0.0, step_s=3600, by="task"))
    assert (first.start_s, first.task_id, first.n_reference, first.reference_usd) == (0.0, "t", 1, 0.25)
    assert (second.n_local, second.n_audits, second.audit_usd, second.n_judged) == (1, 1, 0.5, 0)
    by_model = SqliteLog(path).periods(PeriodFilter(since_s=0.0, by="model"))
    assert sum(period.n_requests for period in by_model) == 2
    (one,) = SqliteLog(path).periods(PeriodFilter(since_s=0.0, by="model", model=by_model[0].model))
    assert one == by_model[0]
    assert SqliteLog(path).periods(PeriodFilter(since_s=0.0, by="model", model="another")) == []


def test_a_log_from_before_there_were_keys_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    migrate(path, MIGRATIONS[:2])
    old = request_row("old")
    names = [item.name for item in dataclasses.fields(old) if item.name not in ("key_id", "tier", *OF_THE_RECEIPT)]
    sql = f"INSERT INTO requests ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql, [getattr(old, name) for name in names])
    assert SqliteLog(path).row("old") == old
    assert old.key_id is None


def test_migrations_are_applied_once_each_and_keep_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    steps = ["CREATE TABLE a (n)", "INSERT INTO a VALUES (1)", "ALTER TABLE a ADD COLUMN m DEFAULT 7"]
    for known in (1, 2, 2, 3):
        migrate(path, steps[:known])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM a").fetchall() == [(1, 7)]


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    migrate(path, ["CREATE TABLE a (n)"])
    with pytest.raises(StoreError, match="syntax"):
        migrate(path, ["CREATE TABLE a (n)", "CREATE TABLE b (n); CREATE NONSENSE"])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_log_from_before_there_were_repeats_opens(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    migrate(path, MIGRATIONS[:1])
    assert SqliteLog(path).repeats() == []


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    migrate(path, [*MIGRATIONS, "CREATE TABLE tomorrow (n)"])
    with pytest.raises(StoreError, match="newer Pilotfish"):
        SqliteLog(path)


def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        SqliteLog(path)


def test_a_damaged_database_is_a_store_error_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(path)
    path.write_bytes(b"no database at all" * 1000)
    for damaged in (path.with_name("log.db-wal"), path.with_name("log.db-shm")):
        damaged.unlink(missing_ok=True)
    for ask in (lambda: list(log.rows(LogFilter())), log.task_counts, log.n_gaps, lambda: log.prune(1.0)):
        with pytest.raises(StoreError, match=r"log\.db"):
            ask()


def test_a_log_from_before_there_were_tiers_is_read_and_counted_on(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    migrate(path, MIGRATIONS[:3])
    later = ("tier", *OF_THE_RECEIPT)
    old = {name: value for name, value in dataclasses.asdict(local_row("old")).items() if name not in later}

    def insert(row: dict[str, object]) -> None:
        sql = f"INSERT INTO requests ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(sql, list(row.values()))

    insert(old)
    log = SqliteLog(path)
    assert log.row("old") == local_row("old")
    insert(dataclasses.asdict(local_row("new", tier=1)))
    insert(dataclasses.asdict(local_row("full", tier=2)))
    insert(dataclasses.asdict(request_row("shadow", tier=1)))
    assert [(row.request_id, row.tier) for row in log.rows(LogFilter())][1:] == [("new", 1), ("full", 2), ("shadow", 1)]
    (count,) = log.task_counts()
    assert (count.n_requests, count.n_local, count.n_first) == (4, 3, 1)
    log.prune(0.5)
    assert log.task_counts() == [count]
