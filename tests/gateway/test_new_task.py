"""A new task without code: from an uploaded file to a certificate, and everything that may not happen on the way."""

from __future__ import annotations

import ast
import csv
import dataclasses
import io
import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from typing import Any

import pytest

from pilotfish.gateway import new_tasks
from pilotfish.gateway.site import uploads
from pilotfish.store.build import open_registry
from tools.certificates import refusal
from tools.forms import ask, get, send, sign_in, upload
from tools.gateway import Place, gateway
from tools.keyed import Got
from tools.served_home import INSTRUCTIONS, messages, sentences
from tools.site import HOSTILE, make_admin

CHOSEN = {"input": "text", "answer": "colour", "order": "file", "max_risk": "5", "confidence": "95", "per": "answer"}
WAITS = """
import json, time
print(json.dumps({"stage": "fit", "done": 3, "total": 9}), flush=True)
time.sleep(60)
"""
TOLD = """
import sys
print("Expected sunshine, got rain.", file=sys.stderr)
sys.exit(2)
"""


def table(rows: list[tuple[str, ...]], *columns: str) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([columns, *rows])
    return file.getvalue().encode()


EXAMPLES = table(list(sentences(240)), "text", "colour")
FEW = table(list(sentences(30)), "text", "colour")


class Desk:
    """Somebody who is signed in at a gateway."""

    def __init__(self, place: Place, key: str) -> None:
        self.place = place
        self.cookie, self.token = sign_in(place.port, key)

    def upload(self, data: bytes, file: str = "x.csv", **fields: str) -> Got:
        fields = {"csrf": self.token, "instructions": INSTRUCTIONS, **fields}
        return upload(self.place.port, self.cookie, data, file, **fields)

    def new(self, data: bytes = FEW, file: str = "x.csv", **fields: str) -> str:
        """The path of the page of what was uploaded."""
        got = self.upload(data, file, **fields)
        assert got.status == 303, got.data
        return got.headers["location"]

    def get(self, path: str) -> str:
        return unescape(get(self.place.port, path, self.cookie).data.decode())

    def send(self, path: str, **fields: str) -> Got:
        return send(self.place.port, path, self.cookie, csrf=self.token, **fields)

    def start(self, path: str, **fields: str) -> None:
        got = self.send(f"{path}/start", **{**CHOSEN, **fields})
        assert got.status == 303, got.data

    def state(self, path: str) -> dict[str, Any]:
        """The row of the list."""
        rows = json.loads(get(self.place.port, "/new.json", self.cookie).data)
        return next(row for row in rows if path.endswith(row["new_task_id"]))

    def wait(self, path: str, *states: str) -> str:
        """Its page once it has one of these states."""
        deadline_s = time.monotonic() + 60
        while self.state(path)["state"] not in states:
            assert time.monotonic() < deadline_s, self.get(path)
            time.sleep(0.02)
        return self.get(path)

    def files(self, path: str) -> set[str]:
        return {file.name for file in (self.place.home / "new-tasks" / path.rpartition("/")[2]).glob("*")}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("new") / "home"
    key = make_admin(home)
    with gateway(home, quality={"max_risk": 0.05, "audit_rate": 0.0}, learning={"encoder": "none"}) as place:
        yield Desk(place, key)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that tell how far they are and do not end."""
    monkeypatch.setattr(new_tasks, "_command", lambda *_: [sys.executable, "-c", WAITS])


# The whole way.


def test_examples_become_a_task_that_serves(desk: Desk) -> None:
    instructions = f"{INSTRUCTIONS}\nNever say {HOSTILE}."
    path = desk.new(EXAMPLES, file=f"../../{HOSTILE}.csv", instructions=instructions)
    asked = desk.get(path)
    assert '<option value="text" selected>' in asked
    assert '<option value="colour" selected>' in asked
    desk.start(path, sample="1")
    page = desk.wait(path, "done", "failed")
    assert "<h2>Certified</h2>" in page
    assert re.search(r"Held-out score: of 120 examples that it did not learn from it would answer \d+", page)
    assert "It answers from now on." in page
    assert not {name for name in desk.files(path) if name.startswith(("upload", "examples"))}
    with closing(open_registry(desk.place.home)) as registry:
        (record,) = registry.tasks()
    reply = desk.place.client.chat.completions.with_raw_response.create(
        model=f"pilotfish/{record.name}",
        messages=[{"role": "system", "content": instructions}, messages("my shirt 77 is green")[-1]],
    )
    assert reply.headers["x-pilotfish-reason"] == "certified"
    assert reply.parse().choices[0].message.content == "green"
    snippets = dict(re.findall(r'id="code-(\w+)"[^>]*>(.*?)</pre>', page, re.DOTALL))
    asked_for = _said_in(snippets["python"])
    assert asked_for["model"] == f"pilotfish/{record.name}"
    assert asked_for["messages"][0]["content"] == instructions
    assert json.loads(shlex.split(snippets["curl"])[-1]) == asked_for
    assert json.loads(re.search(r"stringify\((.*)\),\n", snippets["javascript"], re.DOTALL)[1]) == asked_for  # type: ignore[index]
    counted = json.loads(get(desk.place.port, "/overview/time.json", desk.cookie).data)
    assert sum(row["requests"] for row in counted) <= 1  # what was imported is no request of this gateway


def _said_in(python: str) -> dict[str, Any]:
    (asked,) = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Assign)
                and getattr(node.targets[0], "id", "") == "asked"]  # fmt: skip
    found: dict[str, Any] = ast.literal_eval(asked.value)
    return found


def test_a_refusal_says_what_is_missing_and_how_it_did(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_registry(desk.place.home)) as registry:
        registry.put_task(dataclasses.replace(registry.tasks()[0], task_id="r", name=HOSTILE, certificate_id=""))
    outcome = {**refusal(task_id="r", message=HOSTILE).to_json(), "adopted": False, "n_taught": 40,
               "specialist_sha256": "ab" * 32, "scores": {"out_of_fold_agreement": 0.75}}  # fmt: skip
    told = f"print({json.dumps(json.dumps({'task_id': 'r', 'outcomes': [outcome]}))}); raise SystemExit(1)"
    monkeypatch.setattr(new_tasks, "_command", lambda *_: [sys.executable, "-c", told])
    path = desk.new()
    desk.start(path)
    page = desk.wait(path, "done", "failed")
    assert "412 more examples are needed" in page
    assert "75.0 % of 40 examples were answered as yours" in page
    assert b"<script>alert" not in get(desk.place.port, path, desk.cookie).data


# Jobs.


@pytest.mark.usefixtures("slow")
def test_a_job_tells_its_progress_and_can_be_cancelled_while_another_waits(desk: Desk) -> None:
    first, second = desk.new(), desk.new()
    desk.start(first)
    desk.start(second)
    desk.wait(first, "running")
    deadline_s = time.monotonic() + 10
    while 'value="3" max="9"' not in desk.get(first):
        assert time.monotonic() < deadline_s
    assert "fitting" in desk.get(first)
    assert desk.state(second)["state"] == "waiting"
    assert desk.send(f"{first}/again").status == 400
    assert desk.send(f"{first}/discard").status == 400
    assert [desk.send(f"{path}/cancel").status for path in (second, first)] == [303, 303]
    desk.wait(first, "cancelled")
    desk.wait(second, "cancelled")
    assert "Start again" in desk.get(first)
    assert {"examples.jsonl", "upload.csv"} <= desk.files(first)
    assert desk.send(f"{first}/discard").headers["location"] == "/new"
    assert desk.files(first) == set()


def test_a_job_that_fails_says_why_and_can_be_changed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_tasks, "_command", lambda *_: [sys.executable, "-c", TOLD])
    path = desk.new()
    desk.start(path)
    assert "Expected sunshine, got rain." in desk.wait(path, "failed")
    assert desk.send(f"{path}/change").status == 303
    assert "Which column is which?" in desk.get(path)


@pytest.mark.usefixtures("slow")
def test_a_job_of_a_gateway_that_ended_can_be_started_again(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_admin(home)
    with gateway(home) as place:
        desk = Desk(place, key)
        path = desk.new()
        desk.start(path)
        desk.wait(path, "running")
    with gateway(home) as place:
        desk = Desk(place, key)
        assert "The gateway ended while it was learnt." in desk.wait(path, "interrupted")
        monkeypatch.setattr(new_tasks, "MOST_WAITING", 0)
        assert desk.send(f"{path}/again").status == 429
        monkeypatch.undo()
        monkeypatch.setattr(new_tasks, "_command", lambda *_: [sys.executable, "-c", TOLD])
        assert desk.send(f"{path}/again").status == 303
        desk.wait(path, "failed")


# Files.


def test_rows_that_cannot_be_read_are_told_with_their_lines(desk: Desk) -> None:
    rows = [{"ask": text, "say": colour} for text, colour in sentences(30)]
    lines = [json.dumps(row) for row in rows]
    lines[3], lines[7], lines[9] = "{not json", json.dumps({"ask": HOSTILE}), json.dumps({"ask": 5, "say": "red"})
    path = desk.new("\n".join(lines).encode(), file="x.jsonl")
    got = desk.send(f"{path}/start", **{**CHOSEN, "input": "ask", "answer": "say"})
    said = unescape(got.data.decode())
    assert got.status == 400
    assert "3 rows cannot be read" in said
    assert "Line 4: not JSON" in said
    assert "Line 8: expected something in the column 'say', got nothing" in said
    assert "Line 10: expected text in the column 'ask', got '5'" in said
    assert desk.state(path)["state"] == "uploaded"


@pytest.mark.parametrize(
    ("chosen", "wrong"),
    [
        ({"answer": "text"}, "Expected a different column for each"),
        ({"answer": "colour2"}, "Expected a different column for each"),
        ({"max_risk": "0"}, "[quality] max_risk must lie between"),
        ({"max_risk": "nan"}, "[quality] max_risk must lie between"),
        ({"confidence": "much"}, "Expected a promise in numbers"),
        ({"per": "loss"}, "Expected a promise in numbers"),
        ({"time": "text"}, "Expected a different column for each"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_on_its_page(desk: Desk, chosen: dict[str, str], wrong: str) -> None:
    path = desk.new()
    got = desk.send(f"{path}/start", **{**CHOSEN, **chosen})
    assert got.status == 400
    assert wrong in unescape(got.data.decode())
    assert desk.send(f"{path}/discard").status == 303


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "Expected examples, got none"),
        (b"\n \n", "The file is empty"),
        (b"\x1f\x8b\x08rest", "something binary or compressed"),
        (b"a,b\0\n1,2\n", "something binary or compressed"),
        (b"\xff\xfe,b\n1,2\n", "cannot be read"),
        (b"only\none\n", "Expected rows with 2 to 200 columns, got 1"),
        (b"text,colour\n", "holds no row"),
        (b"a,b\n" * 100_002, "Expected at most 100,000 rows, got more"),
        (b"a,b" + b"\n" * 1_000_001, "Expected at most 100,000 rows, got 1,000,001 lines"),
    ],
)
def test_what_is_no_table_is_refused(desk: Desk, data: bytes, wrong: str) -> None:
    got = desk.upload(data)
    assert got.status == 400
    said = unescape(got.data.decode())
    assert wrong in said
    assert str(desk.place.home) not in said
    assert not list((desk.place.home / "new-tasks").glob(".upload-*"))


def test_pasted_examples_and_other_forms_of_tables(desk: Desk) -> None:
    pasted = "Sentence;Sort;Source\r\n" + "".join(f"{text};{colour};shop\r\n" for text, colour in sentences(30))
    page = desk.get(desk.new(b"", file="", pasted=pasted))
    assert "30 rows of <strong>pasted</strong>" in page
    assert '<option value="Sentence" selected>' in page
    assert '<option value="Sort" selected>' in page
    chats = [
        {"messages": [*messages(text), {"role": "assistant", "content": colour}]} for text, colour in sentences(30)
    ]
    page = desk.get(desk.new("\n".join(map(json.dumps, chats)).encode(), file="chats.jsonl", instructions=""))
    assert "nothing is to be chosen" in page
    assert "Expected instructions, got none" in unescape(desk.upload(FEW, instructions=" ").data.decode())
    assert "got both" in unescape(desk.upload(FEW, pasted="a,b").data.decode())


def test_a_file_that_is_too_large_is_told_so_and_kept_nowhere(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 1 << 20)
    got = desk.upload(FEW + b"x" * (3 << 20))
    assert got.status == 413
    assert b"larger than the limit of 1 MiB" in got.data
    assert not list((desk.place.home / "new-tasks").glob(".upload-*"))


def test_hostile_names_and_texts_stay_text(desk: Desk) -> None:
    rows = [(f"{HOSTILE} {text}", colour, HOSTILE) for text, colour in sentences(30)]
    path = desk.new(table(rows, HOSTILE, "colour", f"x{HOSTILE}"), file=f"{HOSTILE}.csv", instructions=HOSTILE)
    pages = [get(desk.place.port, address, desk.cookie).data for address in ("/new", path)]
    pages.append(desk.send(f"{path}/start", **{**CHOSEN, "input": HOSTILE, "answer": HOSTILE}).data)
    pages.append(desk.upload(f"{HOSTILE}\n{HOSTILE}\n".encode(), file=HOSTILE).data)
    for page in pages:
        assert b"<script>alert" not in page
        assert b"<img" not in page
    assert all(b"alert(1)" in page for page in pages[:3])


# Who may.


def test_only_forms_of_ones_own_session_change_anything(desk: Desk) -> None:
    path, port = desk.new(), desk.place.port
    before = desk.get("/new.json")
    for token in ("", "x"):
        assert upload(port, desk.cookie, FEW, "x.csv", csrf=token, instructions="x").status == 403
    assert upload(port, desk.cookie, FEW, "x.csv", instructions="x", csrf=desk.token).status == 403  # not the first
    assert upload(port, "", FEW, "x.csv", csrf=desk.token).status == 401
    elsewhere = {"content-type": "multipart/form-data; boundary=b", "origin": f"http://localhost:{port + 1}"}
    assert ask(port, "POST", "/new", b"", desk.cookie, elsewhere).status == 403
    for action in ("start", "again", "change", "cancel", "discard"):
        assert send(port, f"{path}/{action}", desk.cookie, csrf="x", **CHOSEN).status == 403
        assert send(port, f"{path}/{action}", csrf=desk.token, **CHOSEN).status == 401
    assert desk.get("/new.json") == before
    assert not list((desk.place.home / "new-tasks").glob(".upload-*"))


def test_who_may_only_read_sees_no_rows_and_no_buttons(home: Any) -> None:
    key = make_admin(home)
    with gateway(home) as place:
        path = Desk(place, key).new()
        assert get(place.port, path).status == 303  # with an admin key, reading needs it too
        found = get(place.port, path, authorization=f"Bearer {key}").data
        assert b"<form" not in found.partition(b"<main")[2]
        assert b"is red" not in found
        assert b"Sign in" in get(place.port, "/new", authorization=f"Bearer {key}").data


@pytest.mark.parametrize(
    "name",
    ["../../registry.db", "..%2f..%2fregistry.db", "%2e%2e", "0" * 15, "0" * 17, "0" * 16, "A" * 16, ".upload-x"],
)
def test_an_address_reaches_no_file(desk: Desk, name: str) -> None:
    assert get(desk.place.port, f"/new/{name}", desk.cookie).status == 404
    for action in ("start", "cancel", "discard"):
        assert desk.send(f"/new/{name}/{action}", **CHOSEN).status == 404


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", b"", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=b", b"", 400),
        ("multipart/form-data; boundary=b", b"x" * 6000, 400),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"h" * 6000, 400),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n\r\nx\r\n--b--", 400),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\nx', 400),
    ],
)
def test_torn_forms_are_refused(desk: Desk, kind: str, body: bytes, status: int) -> None:
    assert ask(desk.place.port, "POST", "/new", body, desk.cookie, {"content-type": kind}).status == status


def test_nothing_is_taken_where_the_log_keeps_no_text(home: Any) -> None:
    key = make_admin(home)
    with gateway(home, keep_text=False) as place:
        got = Desk(place, key).upload(FEW)
        assert got.status == 400
        assert b"the settings keep no text" in got.data


def test_examples_are_masked_or_left_out_as_privacy_wants(home: Any) -> None:
    key = make_admin(home)
    rows = [*sentences(30), ("write to ann@example.com about red", "red")]
    for mode, n, is_masked in (("mask", 31, True), ("local", 30, False)):
        with gateway(home, privacy={"mode": mode}) as place, pytest.MonkeyPatch.context() as patch:
            patch.setattr(new_tasks, "_command", lambda *_: [sys.executable, "-c", TOLD])
            desk = Desk(place, key)
            path = desk.new(table(list(rows), "text", "colour"))
            desk.start(path)
            desk.wait(path, "failed")
            kept = (home / "new-tasks" / path.rpartition("/")[2] / "examples.jsonl").read_text()
            assert desk.state(path)["examples"] == n
            assert ("<EMAIL_1>" in kept) == is_masked
            assert "ann@example.com" not in kept
