"""Proxies of the environment: a real one in front of a real server, with and without TLS."""

from __future__ import annotations

import asyncio
import base64
import shutil
import ssl
import subprocess
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from pilotfish.core.errors import ConfigError, ModelConnectionError
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.models.connection import Endpoint
from pilotfish.models.exchange import DEFAULT_LIMITS, Connection
from pilotfish.models.http import HttpModel
from pilotfish.models.proxy import Proxy, proxy_of

REQUEST = ChatRequest(messages=[Message(role="user", content="hi")])
HOST = "model.test"
ANSWER = b'{"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}]}'
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
PLAIN, SECURE = {"HTTP_PROXY": "http://proxy:3128"}, {"https_proxy": "proxy:3128"}


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (f"http://{HOST}/v1", PLAIN, Proxy(host="proxy", port=3128)),
        (f"https://{HOST}/v1", PLAIN, None),
        (f"https://{HOST}/v1", SECURE, Proxy(host="proxy", port=3128)),
        (f"https://{HOST}/v1", {"ALL_PROXY": "http://proxy"}, Proxy(host="proxy", port=80)),
        (f"https://{HOST}/v1", {"https_proxy": " ", "ALL_PROXY": "http://proxy"}, Proxy(host="proxy", port=80)),
        ("http://localhost:8000/v1", PLAIN, None),
        ("http://a.localhost/v1", PLAIN, None),
        ("http://127.0.0.7/v1", PLAIN, None),
        ("http://[::1]:8000/v1", PLAIN, None),
        *[
            (f"http://{HOST}/v1", PLAIN | {"NO_PROXY": exempt}, None)
            for exempt in ("*", HOST, "test", ".test", "*.test", f"x, {HOST.upper()}", f"{HOST}:80")
        ],
        *[
            (f"http://{HOST}/v1", PLAIN | {"no_proxy": exempt}, Proxy(host="proxy", port=3128))
            for exempt in ("", "del.test", "odel.test", f"{HOST}:81", "10.0.0.0/8", "x,,")
        ],
        ("http://10.1.2.3/v1", PLAIN | {"no_proxy": "10.0.0.0/8"}, None),
        ("http://10.1.2.3/v1", PLAIN | {"no_proxy": "10.1.2.3:80"}, None),
        ("http://10.1.2.3/v1", PLAIN | {"no_proxy": "2.3,10.1.2.4"}, Proxy(host="proxy", port=3128)),
        ("http://[fd00::1]/v1", PLAIN | {"no_proxy": "fd00::/8"}, None),
    ],
)
def test_the_environment_names_the_proxy_as_it_does_for_other_clients(
    url: str, environment: dict[str, str], expected: Proxy | None
) -> None:
    assert proxy_of(url, environment) == expected


@pytest.mark.parametrize("value", ["socks5://ann:secret@proxy:1", "https://proxy", "http://", "http://proxy:x"])
def test_a_proxy_of_another_kind_is_refused_and_its_password_not_repeated(value: str) -> None:
    with pytest.raises(ConfigError, match="The proxy in HTTP_PROXY") as caught:
        proxy_of(f"http://{HOST}/v1", {"HTTP_PROXY": value})
    assert "secret" not in str(caught.value)


@dataclass
class Company:
    """A proxy that speaks CONNECT and plain HTTP, whatever the name leads to `behind`; what it was asked is kept."""

    behind: int
    status: bytes = b"200 Connection established"
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        inner, outer = await asyncio.open_connection("127.0.0.1", self.behind)
        if not self.status.startswith(b"200"):
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % self.status)
        else:
            if head.startswith(b"CONNECT"):
                writer.write(b"HTTP/1.1 %b\r\nvia: a proxy\r\n\r\n" % self.status)
            else:
                outer.write(head)
            await asyncio.gather(_copy(reader, outer), _copy(inner, writer))
        writer.close()
        outer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            writer.write(REPLY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@asynccontextmanager
async def company(tls: ssl.SSLContext | None, status: bytes | None = None) -> AsyncIterator[tuple[Company, int]]:
    """A proxy in front of a server; the proxy and its port."""
    behind = await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=tls)
    place = Company(behind.sockets[0].getsockname()[1])
    place.status = status or place.status
    front = await asyncio.start_server(place.serve, "127.0.0.1", 0)
    try:
        yield place, front.sockets[0].getsockname()[1]
    finally:
        front.close()
        behind.close()


