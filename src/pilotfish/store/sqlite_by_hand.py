"""What people did on the pages, in the registry's SQLite file: marks of answers, and calls from the bench.

Marks are only ever added: the latest of a request counts, the others are its history. Nothing here judges any of it,
and nothing that learns or certifies reads it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from pilotfish.core.by_hand import BenchCall, Mark, Verdict
from pilotfish.store.sqlite_registry import RegistryFile

_MARK = tuple(item.name for item in dataclasses.fields(Mark))
_CALL = tuple(item.name for item in dataclasses.fields(BenchCall))


class SqliteByHand(RegistryFile):
    """Marks and bench calls of a home folder."""

    def add_mark(self, mark: Mark) -> None:
        """Append a mark."""
        with self._writing() as connection:
            sql = f"INSERT INTO marks ({', '.join(_MARK)}) VALUES ({', '.join('?' * len(_MARK))})"  # noqa: S608
            connection.execute(sql, dataclasses.astuple(mark))

    def marks(self, task_id: str = "", limit: int = -1) -> list[Mark]:
        """All marks of one task or of all, those that were replaced too, newest first; -1 is no limit."""
        where, values = ("WHERE task_id = ?", (task_id,)) if task_id else ("", ())
        sql = f"SELECT {', '.join(_MARK)} FROM marks {where} ORDER BY number DESC LIMIT ?"  # noqa: S608
        return [Mark(**dict(zip(_MARK, row, strict=True))) for row in self._rows(sql, *values, limit)]

    def marked(self, task_id: str, request_ids: Sequence[str]) -> dict[str, Verdict]:
        """What counts of these requests, where they were marked."""
        sql = (
            "SELECT request_id, verdict FROM marks WHERE task_id = ? "  # noqa: S608
            f"AND request_id IN ({', '.join('?' * len(request_ids))}) ORDER BY number"
        )
        return dict(self._rows(sql, task_id, *request_ids))

    def tally(self, task_id: str) -> Counter[tuple[Verdict, str]]:
        """How many requests of a task are marked, by verdict and specialist."""
        sql = (
            "SELECT verdict, specialist_sha256, count(*) FROM marks WHERE number IN "
            "(SELECT max(number) FROM marks WHERE task_id = ? GROUP BY request_id) GROUP BY verdict, specialist_sha256"
        )
        return Counter({(verdict, sha256): n for verdict, sha256, n in self._rows(sql, task_id)})

    def put_calls(self, calls: Sequence[BenchCall]) -> None:
        """Write calls down; a call of the same run and model is replaced."""
        with self._writing() as connection:
            values = ", ".join("?" * len(_CALL))
            sql = f"INSERT OR REPLACE INTO bench_calls ({', '.join(_CALL)}) VALUES ({values})"  # noqa: S608
            connection.executemany(sql, [dataclasses.astuple(call) for call in calls])

    def calls(self, limit: int) -> list[BenchCall]:
        """The newest calls, newest first."""
        sql = f"SELECT {', '.join(_CALL)} FROM bench_calls ORDER BY time_s DESC, run_id, model LIMIT ?"  # noqa: S608
        return [BenchCall(**dict(zip(_CALL, row, strict=True))) for row in self._rows(sql, limit)]

    def spent(self, since_s: float) -> tuple[int, float, int]:
        """Calls since a time, what they cost in US dollars, and of how many that is not known."""
        sql = (
            "SELECT count(*), coalesce(sum(cost_usd), 0), count(*) - count(cost_usd) FROM bench_calls WHERE time_s >= ?"
        )
        n, usd, n_unknown = self._rows(sql, since_s)[0]
        return n, usd, n_unknown
