"""Forms as a browser sends them to the gateway's pages, and what comes back."""

from __future__ import annotations

import re
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlencode

from tools.keyed import Got

_BOUNDARY = "----pilotfish-test"


def get(port: int, path: str, cookie: str = "", **headers: str) -> Got:
    return ask(port, "GET", path, None, cookie, headers)


def send(port: int, path: str, cookie: str = "", *, origin: str = "", **fields: str) -> Got:
    """A plain form."""
    headers = {"content-type": "application/x-www-form-urlencoded", **({"origin": origin} if origin else {})}
    return ask(port, "POST", path, urlencode(fields), cookie, headers)


def upload(port: int, cookie: str, data: bytes, file: str = "", **fields: str) -> Got:
    """A form with a file; without a name for it, none was chosen."""
    headers = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
    return ask(port, "POST", "/new", multipart(data, file, **fields), cookie, headers)


def multipart(data: bytes, file: str = "", **fields: str) -> bytes:
    """The body of such a form, the token first where there is one."""
    parts = [f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
             for name, value in fields.items()]  # fmt: skip
    named = file.replace('"', "%22")
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{named}"\r\n'
    parts.append(head.encode() + b"Content-Type: text/csv\r\n\r\n" + data + b"\r\n")
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


def sign_in(port: int, key: str) -> tuple[str, str]:
    """The cookie of a new session, and the token of its forms."""
    cookie = send(port, "/login", key=key).headers["set-cookie"].partition(";")[0]
    found = re.search(rb'name="csrf" value="([0-9a-f]+)"', get(port, "/", cookie).data)
    assert found is not None
    return cookie, found[1].decode()


def ask(port: int, method: str, path: str, body: bytes | str | None, cookie: str, headers: dict[str, str]) -> Got:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, body, {**headers, **({"cookie": cookie} if cookie else {})})
        response = connection.getresponse()
        return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
