"""The way through a company's proxy: which one the environment names for a URL, and the tunnel through it.

The variables are those that curl, httpx and the vendors' own clients read: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
`NO_PROXY`, in lower or upper case. What is on this machine is always asked directly. Only addresses of the
configuration come here; nothing of a request says where to.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pilotfish.core.errors import ConfigError, ModelConnectionError
from pilotfish.models.exchange import MAX_HEAD_BYTES, Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy. `credentials` is the header line that opens it, empty where it needs none."""

    host: str
    port: int
    credentials: str = ""


def proxy_of(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for `url`, None where it is asked directly. Raises `ConfigError` for one of no use."""
    scheme, host, port = _split(url)
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    name = next((name for name in names if environment.get(name, "").strip()), "")
    exempt = environment.get("no_proxy") or environment.get("NO_PROXY", "")
    if not name or _is_loopback(host) or any(_covers(entry.strip(), host, port) for entry in exempt.split(",")):
        return None
    named = environment[name].strip()
    try:
        parts = urlsplit(named if "://" in named else "http://" + named)
        proxy_host, proxy_port = parts.hostname, parts.port
    except ValueError:
        proxy_host, proxy_port, parts = None, None, urlsplit("")
    if parts.scheme != "http" or not proxy_host:
        # The value is not repeated: it may hold a password.
        raise ConfigError(
            f"The proxy in {name} cannot be used.", hint="Give it as http://host:port, or name the host in NO_PROXY."
        )
    secret = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    line = f"proxy-authorization: Basic {base64.b64encode(secret).decode()}\r\n" if parts.username else ""
    return Proxy(host=proxy_host, port=proxy_port or 80, credentials=line)


async def open_tunnel(
    proxy: Proxy, host: str, port: int, *, tls: ssl.SSLContext, connection: Connection, model: str
) -> None:
    """Connect to `host` through `proxy`, which sees the name and no more.

    Raises `ModelConnectionError` where the proxy refuses, and `OSError` as any connection does.
    """
    loop = asyncio.get_running_loop()
    transport, asked = await loop.create_connection(lambda: _Asked(loop.create_future()), proxy.host, proxy.port)
    is_open = False
    try:
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        transport.write(f"CONNECT {name} HTTP/1.1\r\nhost: {name}\r\n{proxy.credentials}\r\n".encode("latin-1"))
        line = (await asked.head).split(b"\r\n", 1)[0]
        status = line.split(b" ")[1:2]
        if not line.startswith(b"HTTP/1.") or status != [b"200"]:
            said = status[0].decode("latin-1") if status and status[0].isdigit() else "no status"
            raise refused(model, said)
        secured = await loop.start_tls(transport, connection, tls, server_hostname=host)
        assert secured is not None
        connection.connection_made(secured)
        is_open = True
    finally:
        if not is_open:
            transport.abort()


def refused(model: str, status: str) -> ModelConnectionError:
    """The error of a proxy that does not let a request through."""
    what = "asks for a name and a password" if status == "407" else f"answered {status}"
    return ModelConnectionError(f"{model} could not be reached: the proxy {what}.", model=model, may_be_billed=False)


class _Asked(asyncio.Protocol):
    """Waits for the proxy's word. `head` is what it said, up to the empty line."""

    def __init__(self, head: asyncio.Future[bytes]) -> None:
        self.head = head
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.head.done() and (b"\r\n\r\n" in self._data or len(self._data) > MAX_HEAD_BYTES):
            self.head.set_result(self._data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(exc or ConnectionResetError(errno.ECONNRESET, "the proxy hung up"))


def _split(url: str) -> tuple[str, str, int]:
    """Scheme, host and port; what cannot be split is refused where a connection is to be made to it."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", "", 0


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY names `host`: itself, a domain it is in, a network, or all (`*`)."""
    name, _, wanted = entry.rpartition(":")
    if name and ":" not in name and wanted.isdigit():
        if int(wanted) != port:
            return False
        entry = name
    address, entry = _address(host), entry.strip("[]").removeprefix("*.").lstrip(".").lower()
    if not entry or address is None:
        return entry in ("*", host) or (entry != "" and host.endswith("." + entry))
    try:
        return entry == "*" or address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
