"""A canary: personal data sent through every path, then looked for upstream, in the home folder and in every output."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pilotfish.gateway import privacy_guard
from pilotfish.models.wire.chat import CHAT
from tools.families import events, whole
from tools.gateway import Place, gateway, post
from tools.keyed import make_key
from tools.served_home import Learnt, adopt, messages
from tools.upstream import Asked, Reply

MAIL, CARD, NAME_OF_MODEL = "ann.canary@example.com", "4111 1111 1111 1111", "dora.canary@example.net"
VALUES = (MAIL, CARD, NAME_OF_MODEL, "CANARY-77")
TEXT = f"Write to {MAIL}, card {CARD}, code CANARY-77."
OWN = {"patterns": {"code": r"CANARY-\d+"}}
Serve = Callable[..., AbstractContextManager[Place]]


def echo(asked: Asked) -> Reply:
    """Answers with what it was told, so that placeholders come back; streams cut them into single characters."""
    last = asked.json["messages"][-1]["content"]
    return Reply(text=last if isinstance(last, str) else json.dumps(last))


def failing(asked: Asked) -> Reply:
    said = asked.json["messages"][-1]["content"]
    return Reply(status=400, body=json.dumps({"error": {"message": f"no: {said}", "code": "bad"}}).encode())


@pytest.fixture
def nothing_leaks(home: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Call it with the places: none of the values is in what was sent upstream, written to disk or printed."""
    places: list[Place] = []
    yield places.append
    printed = capfd.readouterr()
    assert leaks((printed.out + printed.err + caplog.text).encode()) == []
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files
    assert {path.name: leaks(path.read_bytes()) for path in files if leaks(path.read_bytes())} == {}
    for place in places:
        for asked in place.server.asked:
            assert leaks(asked.body + str(asked.headers).encode() + asked.path.encode()) == []


def leaks(data: bytes) -> list[str]:
    """The values in `data`, however spaces and escapes are written."""
    text = data.decode("utf-8", "replace")
    plain = text.replace(" ", "").replace("\\u0040", "@")
    return [value for value in VALUES if value in text or value.replace(" ", "") in plain]


def chat(place: Place, text: Any = TEXT, **fields: Any) -> tuple[int, dict[str, str], bytes]:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}
    return post(place.port, json.dumps(body).encode())


def test_masked_whole_and_streamed_the_client_gets_its_values_back(home: Path, nothing_leaks: Any) -> None:
    with gateway(home, echo, privacy={"mode": "mask", **OWN}) as place:
        nothing_leaks(place)
        _, headers, data = chat(place, metadata={"user_email": MAIL}, user=MAIL)
        assert json.loads(data)["choices"][0]["message"]["content"] == TEXT
        assert headers["x-pilotfish-privacy"] == "masked; types=CARD,CODE,EMAIL"
        _, headers, data = chat(place, stream=True)
        parts = [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]
        assert "".join(part["choices"][0]["delta"].get("content", "") for part in parts) == TEXT
        assert headers["x-pilotfish-privacy"] == "masked; types=CARD,CODE,EMAIL"
        assert place.server.asked[0].json["metadata"] == {"user_email": "<EMAIL_1>"}
        rows = place.rows(2)
        masked = "Write to <EMAIL_1>, card <CARD_1>, code <CODE_1>."
        assert [(row.input, row.answer, row.reference_answer) for row in rows] == [(masked,) * 3] * 2


