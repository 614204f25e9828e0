"""Adopted routes in the registry's SQLite file (`Routes`).

The route adopted last decides, until audits or a person withdraw it; an older one never comes back by that. Routes and
the auditor's state are JSON, since nothing queries inside them. Nothing here judges any of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from pilotfish.core.certificate import Certificate
from pilotfish.core.errors import StoreError
from pilotfish.store.base import Event, RouteRecord
from pilotfish.store.sqlite_registry import RegistryFile, put_event, put_verdict

_NEWEST = (
    "SELECT v.body, r.route, r.adopted_s, r.audit_state, r.withdrawn_s FROM routes AS r "
    "JOIN verdicts AS v USING (certificate_id) ORDER BY r.number DESC LIMIT 1"
)


class SqliteRoutes(RegistryFile):
    """`Routes` in the SQLite file of a registry."""

    def newest(self) -> RouteRecord | None:
        """The one adopted last, withdrawn or not."""
        rows = self._rows(_NEWEST)
        if not rows:
            return None
        body, route, adopted_s, state, withdrawn_s = rows[0]
        return RouteRecord(
            certificate=Certificate.from_json(json.loads(body)),
            route=json.loads(route),
            adopted_s=adopted_s,
            audit_state=None if state is None else json.loads(state),
            withdrawn_s=withdrawn_s,
        )

    def adopt(self, certificate: Certificate, route: dict[str, Any]) -> None:
        """Certificate and route in one transaction. What is in force already stays as it is, its audits with it."""
        with self._writing() as connection:
            row = connection.execute(
                "SELECT withdrawn_s, number = (SELECT max(number) FROM routes) FROM routes WHERE certificate_id = ?",
                (certificate.id,),
            ).fetchone()
            if row is not None and (row[0] is not None or not row[1]):
                raise StoreError(
                    "This route was withdrawn, or another took its place; its certificate is void.",
                    hint="Learn and certify it anew: pilotfish route train.",
                )
            if row is not None:
                return
            known = connection.execute(
                "SELECT count(*) FROM verdicts WHERE task_id = ? AND delta_spent > 0", (certificate.task_id,)
            ).fetchone()[0]
            if certificate.attempt <= known:
                # Whoever begins to count anew promises more than the outcomes prove.
                raise StoreError(
                    f"This workload has had {known} attempts here, but the certificate says it is of attempt "
                    f"{certificate.attempt}.",
                    hint="Train over the file of the earlier attempt, or name another workload.",
                )
            put_verdict(connection, certificate)
            connection.execute(
                "INSERT INTO routes (certificate_id, route, adopted_s) VALUES (?, ?, ?)",
                (certificate.id, json.dumps(route), time.time()),
            )

    def change_audit(self, certificate_id: str, change: Callable[[dict[str, Any] | None], dict[str, Any]]) -> None:
        """Read, change and write the auditor's state; no other process comes between."""
        with self._writing() as connection:
            row = connection.execute(
                "SELECT audit_state FROM routes WHERE certificate_id = ? AND withdrawn_s IS NULL "
                "AND number = (SELECT max(number) FROM routes)",
                (certificate_id,),
            ).fetchone()
            if row is not None:
                state = change(None if row[0] is None else json.loads(row[0]))
                connection.execute(
                    "UPDATE routes SET audit_state = ? WHERE certificate_id = ?", (json.dumps(state), certificate_id)
                )

    def withdraw(self, certificate_id: str, message: str) -> bool:
        """Withdrawal and event in one transaction."""
        now_s = time.time()
        with self._writing() as connection:
            found = connection.execute(
                "UPDATE routes SET withdrawn_s = ? WHERE certificate_id = ? AND withdrawn_s IS NULL "
                "RETURNING (SELECT task_id FROM verdicts WHERE certificate_id = routes.certificate_id)",
                (now_s, certificate_id),
            ).fetchone()
            if found is None:
                return False
            details = {"certificate_id": certificate_id}
            put_event(
                connection,
                Event(time_s=now_s, task_id=found[0], kind="withdrawn", message=message, details=details),
            )
        return True
