from __future__ import annotations

import calendar

import pytest

from pilotfish.core.key import ADMIN_PREFIX, PREFIX, KeyRecord, Limits, new_secret, unit_of, window_end_s, window_of


def utc(*moment: int) -> float:
    return float(calendar.timegm((*moment, 0, 0, 0)[:6]))


@pytest.mark.parametrize(
    ("window", "now", "end"),
    [
        ("minute", (2026, 2, 28, 23, 59, 30), (2026, 3, 1, 0, 0, 0)),
        ("day", (2028, 2, 28, 12, 0, 0), (2028, 2, 29, 0, 0, 0)),
        ("month", (2026, 12, 31, 23, 59, 59), (2027, 1, 1, 0, 0, 0)),
        ("month", (2026, 1, 1, 0, 0, 0), (2026, 2, 1, 0, 0, 0)),
    ],
)
def test_windows_end_where_the_calendar_says(window, now, end):
    assert window_end_s(window, utc(*now)) == utc(*end)
    assert window_end_s("total", utc(*now)) is None


def test_a_limit_is_named_by_its_unit_and_window():
    names = {name: (unit_of(name), window_of(name)) for name in Limits.__annotations__}
    assert names["tokens_per_minute"] == ("tokens", "minute")
    assert names["usd_total"] == ("usd", "total")
    assert names["requests_per_day"] == ("requests", "day")
    assert len(set(names.values())) == len(names) == 7


def test_only_what_is_stated_is_a_limit():
    assert Limits(usd_total=0.5, tokens_per_day=0).stated() == {"tokens_per_day": 0, "usd_total": 0.5}


def test_a_secret_is_never_the_same_and_says_whose_it_is():
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 43 for secret in secrets)
    assert new_secret(ADMIN_PREFIX).startswith(ADMIN_PREFIX)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "active"),
        ({"expires_s": 11.0}, "active"),
        ({"expires_s": 10.0}, "expired"),
        ({"revoked_s": 9.0}, "revoked"),
        ({"expires_s": 9.0, "revoked_s": 9.0}, "revoked"),
    ],
)
def test_a_key_is_valid_until_it_ends(fields, state):
    record = KeyRecord(number=1, key_id="k", name="n", sha256="", created_s=0.0, **fields)
    assert (record.state(10.0), record.is_valid(10.0)) == (state, state == "active")
