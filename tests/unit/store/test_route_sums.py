"""The sums of requests under a route: exactly those of the rows, of old logs too, and what pruning leaves."""

from __future__ import annotations

import dataclasses
import json
import random
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from pilotfish.core.log_row import AuditRow, GradeRow, LogRow, RequestRow, TriedRow
from pilotfish.store import sqlite_route_sums
from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_log, open_writer
from pilotfish.store.periods import RouteSum
from pilotfish.store.sqlite_file import migrate
from pilotfish.store.sqlite_log import MIGRATIONS, SqliteLog
from tools.log_rows import audit_row, grade_row, local_row, repeat_row, request_row, tried_row

TABLES = {RequestRow: "requests", AuditRow: "audits", TriedRow: "tried", GradeRow: "grades"}
HOUR_S = 3600.0


def asked(*heard: tuple[str, float | None, bool | None]) -> str:
    """What a row holds of a route, as far as sums look at it; the first versions wrote of whole answers alone."""
    said = [
        {"model": model, "cost_usd": usd} | ({} if is_whole is None else {"is_whole": is_whole})
        for model, usd, is_whole in heard
    ]
    return json.dumps({"route": "abc", "asked": said})


def routed_row(request_id: str, reason: str, **fields: object) -> RequestRow:
    values = {"task_id": "", "reason": reason, "sampling": "none", "model": "small", "route": asked()}
    return request_row(request_id, **(values | fields))


def log_of(home: Path, *rows: LogRow) -> SqliteLog:
    writer = open_writer(home)
    for row in rows:
        writer.append(row)
    writer.close()
    return open_log(home)


def by_kind(log: SqliteLog, since_s: float = 0.0, until_s: float | None = None) -> dict[str, RouteSum]:
    return {one.kind: one for one in log.route_sums(since_s, until_s)}


def some_rows(n: int) -> list[LogRow]:
    """Traffic of four hours, in which anything may be unknown or fail. Costs are powers of two: sums have no error."""
    source = random.Random(7)
    costs = (None, 0.0, 0.25, 0.5, 2.0)
    rows: list[LogRow] = []
    for number in range(n):
        name, time_s = f"r{number}", source.uniform(0, 4 * HOUR_S)
        failure = source.choice([{}, {}, {}, {"status": 502, "error": "down"}, {"error": "cut"}])
        fields = {"time_s": time_s, "cost_usd": source.choice(costs), **failure}
        reason = source.choice(["kept", "kept", "same-model", "asked-further", "smaller-failed", "other-model"])
        if reason == "other-model":
            rows.append(request_row(name, reason=reason, task_id="", tried_usd=0.0, **fields))
            continue
        model = source.choice(["small", "middle"]) if reason == "kept" else "big"
        rows.append(routed_row(name, reason, model=model, tried_usd=source.choice(costs), **fields))
        if source.random() < 0.4:
            later = {"time_s": time_s + 5, "status": source.choice([200, 200, 503]), "cost_usd": source.choice(costs)}
            rows.append(audit_row(name, **later))
            rows.append(tried_row(name, purpose="audit", paid_usd=source.choice(costs), **later))
        if source.random() < 0.4:
            pending = tried_row(name, model="middle", time_s=time_s, status=0, cost_usd=None)
            paid_usd = source.choice(costs)
            rows += [pending, dataclasses.replace(pending, status=200, cost_usd=paid_usd, paid_usd=paid_usd)]
            rows.append(grade_row(name, source="judge", time_s=time_s + 9, cost_usd=source.choice(costs)))
            rows.append(grade_row(name, source="feedback", time_s=time_s + 9))
    return [*rows, local_row("local"), audit_row("local", task_id="t", cost_usd=1.0), repeat_row("local")]