@contextmanager
def secure_server(tls: ssl.SSLContext) -> Iterator[str]:
    """A server in a thread of its own; its base URL."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(_answer, "127.0.0.1", 0, ssl=tls))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(asyncio.sleep(0.02))
        loop.close()


def through(
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[HttpModel], Awaitable[object]],
    *,
    tls: ssl.SSLContext | None = None,
    status: bytes | None = None,
) -> Company:
    """Run `work` on a model behind a proxy that wants a password; the proxy, to see what it was asked."""

    async def run() -> Company:
        async with company(tls, status) as (place, port):
            monkeypatch.setenv("HTTPS_PROXY" if tls else "HTTP_PROXY", f"http://ann:s%40crt@127.0.0.1:{port}")
            scheme = "https" if tls else "http"
            model = HttpModel(url=f"{scheme}://{HOST}/v1", name="big", key="upstream-key", timeout_s=20.0)
            try:
                await work(model)
            finally:
                await model.aclose()
                await asyncio.sleep(0.02)
            return place

    # On the event loop that the gateway runs on.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def twice(model: HttpModel) -> None:
    for _ in range(2):
        assert (await model.answer(REQUEST)).text == "hello"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own for `HOST`, with its key in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
    ]
    names = f"subjectAltName=DNS:{HOST},IP:127.0.0.1"
    command += ["2", "-subj", f"/CN={HOST}", "-addext", names, "-keyout", "key", "-out", "cert"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "both").write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return folder / "both"


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_https_goes_through_a_tunnel_that_is_used_again_and_shows_the_proxy_no_key(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, tls: ssl.SSLContext
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    place = through(monkeypatch, twice, tls=tls)
    secret = base64.b64encode(b"ann:s@crt")
    wanted = (
        b"CONNECT model.test:443 HTTP/1.1\r\nhost: model.test:443\r\nproxy-authorization: Basic %b\r\n\r\n" % secret
    )
    assert place.heads == [wanted]


def test_the_certificate_is_the_models_not_the_proxys(monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> None:
    async def work(model: HttpModel) -> None:
        with pytest.raises(ModelConnectionError, match="TLS") as caught:
            await model.answer(REQUEST)
        assert not caught.value.may_be_billed

    through(monkeypatch, work, tls=tls)


def test_a_call_cancelled_as_its_handshake_ends_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, tls: ssl.SSLContext
) -> None:
    """What is open when its loop closes is warned of; were that raised there, uvloop would never close."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    made = Connection.connection_made
    calls: list[asyncio.Task[Connection]] = []

    def made_and_cancelled(self: Connection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        calls[0].cancel()

    monkeypatch.setattr(Connection, "connection_made", made_and_cancelled)

    async def work(url: str) -> None:
        at = Endpoint(url, model="big", timeout_s=20.0, limits=DEFAULT_LIMITS)
        calls.append(asyncio.ensure_future(at.post((), b"{}", is_whole=True)))
        await asyncio.wait(calls)

    with secure_server(tls) as url, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work(url))
    assert calls[0].cancelled()
    assert not said


def test_http_is_asked_of_the_proxy_with_the_whole_url(monkeypatch: pytest.MonkeyPatch) -> None:
    place = through(monkeypatch, twice)
    assert len(place.heads) == 1, "the connection is kept"
    assert place.heads[0].startswith(b"POST http://model.test/v1/chat/completions HTTP/1.1\r\nhost: model.test\r\n")
    assert b"proxy-authorization: Basic " in place.heads[0]


# Without a tunnel nobody can tell the proxy's 403 from the model's.
@pytest.mark.parametrize(("is_secure", "status"), [(True, b"407 Who?"), (True, b"403 No"), (False, b"407 Who?")])
def test_a_proxy_that_refuses_is_no_answer_of_the_model(
    monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext, is_secure: bool, status: bytes
) -> None:
    async def work(model: HttpModel) -> None:
        with pytest.raises(ModelConnectionError, match=r"password|answered 403") as caught:
            await model.answer(REQUEST)
        assert not caught.value.may_be_billed
        assert "127.0.0.1" not in str(caught.value)
        assert "s@crt" not in str(caught.value)

    through(monkeypatch, work, tls=tls if is_secure else None, status=status)


def test_a_proxy_that_hangs_up_is_a_connection_error(monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> None:
    async def hang_up(self: Company, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def work(model: HttpModel) -> None:
        with pytest.raises(ModelConnectionError, match="could not be reached"):
            await model.answer(REQUEST)

    monkeypatch.setattr(Company, "serve", hang_up)
    through(monkeypatch, work, tls=tls)