def test_tools_called_and_answered_are_masked_and_restored(home: Path, nothing_leaks: Any) -> None:
    def call(asked: Asked) -> Reply:
        function = {"name": "send", "arguments": json.dumps({"to": "<EMAIL_1>", "card": "<CARD_1>"})}
        message = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]}
        body = json.loads(whole("/v1/chat/completions", "", "big"))
        body["choices"][0]["message"] = message
        return Reply(body=json.dumps(body).encode())

    with gateway(home, call, privacy={"mode": "mask", **OWN}) as place:
        nothing_leaks(place)
        told = [
            {"role": "user", "content": [{"type": "text", "text": TEXT}]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": json.dumps({"to": MAIL})}}]},
            {"role": "tool", "content": json.dumps({"found": [MAIL, {"number": int(CARD.replace(" ", ""))}]})},
        ]
        tools = [{"type": "function", "function": {"name": "send", "description": f"as {MAIL}"}}]
        body = {"model": "auto", "messages": told, "tools": tools, "x_vendor": {"deep": [MAIL]}}
        _, _, data = post(place.port, json.dumps(body).encode())
        called = json.loads(data)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
        assert json.loads(called) == {"to": MAIL, "card": CARD}
        place.rows(1)


def test_an_upstream_error_reaches_the_client_whole_and_the_log_masked(home: Path, nothing_leaks: Any) -> None:
    with gateway(home, failing, privacy={"mode": "mask", **OWN}) as place:
        nothing_leaks(place)
        for stream in (False, True):
            status, _, data = chat(place, stream=stream)
            assert (status, json.loads(data)["error"]["message"]) == (400, f"no: {TEXT}")
        place.rows(2)


def test_a_stream_that_is_cut_or_ends_in_an_error_is_restored_and_logged_masked(home: Path, nothing_leaks: Any) -> None:
    def cut(asked: Asked) -> Reply:
        return Reply(text=asked.json["messages"][-1]["content"], cut_after=14)

    with gateway(home, cut, privacy={"mode": "mask", **OWN}) as place:
        nothing_leaks(place)
        _, _, data = chat(place, f"{MAIL} is", stream=True)
        assert MAIL.encode() in data.replace(b'"}', b"")
        assert b"model_unreachable" in data
        assert place.rows(1)[0].error


def test_what_a_model_brings_up_itself_is_masked_in_the_log(home: Path, nothing_leaks: Any) -> None:
    with gateway(home, [Reply(text=f"ask {NAME_OF_MODEL}")], privacy={"mode": "mask"}) as place:
        nothing_leaks(place)
        for stream in (False, True):
            status, _, data = chat(place, "who?", stream=stream)
            assert status == 200
            assert stream or NAME_OF_MODEL.encode() in data
        assert [row.answer for row in place.rows(2)] == ["ask <EMAIL_1>"] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_local_refuses_what_no_local_model_answers(home: Path, nothing_leaks: Any, stream: bool) -> None:
    with gateway(home, echo, privacy={"mode": "local", **OWN}) as place:
        nothing_leaks(place)
        status, headers, data = chat(place, stream=stream)
        assert (status, json.loads(data)["error"]["code"]) == (451, "privacy_local_only")
        assert leaks(data) == []
        assert headers["x-pilotfish-privacy"] == "local; types=CARD,CODE,EMAIL"
        assert headers["x-pilotfish-reason"] == "private"
        assert chat(place, model=NAME_OF_MODEL)[0] == 451
        assert place.server.asked == []
        row = place.rows(2)[0]
        assert (row.status, row.reason, row.sampling, row.error) == (451, "private", "none", "privacy_local_only")
        assert (row.input, row.answer, row.instructions_id, row.task_id) == (None, None, "", "")
        assert chat(place, "nothing of that kind")[0] == 200


@pytest.mark.usefixtures("nothing_leaks")
def test_a_large_model_of_ones_own_may_see_it_and_the_log_still_holds_none(home: Path) -> None:
    with gateway(home, echo, privacy={"mode": "local", **OWN}, large={"local": True}) as place:
        status, headers, data = chat(place)
        assert (status, headers["x-pilotfish-reason"]) == (200, "private")
        assert json.loads(data)["choices"][0]["message"]["content"] == TEXT
        assert place.rows(1)[0].input is None


@pytest.mark.parametrize("mode", ["mask", "local"])
@pytest.mark.parametrize("failure", [ValueError(TEXT), TimeoutError(TEXT)])
def test_detectors_that_fail_let_nothing_out(
    home: Path, nothing_leaks: Any, monkeypatch: pytest.MonkeyPatch, mode: str, failure: Exception
) -> None:
    def scan(self: object, text: str, deadline_s: float) -> None:
        raise failure

    monkeypatch.setattr(privacy_guard.Detector, "scan", scan)
    with gateway(home, echo, privacy={"mode": mode}) as place:
        nothing_leaks(place)
        for stream in (False, True):
            status, _, data = chat(place, stream=stream)
            code = {"mask": "privacy_unmaskable", "local": "privacy_local_only"}[mode]
            assert (status, json.loads(data)["error"]["code"]) == (451, code)
            assert leaks(data) == []
        assert place.server.asked == []


def test_a_key_has_a_mode_of_its_own_and_the_stricter_one_holds(home: Path, nothing_leaks: Any) -> None:
    strict = make_key(home, "strict", privacy="local")
    masking = make_key(home, "masking", privacy="mask")
    plain = make_key(home, "plain")

    def chat_as(place: Place, key: str, *, stream: bool = False) -> tuple[int, str, bytes]:
        data = json.dumps({"model": "auto", "messages": [{"role": "user", "content": TEXT}], "stream": stream})
        status, headers, reply = post(place.port, data.encode(), authorization=f"Bearer {key}")
        return status, headers.get("x-pilotfish-privacy", ""), reply

    with gateway(home, echo, privacy=OWN) as place:
        nothing_leaks(place)
        assert chat_as(place, strict)[:2] == (451, "local; types=CARD,CODE,EMAIL")
        assert place.server.asked == []
        for stream in (False, True):
            status, note, reply = chat_as(place, masking, stream=stream)
            assert (status, note) == (200, "masked; types=CARD,CODE,EMAIL")
            assert MAIL in (reply.decode() if not stream else CHAT.decode_stream(reply).text or "")
    with gateway(home, echo, privacy={"mode": "mask"} | OWN) as place:
        nothing_leaks(place)
        assert chat_as(place, plain)[1] == "masked; types=CARD,CODE,EMAIL"
        assert chat_as(place, strict)[0] == 451
        assert len(place.server.asked) == 1


@pytest.mark.parametrize("mode", ["mask", "local"])
def test_a_keys_mode_holds_where_the_detectors_fail(
    home: Path, nothing_leaks: Any, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    def scan(self: object, text: str, deadline_s: float) -> None:
        raise ValueError(text)

    monkeypatch.setattr(privacy_guard.Detector, "scan", scan)
    headers = {"authorization": f"Bearer {make_key(home, privacy=mode)}"}
    with gateway(home, echo) as place:
        nothing_leaks(place)
        data = json.dumps({"model": "auto", "messages": [{"role": "user", "content": TEXT}]}).encode()
        assert post(place.port, data, **headers)[0] == 451
        assert place.server.asked == []


@pytest.mark.parametrize("mode", ["mask", "local"])
def test_an_image_is_treated_as_sensitive(home: Path, nothing_leaks: Any, mode: str) -> None:
    with gateway(home, echo, privacy={"mode": mode}) as place:
        nothing_leaks(place)
        parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": f"https://x/{MAIL}"}}]
        assert chat(place, parts)[0] == 451
        assert place.server.asked == []


@pytest.fixture
def serve(served_home: Path, learnt: Learnt) -> Serve:
    adopt(learnt, served_home)
    quality = {"max_risk": 0.05, "audit_rate": 1.0}
    return partial(gateway, served_home, quality=quality, learning={"encoder": learnt.encoder, "check_every_s": 0.05})


def test_a_specialist_may_answer_it_and_nobody_audits_that(serve: Serve, nothing_leaks: Any) -> None:
    with serve(echo, privacy={"mode": "local"}) as place:
        nothing_leaks(place)
        body = {"model": "auto", "messages": messages(f"my car is red, {MAIL}")}
        status, headers, data = post(place.port, json.dumps(body).encode())
        assert (status, headers["x-pilotfish-reason"]) == (200, "certified")
        assert json.loads(data)["choices"][0]["message"]["content"] == "red"
        assert headers["x-pilotfish-privacy"] == "local; types=EMAIL"
        row = place.rows(1)[0]
        assert (row.input, row.answer, row.local_answer, row.sampling) == (None, None, None, "local")
        time.sleep(0.2)
        assert place.server.asked == []


def test_one_task_can_be_local_by_its_name(serve: Serve, served_home: Path, nothing_leaks: Any) -> None:
    with serve(echo, privacy={"tasks": {"colours": "local"}}) as place:
        body = {"model": "other", "messages": messages(f"my car is red, {MAIL}")}
        assert post(place.port, json.dumps(body).encode())[0] == 451
        key = make_key(served_home, privacy="mask")
        assert post(place.port, json.dumps(body).encode(), authorization=f"Bearer {key}")[0] == 451
        assert place.server.asked == []
        nothing_leaks(place)
        assert post(place.port, json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode())[0] == 200


def test_an_audit_asks_in_masked_words(serve: Serve, nothing_leaks: Any) -> None:
    with serve(lambda _: Reply(text="red"), privacy={"mode": "mask"}) as place:
        nothing_leaks(place)
        body = {"model": "auto", "messages": messages(f"my car is red, {MAIL}")}
        status, headers, _ = post(place.port, json.dumps(body).encode())
        assert (status, headers["x-pilotfish-reason"]) == (200, "certified")
        place.server.wait_for_request()
        assert place.server.asked[0].json["messages"][-1]["content"] == "my car is red, <EMAIL_1>"
        assert place.rows(1)[0].sampling == "audit"


@pytest.mark.parametrize("mode", ["mask", "local"])
def test_what_is_asked_again_is_masked_and_what_is_local_is_not(serve: Serve, nothing_leaks: Any, mode: str) -> None:
    def reply(asked: Asked) -> Reply:
        return Reply(text=f"red, says {NAME_OF_MODEL}")

    with serve(reply, quality={}, consistency={"calls": 10, "answers": 3}, privacy={"mode": mode}) as place:
        nothing_leaks(place)
        status = post(place.port, json.dumps({"messages": messages(f"my car is red, {MAIL}")}).encode())[0]
        assert status == {"mask": 200, "local": 451}[mode]
        if mode == "mask":
            place.server.wait_for_request(3)
            assert {asked.json["messages"][-1]["content"] for asked in place.server.asked} == {
                "my car is red, <EMAIL_1>"
            }
        time.sleep(0.3)
        assert len(place.server.asked) == {"mask": 3, "local": 0}[mode]


def test_the_events_of_the_upstream_are_all_there(home: Path) -> None:
    with gateway(home, echo, privacy={"mode": "mask"}) as place:
        _, _, data = chat(place, f"to {MAIL}", stream=True)
        n = len(events("/v1/chat/completions", "to <EMAIL_1>", {"model": "big"}))
        assert data.count(b"data: ") == n