def summed(log: SqliteLog, since_s: float, until_s: float) -> dict[tuple[str, str], dict[str, float]]:
    """What the sums must be, from the rows one by one."""
    found: defaultdict[tuple[str, str], defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))

    def add(kind: str, model: str, time_s: float, usd: float | None, *, is_whole: bool, tried: float | None) -> None:
        if since_s <= time_s < until_s:
            one = found[kind, model]
            one["n"] += 1
            one["n_failed"] += not is_whole
            one["n_unpriced"] += is_whole and usd is None
            one["usd"] += usd or 0.0
            one["usd_squared"] += (usd or 0.0) ** 2
            one["tried_usd"] += tried or 0.0
            one["n_tried_unpriced"] += tried is None

    for row in log.rows(LogFilter()):
        is_whole = row.status == 200 and not row.error
        if row.route:
            add(row.reason, row.model, row.time_s, row.cost_usd, is_whole=is_whole, tried=row.tried_usd)
        if (audit := log.audit(row.request_id)) is not None and not audit.task_id:
            is_whole = audit.status == 200 and not audit.error
            add("audit", "", audit.time_s, audit.cost_usd, is_whole=is_whole, tried=0.0)
    for said in log.tried():
        kind = "pair" if said.purpose == "audit" else "collect"
        is_whole = said.status == 200 and not said.error
        add(kind, said.model, said.time_s, said.paid_usd, is_whole=is_whole, tried=0.0)
    for grade in log.grades():
        if grade.source == "judge":
            add("judge", "", grade.time_s, grade.cost_usd, is_whole=True, tried=0.0)
    return {key: dict(one) for key, one in found.items()}


def told(log: SqliteLog, since_s: float, until_s: float | None) -> dict[tuple[str, str], dict[str, float]]:
    found = [dataclasses.asdict(one) for one in log.route_sums(since_s, until_s)]
    return {(one.pop("kind"), one.pop("model")): one for one in found}


def test_the_sums_are_exactly_those_of_the_rows(tmp_path: Path) -> None:
    rows = some_rows(300)
    log_of(tmp_path / "home", *rows[:400])
    twice = [row for row in rows[:400] if not isinstance(row, TriedRow)]  # what comes twice counts once
    log = log_of(tmp_path / "home", *twice, *rows[400:])
    whole = told(log, 0.0, None)
    assert {kind for kind, _ in whole} == {
        "kept", "same-model", "asked-further", "smaller-failed", "audit", "pair", "collect", "judge",
    }  # fmt: skip
    assert whole == summed(log, 0.0, 1e9)
    assert told(log, HOUR_S, 3 * HOUR_S) == summed(log, HOUR_S, 3 * HOUR_S) != whole
    assert told(log, 9 * HOUR_S, None) == {}
    log.prune(1.5 * HOUR_S)
    assert told(log, 0.0, None) == summed(log, 1.5 * HOUR_S, 1e9)


def test_a_grade_that_is_given_again_was_paid_again(tmp_path: Path) -> None:
    grades = [grade_row(source="judge", time_s=at, cost_usd=0.25) for at in (1.0, 2.0, 2.0)]
    log = log_of(tmp_path / "home", request_row(), *grades)
    assert (by_kind(log)["judge"].n, by_kind(log)["judge"].usd) == (2, 0.5)


def test_of_a_line_from_before_it_was_known_what_a_row_had_paid_an_audits_cost_is_unknown(tmp_path: Path) -> None:
    audit = tried_row("r1", purpose="audit", cost_usd=0.25)
    found = by_kind(log_of(tmp_path / "home", request_row(), tried_row(cost_usd=0.25), audit))
    assert (found["pair"].n_unpriced, found["pair"].usd) == (1, 0.0)
    # What was collected pays for nothing else.
    assert (found["collect"].n_unpriced, found["collect"].usd) == (0, 0.25)


def test_what_a_gateway_of_an_earlier_version_imports_is_counted_too(tmp_path: Path) -> None:
    rows = [routed_row("r0", "kept", cost_usd=0.5, tried_usd=0.25), audit_row("r0", cost_usd=4.0)]
    others = [request_row("r1"), local_row("r2"), audit_row("r2", task_id="t", cost_usd=1.0)]
    log = SqliteLog(tmp_path / "log.db")
    # It knows the tables of rows, and nothing of their sums.
    insert(tmp_path / "log.db", *rows, *others)
    found = by_kind(log)
    assert (found["kept"].n, found["kept"].usd, found["kept"].tried_usd) == (1, 0.5, 0.25)
    assert (found["audit"].n, found["audit"].usd) == (1, 4.0)
    assert found.keys() == {"kept", "audit"}


