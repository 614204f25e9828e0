"""Clients that mean harm, byte for byte on a socket: nothing gets through that was not asked for, others are served."""

from __future__ import annotations

import gzip
import json
import os
import resource
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotfish.config.settings import LargeSettings, Settings, check_ranges
from pilotfish.core.errors import ConfigError
from pilotfish.gateway import connections, serve
from tools.command_line import CommandLine
from tools.gateway import Place, body, gateway
from tools.keyed import ask
from tools.raw import HEAD, closed_after, exchange, status
from tools.upstream import Reply, upstream

BODY = body()
N = len(BODY)
LENGTH = b"content-length: %d\r\n" % N


def chunked(data: bytes, extension: bytes = b"", line: bytes = b"\r\n", tail: bytes = b"") -> bytes:
    return b"%x%s%s%s\r\n0\r\n%s\r\n" % (len(data), extension, line, data, tail)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with gateway(tmp_path_factory.mktemp("hostile") / "home") as opened:
        yield opened


SMUGGLED = {
    "length and chunks": HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(BODY),
    "chunks and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n" + chunked(BODY),
    "two lengths": HEAD + LENGTH + b"content-length: 3\r\n\r\n" + BODY,
    "two equal lengths": HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": HEAD + b"content-length: %d, %d\r\n\r\n" % (N, N) + BODY,
    "a signed length": HEAD + b"content-length: +%d\r\n\r\n" % N + BODY,
    "a hexadecimal length": HEAD + b"content-length: 0x%x\r\n\r\n" % N + BODY,
    "an unknown coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n" + chunked(BODY),
    "chunked not last": HEAD + b"transfer-encoding: chunked, identity\r\n\r\n" + chunked(BODY),
    "two codings": HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n" + chunked(BODY),
    "a space before the colon": HEAD + b"transfer-encoding : chunked\r\n\r\n" + chunked(BODY),
    "a vertical tab": HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n" + chunked(BODY),
    "a folded header": HEAD + b"x-a: b\r\n content-length: 3\r\n" + LENGTH + b"\r\n" + BODY,
    "a folded coding": HEAD + b"transfer-encoding:\r\n chunked\r\n\r\n" + chunked(BODY),
    "bare line feeds": (HEAD + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "one bare line feed": HEAD + b"x: y\n" + LENGTH + b"\r\n" + BODY,
    "a bare carriage return": HEAD + b"x: y\rcontent-length: 1\r\n" + LENGTH + b"\r\n" + BODY,
    "a line feed in an extension": HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BODY, b";a=\nb"),
    "a chunk size with a bare line feed": HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BODY, line=b"\n"),
    "a chunk size that overflows": HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "a negative chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
    "a length in a trailer": HEAD
    + b"transfer-encoding: chunked\r\n\r\n"
    + chunked(BODY, tail=b"content-length: 5\r\n"),
    "a null in a header": HEAD + b"x: a\0b\r\n" + LENGTH + b"\r\n" + BODY,
    "a null in a name": HEAD + b"x\0: a\r\n" + LENGTH + b"\r\n" + BODY,
    "a tunnel": b"CONNECT evil:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED)
