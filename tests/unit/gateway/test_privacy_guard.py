"""The door of the gateway: which mode holds, what follows from findings, and that every doubt is a no."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from pilotfish.config.settings import PrivacySettings
from pilotfish.core.errors import RequestError, UnmaskableError
from pilotfish.core.privacy import Finding, PrivacyMode
from pilotfish.gateway.privacy_guard import IN_THREAD_BYTES, Guarded, PrivacyGuard, Scan

MAIL = "ann@example.com"
CLEAN = b'{"messages":"hello"}'
FOUND = json.dumps({"messages": f"I am {MAIL}"}).encode()
IMAGE = b'{"messages":[{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}]}'


def check(
    body: bytes,
    own: PrivacyMode = "allow",
    *,
    named: tuple[str, ...] = (),
    scan: Scan | None = None,
    **settings: object,
) -> Guarded:
    guard = PrivacyGuard(PrivacySettings(**settings), scan)  # type: ignore[arg-type]
    return asyncio.run(guard.check(body, lambda _: named, own))


def broken(text: str, deadline_s: float) -> list[Finding]:
    raise ValueError(f"cannot read {text}")


def slow(text: str, deadline_s: float) -> list[Finding]:
    raise TimeoutError


def test_allow_looks_at_nothing() -> None:
    guarded = check(IMAGE, scan=broken)
    assert (guarded.body, guarded.is_local_only, guarded.restorer, guarded.note) == (IMAGE, False, None, "")


def test_mask_replaces_restores_and_says_the_types_only() -> None:
    guarded = check(FOUND, mode="mask")
    assert guarded.body == b'{"messages":"I am <EMAIL_1>"}'
    assert guarded.restored(b'{"x":"<EMAIL_1>"}') == b'{"x":"ann@example.com"}'
    assert guarded.note == "masked; types=EMAIL"
    assert guarded.for_log(f"{MAIL}, bob@example.org") == "<EMAIL_1>, <EMAIL_2>"


def test_local_keeps_what_holds_something_and_logs_none_of_it() -> None:
    guarded = check(FOUND, mode="local")
    assert (guarded.is_local_only, guarded.note, guarded.for_log("x")) == (True, "local; types=EMAIL", None)


@pytest.mark.parametrize("mode", ["mask", "local"])
def test_a_clean_request_may_leave_as_it_is_but_its_answer_is_logged_masked(mode: PrivacyMode) -> None:
    guarded = check(CLEAN, mode=mode)
    assert (guarded.body, guarded.is_local_only, guarded.note) == (CLEAN, False, "")
    assert guarded.for_log(f"ask {MAIL}") == "ask <EMAIL_1>"


@pytest.mark.parametrize(("body", "scan"), [(IMAGE, None), (CLEAN, broken), (CLEAN, slow)])
def test_what_nobody_can_vouch_for_counts_as_sensitive(
    body: bytes, scan: Scan | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert check(body, mode="local", scan=scan).is_local_only
    with pytest.raises(UnmaskableError) as caught:
        check(body, mode="mask", scan=scan)
    assert caught.value.status == 451
    assert "hello" not in caplog.text + str(caught.value)
    assert (scan is None) or "count" in caplog.text


def test_a_pattern_that_never_ends_counts_as_sensitive() -> None:
    body = json.dumps({"messages": "a" * 60 + "b"}).encode()
    settings = {"patterns": {"bad": "^(a|aa)+$"}, "timeout_s": 0.05}
    assert check(body, mode="local", **settings).is_local_only
    with pytest.raises(UnmaskableError):
        check(body, mode="mask", **settings)


def test_an_answer_on_which_the_detectors_fail_is_not_logged() -> None:
    def once(text: str, deadline_s: float) -> list[Finding]:
        if "hello" in text or "messages" in text:
            return []
        raise ValueError

    assert check(CLEAN, mode="mask", scan=once).for_log("an answer") is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"a":"\xff"}'])
def test_what_is_no_object_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        check(body, mode="mask")
    assert caught.value.status == 400


MODES = [
    ("allow", "allow", "mask", True),
    ("allow", "mask", "allow", True),
    ("mask", "allow", "allow", True),
    ("allow", "allow", "allow", False),
]


@pytest.mark.parametrize(("mode", "own", "task", "is_masked"), MODES)
def test_the_stricter_of_gateway_key_and_task_holds(
    mode: PrivacyMode, own: PrivacyMode, task: PrivacyMode, is_masked: bool
) -> None:
    names = ("id", "sort")
    assert (check(FOUND, own, named=names, mode=mode, tasks={"sort": task}).restorer is not None) is is_masked
    assert not check(FOUND, own, named=names, mode=mode, tasks={"other": "local"}).is_local_only
    assert check(FOUND, own, named=names, mode=mode, tasks={"id": "local"}).is_local_only


def test_a_task_that_was_learnt_from_masked_texts_is_known_by_them() -> None:
    guard = PrivacyGuard(PrivacySettings(tasks={"sort": "local"}))
    guarded = asyncio.run(guard.check(FOUND, lambda body: ("sort",) if b"<EMAIL_1>" in body else ()))
    assert guarded.is_local_only


def test_a_long_body_is_looked_at_beside_other_requests() -> None:
    text = "word " * IN_THREAD_BYTES
    guarded = check(json.dumps({"messages": text + MAIL}).encode(), mode="mask")
    assert guarded.body.endswith(b'<EMAIL_1>"}')


def test_failures_are_reported_without_what_they_say(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        check(FOUND, mode="local", scan=broken)
    assert "ValueError" in caplog.text
    assert MAIL not in caplog.text
