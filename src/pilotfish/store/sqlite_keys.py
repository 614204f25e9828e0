"""Virtual keys in the registry's SQLite file (`Keys`): hashes, limits, and what became of each.

No key itself is ever written. Every change counts as one of the registry, so that a running gateway notices it by
reading a single number. A revoked key stays, so that its name and its use stay known until it is deleted.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from pilotfish.core.errors import StoreError, TaskError
from pilotfish.core.key import KeyRecord, Limits
from pilotfish.core.privacy import MODES, PrivacyMode
from pilotfish.store.sqlite_registry import RegistryFile

_KEY = "SELECT number, key_id, name, sha256, created_s, models, limits, expires_s, revoked_s, privacy FROM keys"


class SqliteKeys(RegistryFile):
    """`Keys` in the SQLite file of a registry."""

    def all(self) -> list[KeyRecord]:
        """All keys, by name."""
        return [_record(row) for row in self._rows(f"{_KEY} ORDER BY name")]

    def get(self, name: str) -> KeyRecord:
        """The key of that name or id. Raises `TaskError` naming those there are."""
        rows = self._rows(f"{_KEY} WHERE ? IN (name, key_id)", name)
        if rows:
            return _record(rows[0])
        known = [record.name for record in self.all()]
        hint = f"Known keys: {', '.join(known[:12])}." if known else "Make one with `pilotfish keys create NAME`."
        raise TaskError(f"There is no key {name!r}.", hint=hint)

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
        row = (
            "key_" + secrets.token_hex(6), name, sha256, time.time(), json.dumps(list(models)),
            json.dumps(limits.stated()), expires_s, privacy,
        )  # fmt: skip
        sql = (
            "INSERT INTO keys (key_id, name, sha256, created_s, models, limits, expires_s, privacy) "
            "VALUES (?,?,?,?,?,?,?,?)"
        )
        with self._writing() as connection:
            if connection.execute("SELECT 1 FROM keys WHERE name = ?", (name,)).fetchone():
                raise StoreError(
                    f"There is a key {name!r} already.",
                    hint="Give it a new secret with `pilotfish keys rotate`, or delete it with "
                    "`pilotfish keys revoke --delete`.",
                )
            connection.execute(sql, row)
        return self.get(name)

    def rotate(self, key_id: str, sha256: str) -> None:
        """Give a key another secret; the old one is void at once."""
        self._write("UPDATE keys SET sha256 = ? WHERE key_id = ?", sha256, key_id)

    def revoke(self, key_id: str) -> None:
        """Void a key; where it was revoked before, the first time stands."""
        self._write("UPDATE keys SET revoked_s = coalesce(revoked_s, ?) WHERE key_id = ?", time.time(), key_id)

    def delete(self, key_id: str) -> None:
        """Forget a key."""
        self._write("DELETE FROM keys WHERE key_id = ?", key_id)

    def admin_sha256(self) -> str:
        """The hash of the admin key, empty where there is none."""
        rows = self._rows("SELECT sha256 FROM admin_key")
        return str(rows[0][0]) if rows else ""

    def set_admin(self, sha256: str) -> None:
        """Replace the admin key; an empty hash removes it."""
        with self._writing() as connection:
            connection.execute("DELETE FROM admin_key")
            if sha256:
                connection.execute("INSERT INTO admin_key VALUES (?)", (sha256,))

    def _write(self, sql: str, *values: object) -> None:
        with self._writing() as connection:
            connection.execute(sql, values)


def _record(row: tuple[Any, ...]) -> KeyRecord:
    stated, known = json.loads(row[6]), {item.name for item in dataclasses.fields(Limits)}
    if not stated.keys() <= known or row[9] not in MODES:
        raise StoreError(
            f"The key {row[2]!r} has limits or a privacy mode unknown to this version.",
            hint="Upgrade Pilotfish.",
        )
    return KeyRecord(
        number=row[0],
        key_id=row[1],
        name=row[2],
        sha256=row[3],
        created_s=row[4],
        models=tuple(json.loads(row[5])),
        limits=Limits(**stated),
        expires_s=row[7],
        revoked_s=row[8],
        privacy=row[9],
    )
