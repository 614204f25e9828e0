"""`/graphql`: the pages' data behind cursors, for whoever may see the pages, and nothing that costs too much."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from graphql import get_introspection_query

from pilotfish.gateway.site import graphql_limits, requests
from pilotfish.store.build import open_log, open_writer
from tools.gateway import Place, gateway
from tools.keyed import Got, make_key
from tools.log_rows import request_row
from tools.site import HOSTILE, NOW_S, TEXT, fill, make_admin

PAGE = "pageInfo { hasNextPage endCursor }"
EVERY_FIELD = (
    "requestId time taskName model reason status error latencyS localS certainty scope promptTokens completionTokens "
    "costUsd sampling keyId input answer localAnswer referenceAnswer"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("graphql") / "home"
    fill(home)
    with closing(open_writer(home)) as writer:
        for number in range(5):
            writer.append(request_row(f"r{number}", time_s=NOW_S - 90_000 + number, task_id="u", model="m"))
    open_log(home)
    with gateway(home, learning={"check_every_s": 60.0}) as found:
        yield found


def send(port: int, body: bytes, method: str = "POST", **headers: str) -> Got:
    headers = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    with closing(HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.request(method, "/graphql", body, headers)
        response = connection.getresponse()
        return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def query(port: int, text: str, **variables: object) -> Any:
    """The data; fails where there are errors."""
    got = send(port, json.dumps({"query": text, "variables": variables}).encode())
    found = json.loads(got.data)
    assert (got.status, found.get("errors")) == (200, None)
    return found["data"]


def refused(port: int, text: str, **variables: object) -> dict[str, Any]:
    """The first error of a query of which nothing was run."""
    found = json.loads(send(port, json.dumps({"query": text, "variables": variables}).encode()).data)
    assert "data" not in found
    return found["errors"][0]


# What it tells.


def test_it_tells_what_the_pages_data_tell(place: Place) -> None:
    found = query(place.port, f'{{ request(requestId: "local") {{ {EVERY_FIELD} task {{ name nRequests }} }} }}')
    with closing(HTTPConnection("127.0.0.1", place.port, timeout=120)) as connection:
        connection.request("GET", "/requests.json?task=t")
        page = json.loads(connection.getresponse().read())
    (row,) = [row for row in page if row["request_id"] == "local"]
    told = found["request"]
    assert told.pop("task") == {"name": HOSTILE, "nRequests": 2}
    assert told["input"] == TEXT
    assert list(told.values()) == list(row.values())


def test_a_list_is_read_to_its_end_by_cursors(place: Place) -> None:
    text = f"query ($after: String) {{ requests(first: 3, after: $after) {{ nodes {{ requestId }} {PAGE} }} }}"
    seen, after = [], None
    while page := query(place.port, text, after=after)["requests"]:
        seen += [node["requestId"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == ["plain", "failed", "local", "r4", "r3", "r2", "r1", "r0"]
    failed = query(place.port, '{ requests(task: "t", failed: true) { nodes { requestId status } } }')
    assert failed["requests"]["nodes"] == [{"requestId": "failed", "status": 502}]


def test_tasks_hold_their_requests_and_certificates(place: Place) -> None:
    inner = "requests(first: 1) { nodes { requestId } } certificates { nodes { verdict said examplesShort } }"
    promised, waiting = query(place.port, f"{{ tasks {{ nodes {{ name mode {inner} }} }} }}")["tasks"]["nodes"]
    assert (promised["name"], waiting["name"]) == (HOSTILE, "refused")
    assert [node["verdict"] for node in promised["certificates"]["nodes"]] == ["certificate"]
    assert waiting["certificates"]["nodes"] == [{"verdict": "refusal", "said": HOSTILE, "examplesShort": 412}]
    assert waiting["requests"]["nodes"] == [{"requestId": "r4"}]
    assert query(place.port, '{ task(name: "u") { name } nothing: task(name: "x") { name } }') == {
        "task": {"name": "refused"}, "nothing": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "key"), [("tasks", "name"), ("certificates", "verdict"), ("spend(by: TASK)", "start task nRequests")]
)
def test_every_list_goes_on_behind_its_cursor(place: Place, field: str, key: str) -> None:
    name, _, others = field.partition("(")
    others = others.removesuffix(")")

    def page(arguments: str) -> dict[str, Any]:
        found = query(place.port, f"{{ {name}({others} {arguments}) {{ nodes {{ {key} }} {PAGE} }} }}")
        part: dict[str, Any] = found[name]
        return part

    every, first = page("first: 100"), page("first: 1")
    assert (every["pageInfo"]["hasNextPage"], first["pageInfo"]["hasNextPage"]) == (False, True)
    after = json.dumps(first["pageInfo"]["endCursor"])
    assert first["nodes"] + page(f"after: {after}")["nodes"] == every["nodes"]


def test_spend_adds_up_by_time_task_and_model(place: Place) -> None:
    def spent(arguments: str) -> list[dict[str, Any]]:
        fields = "start task model nRequests spentUsd auditsUsd unpriced"
        found = query(place.port, f"{{ spend({arguments}) {{ nodes {{ {fields} }} }} }}")
        rows: list[dict[str, Any]] = found["spend"]["nodes"]
        return rows

    (whole,) = spent("step: ALL")
    assert whole["nRequests"] == 8
    for arguments in ("step: HOUR", "step: DAY", "step: DAY, by: TASK", "step: ALL, by: MODEL"):
        rows = spent(arguments)
        assert len(rows) > 1
        assert sum(row["nRequests"] for row in rows) == 8
    assert {row["task"] for row in spent("step: ALL, by: TASK")} == {None, HOSTILE, "refused"}
    by_model = {row["model"]: row for row in spent("step: ALL, by: MODEL")}
    assert by_model["m"]["nRequests"] == 5
    assert by_model["m"]["auditsUsd"] is None
    assert spent('until: "2001-01-01", since: "2000-01-01"') == []


def test_no_text_is_told_where_none_is_kept(home: Path) -> None:
    fill(home)
    with gateway(home, keep_text=False) as found:
        text = f"{{ requests {{ nodes {{ {EVERY_FIELD} }} }} tasks {{ nodes {{ name instructions }} }} }}"
        told = query(found.port, text)
    assert "private" not in json.dumps(told)
    assert [row["input"] for row in told["requests"]["nodes"]] == [None] * 3


# Who may ask, and how.


def test_it_takes_what_the_pages_take(home: Path) -> None:
    make_key(home)
    admin = make_admin(home)
    asked = json.dumps({"query": get_introspection_query()}).encode()
    with gateway(home) as found:
        assert send(found.port, asked).status == 401
        assert send(found.port, asked, authorization="Bearer pf-wrong").status == 401
        got = send(found.port, asked, authorization=f"Bearer {admin}")
        assert (got.status, got.headers["cache-control"]) == (200, "no-store")
        assert "__schema" in json.loads(got.data)["data"]


def test_nothing_is_asked_across_sites_or_by_address(place: Place) -> None:
    asked = b'{"query": "{ __typename }"}'
    got = send(place.port, b"", "GET")
    assert (got.status, got.headers["allow"]) == (405, "POST")
    assert send(place.port, asked, content_type="text/plain").status == 415
    assert send(place.port, asked, content_type="application/x-www-form-urlencoded").status == 415
    assert send(place.port, asked, origin=f"http://localhost:{place.port + 1}").status == 403
    assert send(place.port, asked, origin="https://evil.example").status == 403
    assert send(place.port, asked, origin=f"http://127.0.0.1:{place.port}").status == 200
    assert send(place.port, asked, content_type="application/json; charset=utf-8").status == 200


DEEP = b'{"query": "{ __typename }", "variables": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'[{"query": "{ __typename }"}]',
        b'{"query": 1}',
        b'{"query": " "}',
        b'{"query": "{ __typename }", "variables": 1}',
        b'{"query": "{ __typename }", "operationName": "B"}',
        DEEP,
    ],
)
def test_what_is_no_query_is_a_400(place: Place, body: bytes) -> None:
    got = send(place.port, body)
    assert (got.status, "error" in json.loads(got.data)) == (400, True)


def test_a_body_of_any_size_is_not_read(place: Place) -> None:
    got = send(place.port, b" " * 40_000)
    assert (got.status, "at most 32,768 bytes" in got.data.decode()) == (413, True)


def test_a_refused_query_is_a_400_in_graphqls_own_media_type(place: Place) -> None:
    own = "application/graphql-response+json"
    for text, status in (("{ nothing }", 400), ('{ requests(after: "x") { nodes { requestId } } }', 200)):
        got = send(place.port, json.dumps({"query": text}).encode(), accept=own)
        assert (got.status, got.headers["content-type"]) == (status, own + "; charset=utf-8")
        assert json.loads(got.data)["errors"]


def test_without_the_extra_it_says_what_to_install(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("pilotfish.gateway.site.graphql_schema", raising=False)
    monkeypatch.delitem(sys.modules, "pilotfish.gateway.site.graphql_schema", raising=False)
    monkeypatch.setitem(sys.modules, "strawberry", None)
    got = send(place.port, b'{"query": "{ __typename }"}')
    assert got.status == 501
    assert "pip install 'pilotfish[graphql]'" in got.data.decode()


def test_a_fault_of_ours_tells_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("/secret/path")

    monkeypatch.setattr(requests, "newest", broken)
    got = send(place.port, b'{"query": "{ requests { nodes { requestId } } }"}')
    assert got.status == 500
    assert b"secret" not in got.data


# What would cost too much.


def chain(length: int, end: str) -> str:
    """Fragments that each use the next one twice."""
    links = " ".join(f"fragment f{i} on Query {{ ...f{i + 1} ...f{i + 1} }}" for i in range(length))
    return f"{{ ...f0 }} {links} fragment f{length} on Query {{ {end} }}"


HUNDRED = f"requests(first: 100) {{ nodes {{ {EVERY_FIELD} }} }}"
NESTED = "requests(first: 100) { nodes { task { requests(first: 100) { nodes { status } } } } }"
ALL_OF_THE_SCHEMA = "{ __schema { types { fields { name args { type { fields { name args { name } } } } } } } }"


@pytest.mark.parametrize(
    ("text", "what", "found"),
    [
        (f"{{ {' '.join(f'a{i}: {HUNDRED}' for i in range(5))} }}", "cost", 5 * 2110),
        (f"{{ ...p }} fragment p on Query {{ {NESTED} }}", "cost", 10 + 100 * (1 + 1 + 10 + 100 * 2)),
        (chain(60, "requests(first: 1) { nodes { requestId } }"), "cost", 12 * 2**60),
        (chain(60, "a: __typename"), "aliases", 2**60),
        ("{ " + " ".join(f"a{i}: __typename" for i in range(21)) + " }", "aliases", 21),
        ("{ tasks { nodes { requests { nodes { task { requests { nodes { task { name } } } } } } } } }", "depth", 9),
    ],
)
def test_what_takes_too_much_is_refused_with_the_figure(place: Place, text: str, what: str, found: int) -> None:
    most = {name: getattr(graphql_limits, f"MAX_{name.upper()}") for name in ("cost", "aliases", "depth")}
    error = refused(place.port, text)
    assert error["extensions"] == {"code": f"too_much_{what}", what: found, "limit": most[what]}
    assert f"{what} {found:,}; at most {most[what]:,} is allowed" in error["message"]


def test_the_limits_are_documented() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "pages.md").read_text("utf-8").split())
    for said in (
        f"depth {graphql_limits.MAX_DEPTH}",
        f"{graphql_limits.MAX_ALIASES} aliases",
        f"pages of 1 to {graphql_limits.MAX_PAGE}",
        f"{graphql_limits.MAX_TOKENS:,} words and signs",
        f"cost {graphql_limits.MAX_COST:,}",
        f"and {graphql_limits.READ_COST} for each that reads",
        f"cost {10 + 100 * (1 + len(EVERY_FIELD.split())):,}",
    ):
        assert said in text


@pytest.mark.parametrize("text", [f"{{ {HUNDRED} }}", get_introspection_query(), ALL_OF_THE_SCHEMA])
def test_what_programs_ask_is_not_too_much(place: Place, text: str) -> None:
    assert query(place.port, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{ " + "__typename " * 1000 + "}", "more than 1000 tokens"),
        ("{ " + "... { " * 300 + "__typename" + " }" * 301, "nested too deeply"),
        ("{ requests(first: " + "[" * 900, "nested too deeply"),
        ("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }", "within itself"),
        ("{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }", "introspection depth"),
        ("mutation { x }", "not supported"),
        ("{ requests { nodes { ... @defer { input } } } }", "Unknown directive"),
    ],
)
def test_bombs_are_refused(place: Place, text: str, said: str) -> None:
    assert said in refused(place.port, text)["message"]


@pytest.mark.parametrize("n", [0, -5, 101, 1000.0])
def test_a_page_has_a_most_however_it_is_asked_for(place: Place, n: float) -> None:
    text = "query ($n: Int!) { tasks(first: 1) { nodes { requests(first: $n) { nodes { requestId } } } } }"
    assert "it must be 1 to 100" in refused(place.port, text, n=n)["message"]


@pytest.mark.parametrize(
    "field",
    ['requests(after: "no") { nodes { status } }', 'spend(after: "no") { nodes { start } }',
     'spend(since: "1990-01-01") { nodes { start } }', f'certificates(after: "{"9" * 40}") {{ nodes {{ n }} }}',
     f'spend(after: "{"9" * 400}:t") {{ nodes {{ start }} }}', 'certificates(after: "-1") { nodes { n } }'],
)  # fmt: skip
def test_a_cursor_or_a_time_that_is_none_is_an_error_of_that_field(place: Place, field: str) -> None:
    found = json.loads(send(place.port, json.dumps({"query": f"{{ {field} }}"}).encode()).data)
    assert found["data"] is None
    assert found["errors"][0]["path"] == [field.partition("(")[0]]
    assert "`" in found["errors"][0]["message"]
