"""Keys for the tests of the gateway, and a plain way to ask with them."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from pilotfish.core.ids import sha256
from pilotfish.core.key import Limits, new_secret
from pilotfish.store.build import open_keys, usage
from pilotfish.store.tallies import read_usage
from tools.gateway import body

PRICES: dict[str, object] = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}


def make_key(home: Path, name: str = "ci", *, models: tuple[str, ...] = (), **limits: Any) -> str:
    """A new key in `home`; its secret."""
    secret = new_secret()
    kept = {"expires_s": limits.pop("expires_s", None), "privacy": limits.pop("privacy", "allow")}
    with closing(open_keys(home)) as keys:
        keys.create(name, sha256(secret.encode()), models=models, limits=Limits(**limits), **kept)
    return secret


def used(home: Path, now_s: float, name: str = "ci") -> dict[str, float]:
    """What a key has used."""
    with closing(open_keys(home)) as keys:
        return read_usage(usage(home), keys.get(name).number, now_s)


@dataclass(frozen=True)
class Got:
    """A reply."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error object."""
        found: dict[str, Any] = json.loads(self.data)["error"]
        return found


def ask(
    port: int, key: str = "", *, data: bytes | None = None, path: str = "/v1/chat/completions", **headers: str
) -> Got:
    """One chat request, or a GET of another path."""
    if key:
        headers["authorization"] = f"Bearer {key}"
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        if path == "/v1/chat/completions":
            connection.request("POST", path, body() if data is None else data, headers)
        else:
            connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()