def test_a_request_of_doubtful_length_is_refused_and_its_connection_closed(place: Place, data: bytes) -> None:
    n_asked = len(place.server.asked)
    reply = exchange(place.port, data + b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert status(reply) == 400
    assert reply.count(b"HTTP/1.1 ") == 1, "nothing after it was taken for a request"
    assert len(place.server.asked) == n_asked


def test_two_hosts_are_refused(place: Place) -> None:
    for names in ((b"evil", b"localhost"), (b"localhost", b"evil")):
        data = b"GET /healthz HTTP/1.1\r\nhost: %s\r\nhost: %s\r\nconnection: close\r\n\r\n" % names
        assert status(exchange(place.port, data)) == 400


def test_chunk_extensions_are_ignored(place: Place) -> None:
    head = HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    assert status(exchange(place.port, head + chunked(BODY, b";a=b"))) == 200
    assert place.server.asked[-1].json["messages"][0]["content"] == "hi"


WISH = HEAD + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"


@pytest.mark.parametrize("framing", [LENGTH, b"transfer-encoding: chunked\r\n"], ids=["length", "chunks"])
@pytest.mark.parametrize("cut", [0, 30, len(WISH) + 12, -3])
def test_a_wish_for_another_protocol_is_passed_over(place: Place, framing: bytes, cut: int) -> None:
    data = WISH + framing + b"\r\n" + (BODY if framing is LENGTH else chunked(BODY))
    with socket.create_connection(("127.0.0.1", place.port), timeout=120) as client:
        client.sendall(data[:cut])
        time.sleep(0.02)
        client.sendall(data[cut:])
        reply = client.makefile("rb").read()
    assert status(reply) == 200
    assert place.server.asked[-1].json["messages"][0]["content"] == "hi"


def test_what_follows_a_wish_for_another_protocol_is_no_request(place: Place) -> None:
    data = WISH + LENGTH + b"\r\n" + BODY + b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    assert exchange(place.port, data).count(b"HTTP/1.1 ") == 1


def test_a_body_of_an_upgrade_is_no_request(place: Place) -> None:
    inner = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    head = HEAD + b"connection: upgrade\r\nupgrade: websocket\r\ncontent-length: %d\r\n\r\n" % len(inner)
    reply = exchange(place.port, head + inner)
    assert reply.count(b"HTTP/1.1 ") == 1
    assert b'"ok"' not in reply


@pytest.mark.parametrize("name", ["x\r\nx-evil: 1", "x\nx-evil: 1", "x\0y", "x\x1b[31m", "\u2028x", "a" * 100_000])
def test_no_name_of_a_model_writes_a_header(place: Place, name: str) -> None:
    got = ask(place.port, data=body(model=name))
    assert "x-evil" not in got.headers
    assert got.headers.get("x-pilotfish-model", "").isascii()
    assert got.headers.get("x-pilotfish-model", "").isprintable()


def test_a_header_that_would_be_passed_on_cannot_hold_a_line(home: Path) -> None:
    with gateway(home) as place:
        reply = exchange(place.port, HEAD + b"traceparent: a\x85b\r\n" + LENGTH + b"\r\n" + BODY, waits_for=b"}}")
        assert status(reply) == 400
        assert place.server.asked == []


def test_a_compressed_body_is_refused_without_being_unpacked(place: Place) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    head = HEAD + b"content-encoding: gzip\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    reply = exchange(place.port, head + bomb)
    assert status(reply) == 415
    assert b"uncompressed" in reply


def test_a_compressed_answer_is_refused_without_being_unpacked(home: Path) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    with gateway(home, [Reply(body=bomb, headers=(("content-encoding", "gzip"),))]) as place:
        got = ask(place.port)
        assert (got.status, got.error["code"]) == (502, "model_format")


ODD = {
    "deep": b"[" * 1_000_000,
    "deep in a field": b'{"messages":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep in a message": b'{"messages":[{"role":"user","content":'
    + b'[{"a":' * 50_000
    + b"1"
    + b"}]" * 50_000
    + b"}]}",
    "not UTF-8": b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
    "a null": b'{"messages":[{"role":"user","content":"a\0b"}]}',
    "half a surrogate": b'{"messages":[{"role":"user","content":"\\ud800"}]}',
    "a huge number": b'{"messages":[{"role":"user","content":"hi"}],"n":1' + b"0" * 5000 + b"}",
    "a huge exponent": b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":1e999999}',
    "not a number": b'{"messages":[{"role":"user","content":"hi"}],"temperature":NaN}',
    "many keys": b'{"messages":[],' + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}",
    "the same key twice": b'{"messages":[],"messages":[{"role":"user","content":"hi"}],"model":"a","model":"big"}',
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_odd_json_is_a_400_or_goes_through_and_nothing_fails(place: Place, data: bytes) -> None:
    got = ask(place.port, data=data)
    assert got.status in (200, 400)
    if got.status == 400:
        assert got.error["code"] == "invalid_request"
    assert ask(place.port).status == 200


# URLs: only the configured upstream is reachable.


def test_no_url_of_a_request_is_fetched(home: Path) -> None:
    with upstream() as other, gateway(home) as place:
        image = {"type": "image_url", "image_url": {"url": f"{other.url}/image"}}
        data = json.dumps(
            {
                "model": f"{other.url}",
                "messages": [{"role": "user", "content": [image]}],
                "base_url": other.url,
                "api_base": other.url,
            }
        ).encode()
        headers = {"x-forwarded-host": "127.0.0.1", "x-base-url": other.url, "location": other.url}
        assert ask(place.port, data=data, **headers).status == 200
        target = f"POST {other.url}/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n".encode()
        exchange(place.port, target + LENGTH + b"\r\n" + BODY)
        assert other.n_connections == 0
        assert {asked.path for asked in place.server.asked} == {"/v1/chat/completions"}


@pytest.mark.parametrize("status_code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(home: Path, status_code: int) -> None:
    with upstream() as other:
        away = Reply(status=status_code, headers=(("location", other.url + "/chat/completions"),))
        with gateway(home, [away]) as place:
            got = ask(place.port)
            assert (got.status, "location" in got.headers) == (502, False)
            assert other.n_connections == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/v1", "gopher://h", "http://user:secret@host/v1"])
def test_an_upstream_must_be_a_plain_web_address(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_ranges(Settings(large=LargeSettings(url=url)))
    assert "secret" not in str(caught.value)


# Names of artefacts lead nowhere else.

AWAY = ["../../etc/passwd", "/etc/passwd", "..", "a/../../b", "%2e%2e/x", "a\0b"]


@pytest.mark.parametrize("name", AWAY)
@pytest.mark.parametrize(
    "command", [["certify"], ["promote"], ["demote"], ["explain"], ["log", "show"], ["keys", "show"]], ids=" ".join
)
def test_a_name_that_looks_like_a_path_is_an_unknown_name(
    home: Path, capsys: pytest.CaptureFixture[str], command: list[str], name: str
) -> None:
    said = CommandLine(capsys)(*command, name, "--home", home)
    assert said.code == 2
    assert "There is no" in said.err or "holds no" in said.err or "no such" in said.err.lower()


@pytest.mark.parametrize(
    "path", ["/v1/../pilotfish/status", "/v1/%2e%2e/pilotfish/status", "//pilotfish/status", "/v1/%ff"]
)
def test_a_path_is_what_it_says(place: Place, path: str) -> None:
    data = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
    assert status(exchange(place.port, data)) == 404


# Clients that take their time.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limits, and looks at them, a fraction of a second instead of many."""
    monkeypatch.setattr(serve, "SWEEP_EVERY_S", 0.1)
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    monkeypatch.setattr(connections, "BODY_S", 0.3)
    monkeypatch.setattr(connections, "STALL_S", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"", b""),
        (HEAD, b"x-a: b\r\n"),
        (HEAD + b"content-length: 1000\r\n\r\n", b"x"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1", b";"),
        (HEAD + b"content-length: 2\r\n\r\n{}", b"G"),
    ],
    ids=["silence", "headers", "body", "chunk extension", "second request"],
)
def test_a_slow_client_is_cut_off_whatever_it_drips(home: Path, begin: bytes, drip: bytes) -> None:
    with gateway(home) as place, socket.create_connection(("127.0.0.1", place.port)) as client:
        client.sendall(begin)
        assert closed_after(client, 3.0, drip) < 2.0
        assert ask(place.port).status == 200


@pytest.mark.usefixtures("impatient")
def test_a_client_that_waits_for_its_answer_is_not_cut_off(home: Path) -> None:
    with gateway(home, [Reply(delay_s=1.0)]) as place:
        assert ask(place.port).status == 200


@pytest.mark.usefixtures("impatient")
def test_a_request_that_is_begun_early_does_not_cut_off_the_answer_before_it(home: Path) -> None:
    with gateway(home, [Reply(delay_s=1.0)]) as place:
        reply = exchange(place.port, HEAD + LENGTH + b"\r\n" + BODY + b"GET /healthz HT", timeout_s=20.0)
        assert status(reply) == 200
        assert reply.count(b"HTTP/1.1 ") == 2
        assert b"HTTP/1.1 408" in reply


@pytest.mark.usefixtures("impatient")
def test_a_client_that_does_not_read_its_answer_is_cut_off_and_the_model_with_it(home: Path) -> None:
    endless = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + (b":" + b"x" * 10_000 + b"\n\n") * 3000
    with gateway(home, [Reply(raw=endless)]) as place:
        with socket.create_connection(("127.0.0.1", place.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            data = body(stream=True)
            client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(data) + data)
            place.server.wait_for_hang_up(timeout_s=15.0)
        assert ask(place.port, path="/healthz").status == 200


def test_a_client_that_does_not_read_keeps_no_gateway_from_ending(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open when its loop closes is warned of; were that raised there, uvloop would never close."""
    monkeypatch.setattr(serve, "GRACE_S", 0.3)
    data = body(stream=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with socket.socket() as client, gateway(home, [Reply(endless=True)]) as place:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", place.port))
            client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(data) + data)
            assert client.recv(1)
    assert not said


@pytest.mark.parametrize(
    "flood",
    [b"GET /" + b"a" * 500_000, HEAD + b"x: " + b"a" * 500_000, HEAD + b"x: y\r\n" * 50_000],
    ids=["line", "header", "headers"],
)
def test_a_flood_of_headers_is_cut_off(place: Place, flood: bytes) -> None:
    reply = exchange(place.port, flood)
    assert not reply or status(reply) == 431


def test_a_flood_after_the_body_is_cut_off(place: Place) -> None:
    head = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BODY)[:-2]
    with socket.create_connection(("127.0.0.1", place.port)) as client:
        client.sendall(head)
        assert closed_after(client, 3.0, b"x-trailer: y\r\n" * 4000) < 3.0


# Ten thousand that say nothing.


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


SERVE = """
import sys
from pilotfish.config.settings import LargeSettings, ServerSettings, Settings
from pilotfish.gateway import connections
from pilotfish.gateway.serve import serve
from pilotfish.models.scripted import ScriptedModel
connections.HEAD_S = 60.0
settings = Settings(home=sys.argv[1], server=ServerSettings(port=0), large=LargeSettings(model="big"))
serve(settings, on_ready=lambda port: print(port, flush=True), reference=ScriptedModel(["x"], name="big"))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process from /proc")
def test_ten_thousand_idle_connections_take_little_and_others_are_served(home: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n = min(10_000, hard - connections.RESERVED_FILES - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(home)], stdout=subprocess.PIPE)
    clients: list[socket.socket] = []
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        assert ask(port).status == 200
        before = rss_bytes(server.pid)
        for _ in range(n):
            clients.append(socket.create_connection(("127.0.0.1", port)))
        assert [ask(port).status for _ in range(20)] == [200] * 20
        assert (rss_bytes(server.pid) - before) / n < 20_000
    finally:
        for client in clients:
            client.close()
        server.terminate()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_connections_than_files_are_turned_away_and_the_rest_served(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "max_connections", lambda: 5)
    with gateway(home) as place:
        clients = [socket.create_connection(("127.0.0.1", place.port)) for _ in range(5)]
        with socket.create_connection(("127.0.0.1", place.port)) as late:
            assert closed_after(late, 2.0) < 1.0
        clients.pop().close()
        time.sleep(0.05)
        assert ask(place.port).status == 200
        for client in clients:
            client.close()
