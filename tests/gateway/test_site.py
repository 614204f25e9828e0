"""The gateway's web pages: who sees them, what may be shown, and that no text becomes more than text."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest

from pilotfish.gateway import door
from pilotfish.gateway.site import figures, live, savings, security
from pilotfish.store.build import open_keys, open_log, open_registry, open_writer
from tools.forms import ask, get, send
from tools.gateway import Place, gateway
from tools.keyed import make_key
from tools.log_rows import request_row
from tools.site import HOSTILE, NOW_S, TEXT, fill, make_admin
from tools.visitor import Tags

ALL_OF_IT = ("/", "/?days=1", "/tasks", "/tasks/refused", "/requests", "/requests?failed=1", "/requests/local")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("site") / "home"
    fill(home)
    with gateway(home, learning={"check_every_s": 60.0}) as found:
        deadline_s = time.monotonic() + 120
        while b"refused" not in get(found.port, "/tasks").data:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        yield found


@pytest.fixture
def admin(home: Path) -> str:
    return make_admin(home)


# What may be shown.


@pytest.mark.parametrize(
    "path",
    [
        *ALL_OF_IT,
        "/tasks/" + quote(HOSTILE, safe=""),
        "/requests/failed",
        "/requests/plain",
        "/login?next=" + quote(HOSTILE),
        "/tasks/" + quote("<script>x</script>", safe=""),
    ],
)
def test_hostile_texts_stay_text(place: Place, path: str) -> None:
    got = get(place.port, path)
    tags = Tags(got.data)
    assert got.status == (404 if path.endswith("script%3E") and "alert" not in path else 200)
    scripts = [attributes for name, attributes in tags.found if name == "script"]
    assert scripts in ([], [{"src": "/static/site.js", "defer": ""}])
    assert not {"img", "iframe", "object", "embed", "style", "base"} & {name for name, _ in tags.found}
    for _, attributes in tags.found:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert all(attributes.get(name, "/")[0] in "/?#" for name in ("href", "src", "action"))
    if path != "/login" and "tasks/refused" in path:
        assert "<script>alert(1)</script>" in tags.text
    assert len(got.data) < 150_000


def test_every_reply_has_the_headers(place: Place) -> None:
    for path in (
        *ALL_OF_IT,
        "/login",
        "/static/site.css",
        "/static/site.js",
        "/tasks.csv",
        "/tasks.json",
        "/tasks/nothing",
    ):
        headers = get(place.port, path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_a_request_is_told_step_by_step(place: Place) -> None:
    text = Tags(get(place.port, "/requests/local").data).text
    assert "no certificate was in force" in text
    assert "0.9000" in text
    assert "differed (loss 1)" in text
    assert "what it said when asked again, 1" in text


def test_a_task_tells_promise_curve_and_disagreements(place: Place) -> None:
    data = get(place.port, "/tasks/t").data
    text = Tags(data).text
    assert "with 95 % confidence" in text
    assert data.count(b"<svg") == 3
    assert "Disagreements" in text
    assert "412 more answers are needed" in Tags(get(place.port, "/tasks/refused").data).text


def test_unknown_prices_are_unknown_and_never_zero(place: Place) -> None:
    text = Tags(get(place.port, "/").data).text
    assert "unknown: no price of the large model is stated" in text
    assert "0.0 to 79.3 % (95 %), n = 1" in text


def test_cells_that_a_spreadsheet_would_run_are_prefixed(place: Place) -> None:
    for path in (
        "/requests.csv",
        "/tasks.csv",
        "/tasks/t/differing.csv",
        "/overview/tasks.csv",
        "/requests/failed.csv",
    ):
        got = get(place.port, path)
        assert got.headers["content-type"] == "text/csv; charset=utf-8"
        rows = list(csv.reader(io.StringIO(got.data.decode(), newline="")))
        assert len(rows) > 1
        cells = [cell for row in rows for cell in row]
        assert {"'" + HOSTILE, "'" + TEXT} & set(cells)
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_data_is_what_the_page_shows(place: Place) -> None:
    rows = json.loads(get(place.port, "/requests.json?failed=1").data)
    assert [(row["request_id"], row["status"], row["input"]) for row in rows] == [("failed", 502, TEXT)]
    names = {row["task"] for row in json.loads(get(place.port, "/tasks.json").data)}
    assert names == {HOSTILE, "refused"}
    assert json.loads(get(place.port, "/overview/time.json").data)[0]["differed"] == 1.0
    assert get(place.port, "/tasks/t/nothing.csv").status == 404
    assert get(place.port, "/nothing.csv").status == 404


def test_no_text_is_shown_where_none_is_kept(home: Path) -> None:
    fill(home)
    with gateway(home, keep_text=False) as found:
        for path in (*ALL_OF_IT, "/tasks/t", "/requests/plain", "/requests.json", "/tasks/t/differing.csv",
                     "/tasks/t/examples.json", "/requests/plain.json", "/requests/local.csv"):  # fmt: skip
            got = get(found.port, path)
            assert got.status == 200
            assert b"private" not in got.data.replace(b"privacy", b"")
        assert "the settings keep no text" in Tags(get(found.port, "/requests/plain").data).text
        assert "(not kept)" in Tags(get(found.port, "/tasks/t").data).text


def test_older_requests_are_a_link_away(home: Path) -> None:
    with closing(open_writer(home)) as writer:
        for number in range(60):
            writer.append(request_row(f"r{number}", time_s=NOW_S + number // 2))
    open_log(home)
    with gateway(home) as found:
        first = Tags(get(found.port, "/requests").data)
        (link,) = [a["href"] for name, a in first.found if name == "a" and "before" in a.get("href", "")]
        seen = {
            a["href"]
            for _, a in first.found + Tags(get(found.port, link).data).found
            if "/requests/r" in a.get("href", "")
        }
        assert len(seen) == 60


def test_a_specialist_that_cannot_be_loaded_is_an_alarm_with_what_to_do(place: Place) -> None:
    alarms = [row["alarm"] for row in json.loads(get(place.port, "/overview/alarms.json").data)]
    (alarm,) = [alarm for alarm in alarms if "cannot be loaded" in alarm]
    assert "the large model answers everything. The specialist a cannot be read" in alarm
    assert alarm.endswith("Once that is mended, demote and promote the task, or start the gateway again")


# Who sees them.


def test_pages_of_a_gateway_with_keys_ask_for_the_admin_key(home: Path) -> None:
    make_key(home)
    with gateway(home) as found:
        got = get(found.port, "/requests?task=x")
        assert (got.status, got.headers["location"]) == (303, "/login?next=%2Frequests%3Ftask%3Dx")
        assert get(found.port, "/requests.csv").status == get(found.port, "/events").status == 401
        assert get(found.port, "/login").status == get(found.port, "/static/site.css").status == 200
        assert send(found.port, "/login", key="").status == 401


def test_signing_in_and_out(home: Path, admin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LOOK_EVERY_S", 0.1)
    with gateway(home) as found:
        got = send(found.port, "/login", key=admin, next="/tasks")
        assert (got.status, got.headers["location"]) == (303, "/tasks")
        cookie, *flags = got.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags)
        page = Tags(get(found.port, "/tasks", cookie).data)
        assert "Sign out" in page.text
        (token,) = [a["value"] for _, a in page.found if a.get("name") == "csrf"]
        assert get(found.port, "/tasks", cookie[:-1]).status == 303
        assert get(found.port, "/requests.json", authorization=f"Bearer {admin}").status == 200
        for fields, status in (({}, 403), ({"csrf": "x"}, 403), ({"csrf": token}, 303)):
            assert send(found.port, "/logout", cookie, **fields).status == status
        assert send(found.port, "/logout", csrf=token).status == 401
        other = f"http://localhost:{found.port + 1}"
        assert send(found.port, "/logout", cookie, csrf=token, origin=other).status == 403
        same = f"http://127.0.0.1:{found.port}"
        out = send(found.port, "/logout", cookie, csrf=token, origin=same)
        assert "Max-Age=0" in out.headers["set-cookie"]
        with closing(open_keys(home)) as keys:
            keys.set_admin("ab" * 32)
        deadline_s = time.monotonic() + 120
        while get(found.port, "/tasks", cookie).status != 303:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


def test_promoting_and_demoting_takes_a_session_and_its_token(home: Path, admin: str) -> None:
    fill(home)
    with gateway(home, learning={"check_every_s": 60.0}) as found, closing(open_registry(home)) as registry:
        cookie = send(found.port, "/login", key=admin).headers["set-cookie"].partition(";")[0]
        paths = [f"/tasks/t/{decision}" for decision in ("demote", "shadow", "promote")]
        asked = Tags(get(found.port, paths[0], cookie).data)
        (token,) = {a["value"] for _, a in asked.found if a.get("name") == "csrf"}
        assert "held back until promoted" in asked.text
        assert [send(found.port, path, cookie, csrf="x").status for path in paths] == [403, 403, 403]
        assert [send(found.port, path, csrf=token).status for path in paths] == [401, 401, 401]
        assert registry.task("t").mode == "serve"  # type: ignore[union-attr]
        for path, mode, is_held in zip(paths, ("observe", "shadow", "serve"), (True, True, False), strict=True):
            got = send(found.port, path, cookie, csrf=token)
            assert (got.status, got.headers["location"]) == (303, "/tasks/" + quote(HOSTILE, safe=""))
            record = registry.task("t")
            assert record is not None
            assert (record.mode, record.is_held) == (mode, is_held)
        history = json.loads(get(found.port, "/tasks/t/events.json", cookie).data)
        assert [row["said"] for row in history[:3]] == ["to serve by hand", "to shadow by hand", "to observe by hand"]
        assert send(found.port, "/tasks/nothing/demote", cookie, csrf=token).status == 404


@pytest.mark.parametrize("goal", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nset-cookie: x=y"])
def test_signing_in_leads_to_no_other_site(home: Path, admin: str, goal: str) -> None:
    with gateway(home) as found:
        assert send(found.port, "/login", key=admin, next=goal).headers["location"] == "/"


def test_guessing_ends_after_some_attempts(home: Path, admin: str) -> None:
    with gateway(home) as found:
        codes = [send(found.port, "/login", key="wrong").status for _ in range(security.MOST_FAILURES + 1)]
        assert codes == [401] * security.MOST_FAILURES + [429]
        assert send(found.port, "/login", key=admin).status == 429


def test_sessions_end_and_cannot_be_made() -> None:
    session = security.open_session(b"admin", 1000.0)
    assert security.is_session(session, b"admin", 1000.0 + security.SESSION_S - 1)
    assert not security.is_session(session, b"admin", 1000.0 + security.SESSION_S)
    assert not security.is_session(session, b"other", 1000.0)
    later = f"{int(1e12):x}." + session.partition(".")[2]
    assert not any(security.is_session(value, b"admin", 1000.0) for value in (later, "", "x", "é.é.é"))


def test_a_page_of_another_name_reaches_nothing(place: Place) -> None:
    assert get(place.port, "/", host="evil.example").status == 403
    assert get(place.port, "/", origin="null").status == 403


def test_people_are_refused_on_a_page_and_programs_in_json(home: Path, admin: str) -> None:
    with gateway(home) as found:
        assert "error" in json.loads(send(found.port, "/logout").data)
        got = ask(found.port, "POST", "/logout", "", "", {"accept": "text/html,*/*"})
        assert (got.status, got.headers["www-authenticate"]) == (401, "Bearer")
        assert "A valid key is needed." in Tags(got.data).text
        assert "content-security-policy" in got.headers


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/tasks", 401), ("PUT", "/tasks", 405), ("HEAD", "/", 200)]
)
def test_other_methods(place: Place, method: str, path: str, status: int) -> None:
    assert ask(place.port, method, path, None, "", {}).status == status


# Live.


def test_nothing_is_added_up_while_nothing_happens(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks, sums = [], []
    say, merge = figures.Figures.said, savings.merged
    monkeypatch.setattr(live, "EVERY_S", 0.01)
    monkeypatch.setattr(figures.Figures, "said", lambda found: ticks.append(1) or say(found))
    monkeypatch.setattr(savings, "merged", lambda periods: sums.append(1) or merge(periods))
    fill(home)
    with gateway(home, learning={"check_every_s": 60.0}) as found:
        connection = HTTPConnection("127.0.0.1", found.port, timeout=120)
        connection.request("GET", "/events")
        response = connection.getresponse()
        before = json.loads(response.readline().removeprefix(b"data: "))["requests"]
        n_ticks, n_sums = len(ticks), len(sums)
        deadline_s = time.monotonic() + 120
        while len(ticks) < n_ticks + 10:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        assert len(sums) <= n_sums + 1  # once more where the log was imported just then
        found.client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
        response.readline()
        assert int(json.loads(response.readline().removeprefix(b"data: "))["requests"]) == int(before) + 1
        connection.close()


def test_live_figures_come_as_events_and_end_with_the_gateway(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.02)
    monkeypatch.setattr(live, "MOST_LISTENERS", 1)
    with gateway(home) as found:
        connection = HTTPConnection("127.0.0.1", found.port, timeout=120)
        connection.request("GET", "/events")
        response = connection.getresponse()
        assert response.headers["content-type"].startswith("text/event-stream")
        first = json.loads(response.readline().removeprefix(b"data: "))
        assert first["requests"] == "0"
        assert get(found.port, "/events").status == 429
        found.client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
        response.readline()
        assert json.loads(response.readline().removeprefix(b"data: "))["requests"] == "1"
        started_s = time.monotonic()
    assert time.monotonic() - started_s < 4.5  # not the five seconds that requests under way may take
    connection.close()
