"""`pilotfish keys`: made, shown once, listed, rotated, revoked."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from pilotfish.core.ids import sha256
from pilotfish.store.build import open_keys, open_writer
from tools.command_line import CommandLine
from tools.log_rows import request_row


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_key_is_printed_once_and_only_its_hash_is_kept(pilotfish: CommandLine, home: Path) -> None:
    said = pilotfish("keys", "create", "ci", "--home", home)
    secret = said.out.split()[0]
    assert secret.startswith("pf-")
    assert len(secret) == 46, "256 bits"
    assert "every request to /v1 needs a key" in said.out
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert secret.encode() not in kept
    assert sha256(secret.encode()).encode() in kept
    for command in (["list"], ["show", "ci"], ["list", "--json"]):
        assert secret not in pilotfish("keys", *command, "--home", home).out


def test_everything_that_was_asked_for_is_shown(pilotfish: CommandLine, home: Path, monkeypatch) -> None:
    monkeypatch.setenv("PILOTFISH_LARGE_INPUT_USD_PER_MTOK", "1")
    monkeypatch.setenv("PILOTFISH_LARGE_OUTPUT_USD_PER_MTOK", "4")
    flags = [
        "--models",
        "a, b,a",
        "--usd-per-day",
        "1.5",
        "--tokens-per-minute",
        "1000",
        "--expires",
        "30d",
        "--privacy",
        "mask",
    ]
    made = pilotfish("keys", "create", "ci", *flags, "--home", home, "--json").json
    shown = pilotfish("keys", "show", "ci", "--home", home, "--json").json
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert (shown["models"], shown["limits"]) == (["a", "b"], {"usd_per_day": 1.5, "tokens_per_minute": 1000})
    assert shown["expires_s"] == pytest.approx(time.time() + 30 * 86400, abs=5)
    assert (shown["state"], shown["used"]["usd_total"]) == ("active", 0.0)
    text = pilotfish("keys", "show", "ci", "--home", home).out
    assert shown["privacy"] == "mask"
    assert "models: a, b" in text
    assert "privacy: mask" in text
    assert "usd per day" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bad name"], "letters, digits"),
        (["x", "--usd-per-day", "1"], "needs the price"),
        (["x", "--usd-per-day", "0"], "0"),
        (["x", "--requests-per-minute", "0"], "1"),
        (["x", "--expires", "soon"], "neither a span"),
        (["x", "--expires", "2020-01-01"], "in the past"),
        (["x", "--privacy", "open"], "allow"),
        (["ci"], "already"),
    ],
)
def test_what_makes_no_sense_is_refused(pilotfish: CommandLine, home: Path, arguments: list[str], says: str) -> None:
    pilotfish("keys", "create", "ci", "--home", home)
    said = pilotfish("keys", "create", *arguments, "--home", home)
    assert said.code == 2
    assert says in said.err
    assert [row["name"] for row in pilotfish("keys", "list", "--home", home, "--json").json] == ["ci"]


def test_an_expiry_may_be_a_date(pilotfish: CommandLine, home: Path) -> None:
    made = pilotfish("keys", "create", "ci", "--expires", "2099-01-31", "--home", home, "--json").json
    assert time.gmtime(made["expires_s"])[:4] == (2099, 1, 31, 0)


def test_money_is_unknown_where_no_price_is(pilotfish: CommandLine, home: Path) -> None:
    pilotfish("keys", "create", "ci", "--home", home)
    assert pilotfish("keys", "show", "ci", "--home", home, "--json").json["used"]["usd_total"] is None


def test_a_rotated_key_has_another_secret_and_the_same_id(pilotfish: CommandLine, home: Path) -> None:
    made = pilotfish("keys", "create", "ci", "--home", home, "--json").json
    rotated = pilotfish("keys", "rotate", "ci", "--home", home, "--json").json
    assert rotated["key"] != made["key"]
    assert rotated["id"] == made["id"]
    with closing(open_keys(home)) as keys:
        assert keys.get("ci").sha256 == sha256(rotated["key"].encode())


def test_a_revoked_key_stays_to_be_seen_until_it_is_deleted(pilotfish: CommandLine, home: Path) -> None:
    pilotfish("keys", "create", "ci", "--home", home)
    assert "opens nothing" in pilotfish("keys", "revoke", "ci", "--home", home).out
    assert pilotfish("keys", "show", "ci", "--home", home, "--json").json["state"] == "revoked"
    assert "It is revoked" in pilotfish("keys", "rotate", "ci", "--home", home).out
    assert "no key left" in pilotfish("keys", "revoke", "ci", "--delete", "--home", home).out
    assert "There is no key" in pilotfish("keys", "list", "--home", home).out
    assert pilotfish("keys", "revoke", "ci", "--home", home).code == 2


def test_the_admin_key_is_made_and_removed(pilotfish: CommandLine, home: Path) -> None:
    first = pilotfish("keys", "admin", "--home", home, "--json").json["key"]
    assert first.startswith("pf-admin-")
    with closing(open_keys(home)) as keys:
        assert keys.admin_sha256() == sha256(first.encode())
        pilotfish("keys", "admin", "--remove", "--home", home)
        assert keys.admin_sha256() == ""


def test_use_is_listed(pilotfish: CommandLine, home: Path) -> None:
    pilotfish("keys", "create", "ci", "--home", home)
    assert pilotfish("keys", "list", "--home", home).out.splitlines()[2].split()[:4] == [
        "ci",
        pilotfish("keys", "list", "--home", home, "--json").json[0]["id"],
        "active",
        "all",
    ]


def test_serving_others_without_a_key_is_refused_before_it_begins(pilotfish: CommandLine, home: Path) -> None:
    flags = ["--large", "http://127.0.0.1:9/v1", "--model", "big", "--host", "0.0.0.0", "--port", "0"]
    said = pilotfish("serve", *flags, "--home", home)
    assert (said.code, said.out) == (2, "")
    assert "pilotfish keys create NAME" in said.err


def test_explain_names_the_key(pilotfish: CommandLine, home: Path) -> None:
    writer = open_writer(home)
    writer.append(request_row("pf-1", key_id="key_0123"))
    writer.close()
    assert "key: key_0123" in pilotfish("explain", "pf-1", "--home", home).out