def insert(path: Path, *rows: LogRow) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for row in rows:
            values = dataclasses.asdict(row)  # type: ignore[call-overload]
            values.pop("paid_usd", None)
            sql = f"INSERT INTO {TABLES[type(row)]} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
            connection.execute(sql, list(values.values()))


def old_log(path: Path, *rows: LogRow) -> SqliteLog:
    """A log as it was before there were these sums, opened now."""
    migrate(path, MIGRATIONS[: MIGRATIONS.index(sqlite_route_sums.MIGRATION)])
    insert(path, *rows)
    return SqliteLog(path)


@pytest.mark.parametrize(
    ("heard", "paid_usd"),
    [
        ((), 1.0),  # the route had asked nobody: the audit heard the model anew
        ((("small", 0.25, True),), 0.75),  # looked at again
        ((("small", 0.25, None),), 0.75),
        ((("small", 0.25, False),), 1.0),  # heard in part, so heard anew
        ((("middle", 0.25, True),), 1.0),
        ((("small", None, True),), None),
    ],
)
def test_of_an_old_pair_what_its_request_had_paid_is_no_cost(
    tmp_path: Path, heard: tuple[tuple[str, float | None, bool | None], ...], paid_usd: float | None
) -> None:
    rows = [routed_row("r0", "kept", route=asked(*heard)), tried_row("r0", purpose="audit", cost_usd=1.0)]
    log = old_log(tmp_path / "log.db", *rows)
    assert log.tried()[0].paid_usd == paid_usd
    pair = by_kind(log)["pair"]
    assert (pair.n, pair.n_unpriced, pair.usd) == (1, paid_usd is None, paid_usd or 0.0)


def test_an_old_log_is_counted_as_if_it_had_been_written_now(tmp_path: Path) -> None:
    rows: list[LogRow] = [
        routed_row("r0", "kept", cost_usd=0.5, tried_usd=0.25, time_s=10.0),
        routed_row("r1", "asked-further", model="big", tried_usd=None, time_s=4000.0),
        request_row("r2", time_s=20.0),
        local_row("r3", time_s=20.0),
        audit_row("r0", cost_usd=4.0, time_s=30.0),
        audit_row("r3", cost_usd=4.0, time_s=30.0, task_id="t"),
        tried_row("r2", cost_usd=0.25, paid_usd=0.25, time_s=40.0),
        tried_row("r1", status=0, cost_usd=None, time_s=40.0),
        grade_row("r0", source="judge", cost_usd=0.5, time_s=50.0),
        grade_row("r2", source="feedback", time_s=50.0),
    ]
    old, new = old_log(tmp_path / "log.db", *rows), log_of(tmp_path / "home", *rows)
    for since_s, until_s in ((0.0, None), (0.0, HOUR_S), (HOUR_S, None)):
        assert old.route_sums(since_s, until_s) == new.route_sums(since_s, until_s) != []
    assert by_kind(old).keys() == {"kept", "asked-further", "audit", "collect", "judge"}


def test_of_an_old_log_what_was_pruned_is_not_counted_and_what_cannot_be_told_is_unknown(tmp_path: Path) -> None:
    log = old_log(
        tmp_path / "log.db",
        tried_row("gone", purpose="audit", cost_usd=1.0, time_s=50.0),
        grade_row("gone", source="judge", cost_usd=1.0, time_s=50.0),
        audit_row("gone", time_s=110.0, cost_usd=1.0),  # whose it was, no request says any more
        routed_row("r0", "kept", time_s=100.0, route='{"need": Infinity}'),
        tried_row("r0", purpose="audit", cost_usd=1.0, time_s=101.0),
    )
    found = by_kind(log)
    assert found.keys() == {"kept", "pair"}
    assert (found["pair"].n, found["pair"].n_unpriced, found["pair"].usd) == (1, 1, 0.0)


def test_the_sums_are_found_by_their_hour(tmp_path: Path) -> None:
    SqliteLog(tmp_path / "log.db")
    sql, values = sqlite_route_sums.query(HOUR_S, 2 * HOUR_S)
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert [step for step in plan if step.startswith("SCAN")] == []
