"""The promises of `Keys`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pilotfish.core.errors import StoreError, TaskError
from pilotfish.core.key import Limits
from pilotfish.store.base import Keys
from pilotfish.store.build import open_keys, open_registry
from pilotfish.store.sqlite_file import migrate
from pilotfish.store.sqlite_registry import MIGRATIONS

DIGEST = "ab" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def keys(home: Path) -> Iterator[Keys]:
    with closing(open_keys(home)) as opened:
        yield opened


def test_a_key_comes_back_as_it_was_made(keys: Keys) -> None:
    limits = Limits(requests_per_minute=5, usd_total=2.5)
    made = keys.create("ci", DIGEST, models=["a", "b"], limits=limits, expires_s=99.5, privacy="mask")
    assert keys.all() == [made] == [keys.get("ci")] == [keys.get(made.key_id)]
    assert (made.models, made.limits, made.expires_s, made.revoked_s) == (("a", "b"), limits, 99.5, None)


def test_keys_made_before_they_had_a_privacy_mode_allow_as_they_did(home: Path) -> None:
    home.mkdir()
    migrate(home / "registry.db", MIGRATIONS[:3])
    with closing(sqlite3.connect(home / "registry.db")) as old, old:
        row = ("key_0", "old", DIGEST, 1.0, "[]", "{}")
        old.execute("INSERT INTO keys (key_id, name, sha256, created_s, models, limits) VALUES (?,?,?,?,?,?)", row)
    with closing(open_keys(home)) as keys:
        assert (keys.get("old").privacy, keys.get("old").state(2.0)) == ("allow", "active")


def test_a_privacy_mode_that_is_not_known_opens_nothing(home: Path) -> None:
    with closing(open_keys(home)) as keys:
        keys.create("ci", DIGEST, models=[], limits=Limits(), expires_s=None)
        with closing(sqlite3.connect(home / "registry.db")) as newer, newer:
            newer.execute("UPDATE keys SET privacy = 'stricter still'")
        with pytest.raises(StoreError, match="privacy mode"):
            keys.all()


def test_every_change_is_noticed_by_others(keys: Keys, home: Path) -> None:
    with closing(open_keys(home)) as other:
        seen = [other.version()]
        made = keys.create("ci", DIGEST, models=[], limits=Limits(), expires_s=None)
        for change in (
            lambda: keys.rotate(made.key_id, "cd" * 32),
            lambda: keys.revoke(made.key_id),
            lambda: keys.set_admin(DIGEST),
            lambda: keys.delete(made.key_id),
        ):
            seen.append(other.version())
            change()
        seen.append(other.version())
        assert seen == sorted(set(seen))


def test_a_name_is_taken_until_it_is_deleted_and_a_number_is_never_used_again(keys: Keys) -> None:
    first = keys.create("ci", DIGEST, models=[], limits=Limits(), expires_s=None)
    keys.revoke(first.key_id)
    with pytest.raises(StoreError, match="already"):
        keys.create("ci", "cd" * 32, models=[], limits=Limits(), expires_s=None)
    keys.delete(first.key_id)
    assert keys.create("ci", DIGEST, models=[], limits=Limits(), expires_s=None).number > first.number


def test_a_revocation_stands_from_its_first_time(keys: Keys) -> None:
    made = keys.create("ci", DIGEST, models=[], limits=Limits(), expires_s=None)
    keys.revoke(made.key_id)
    first = keys.get("ci").revoked_s
    keys.revoke(made.key_id)
    assert first is not None
    assert keys.get("ci").revoked_s == first
    assert keys.get("ci").state(first + 1) == "revoked"


def test_an_unknown_name_says_which_there_are(keys: Keys) -> None:
    with pytest.raises(TaskError, match="keys create"):
        keys.get("x")
    keys.create("ci", DIGEST, models=[], limits=Limits(), expires_s=None)
    with pytest.raises(TaskError, match="Known keys: ci"):
        keys.get("x")


def test_there_is_one_admin_key_at_most(keys: Keys) -> None:
    assert keys.admin_sha256() == ""
    keys.set_admin(DIGEST)
    keys.set_admin("cd" * 32)
    assert keys.admin_sha256() == "cd" * 32
    keys.set_admin("")
    assert keys.admin_sha256() == ""


def test_keys_and_registry_live_in_one_file_whichever_opens_first(home: Path) -> None:
    with closing(open_registry(home)) as registry, closing(open_keys(home)) as keys:
        before = registry.version()
        keys.create("ci", DIGEST, models=[], limits=Limits(), expires_s=None)
        assert registry.version() == keys.version() == before + 1
