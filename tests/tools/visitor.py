"""Somebody who looks at the web pages without a browser, signed in or not."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection
from urllib.parse import urlencode

from tools.keyed import Got


class Tags(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(data.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def assert_harmless(self) -> None:
        """No element or attribute that only a hostile text can have brought."""
        assert not {"script", "img", "iframe", "object", "embed", "style", "base"} & {name for name, _ in self.found}
        for _, attributes in self.found:
            assert not any(name.startswith("on") or name == "style" for name in attributes)
            assert all(attributes.get(name, "/")[0] in "/?#" for name in ("href", "src", "action"))


@dataclass
class Visitor:
    """`key` signs in. `token` is that of the forms."""

    port: int
    key: str = ""
    cookie: str = ""
    token: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if self.key:
            self.cookie = self.send("/login", key=self.key).headers["set-cookie"].partition(";")[0]
            tags = Tags(self.get("/login").data)
            self.token = next(a["value"] for _, a in tags.found if a.get("name") == "csrf")

    def get(self, path: str) -> Got:
        return self._ask("GET", path, None)

    def send(self, path: str, **fields: str) -> Got:
        """A form with the token of this visitor, unless told another."""
        if path != "/login":
            fields = {"csrf": self.token} | fields
        return self._ask("POST", path, urlencode(fields))

    def see(self, path: str) -> Tags:
        got = self.get(path)
        assert got.status == 200, got.data
        return Tags(got.data)

    def _ask(self, method: str, path: str, body: str | None) -> Got:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            connection.request(method, path, body, {"cookie": self.cookie, "accept": "text/html"})
            response = connection.getresponse()
            return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
