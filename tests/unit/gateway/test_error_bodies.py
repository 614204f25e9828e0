from __future__ import annotations

import json

import pytest

from pilotfish.core import errors
from pilotfish.gateway import error_bodies
from pilotfish.models.wire.chat import CHAT


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.RequestError("no messages"), 400, "invalid_request_error"),
        (errors.RequestError("too large", status=413), 413, "invalid_request_error"),
        (errors.ModelConnectionError("gone"), 502, "upstream_error"),
        (errors.ModelTimeoutError("slow"), 504, "upstream_error"),
        (errors.ModelFormatError("html"), 502, "upstream_error"),
        (errors.NotRecordedError("unknown"), 404, "upstream_error"),
        (errors.UserError("yours"), 400, "invalid_request_error"),
    ],
)
def test_every_error_of_ours_has_its_status(error: errors.PilotfishError, status: int, kind: str) -> None:
    got, headers, body = error_bodies.reply(error, CHAT)
    assert (got, headers) == (status, [(b"content-type", b"application/json")])
    assert json.loads(body) == {"error": {"message": str(error), "type": kind, "param": None, "code": error.code}}


@pytest.mark.parametrize("kind", [ZeroDivisionError, errors.StoreError, errors.SpecialistError])
def test_a_fault_of_ours_tells_nothing_of_itself(kind: type[Exception]) -> None:
    status, _, body = error_bodies.reply(kind("/secret/path"), CHAT)
    assert status == 500
    assert b"secret" not in body


def test_a_limit_is_named_and_says_when_to_come_again() -> None:
    error = errors.LimitError("Reached.", param="tokens_per_day", status=402, retry_after_s=9)
    status, headers, body = error_bodies.reply(error, CHAT)
    assert (status, (b"retry-after", b"9") in headers) == (402, True)
    assert json.loads(body)["error"]["param"] == "tokens_per_day"


@pytest.mark.parametrize("body", [b"<html>", b"", b"[1]", b"\xff"])
def test_a_models_error_that_is_no_json_object_is_shaped(body: bytes) -> None:
    headers = (("content-type", "text/html"), ("retry-after", "7"))
    error = errors.ModelStatusError(model="big", status=503, body=body, headers=headers)
    status, sent, shaped = error_bodies.reply(error, CHAT)
    assert (status, sent) == (503, [(b"retry-after", b"7"), (b"content-type", b"application/json")])
    assert json.loads(shaped)["error"]["code"] == "model_status"
