"""The whole gateway over real sockets: a scripted model server behind it, the official client in front."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection
from pathlib import Path

import openai

from pilotfish.config.settings import (
    ConsistencySettings,
    LargeSettings,
    LearningSettings,
    LogSettings,
    ModelSettings,
    PrivacySettings,
    QualitySettings,
    RoutingSettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
)
from pilotfish.core.log_row import RequestRow
from pilotfish.gateway.serve import serving
from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_log
from tools.upstream import Reply, Script, Upstream, upstream

ANSWERS = (Reply(),)


@dataclass
class Place:
    """A running gateway with what is in front of it and behind."""

    port: int
    home: Path
    server: Upstream

    @cached_property
    def client(self) -> openai.OpenAI:
        """OpenAI's own; making one takes longer than a gateway."""
        return openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1", api_key="client-key", max_retries=0, timeout=120
        )

    def rows(self, n: int) -> list[RequestRow]:
        """The first n rows of the log, once they are there."""
        deadline = time.monotonic() + 120
        while True:
            rows = list(open_log(self.home).rows(LogFilter()))
            if len(rows) >= n:
                assert len(rows) == n
                return rows
            assert time.monotonic() < deadline, f"{len(rows)} rows where {n} were expected"
            time.sleep(0.02)


@contextmanager
def gateway(
    home: Path,
    script: Script = ANSWERS,
    *,
    large: dict[str, object] | None = None,
    quality: dict[str, object] | None = None,
    learning: dict[str, object] | None = None,
    server: dict[str, object] | None = None,
    privacy: dict[str, object] | None = None,
    models: dict[str, ModelSettings] | None = None,
    aliases: dict[str, str] | None = None,
    consistency: dict[str, object] | None = None,
    telemetry: dict[str, object] | None = None,
    routing: dict[str, object] | None = None,
    keep_text: bool = True,
) -> Iterator[Place]:
    """A gateway in front of a server that follows `script`."""
    with upstream(script) as behind:
        settings = Settings(
            home=str(home),
            server=ServerSettings(**({"port": 0} | (server or {}))),  # type: ignore[arg-type]
            large=LargeSettings(**({"url": behind.url, "model": "big", "timeout_s": 3.0} | (large or {}))),  # type: ignore[arg-type]
            quality=QualitySettings(**(quality or {})),  # type: ignore[arg-type]
            learning=LearningSettings(**({"check_every_s": 0.05} | (learning or {}))),  # type: ignore[arg-type]
            consistency=ConsistencySettings(**(consistency or {})),  # type: ignore[arg-type]
            telemetry=TelemetrySettings(**(telemetry or {})),  # type: ignore[arg-type]
            routing=RoutingSettings(**(routing or {})),  # type: ignore[arg-type]
            log=LogSettings(keep_text=keep_text),
            privacy=PrivacySettings(**(privacy or {})),  # type: ignore[arg-type]
            models=models or {},
            aliases=aliases or {},
        )
        with serving(settings) as port:
            place = Place(port, home, behind)
            try:
                yield place
            finally:
                if "client" in vars(place):
                    place.client.close()


def body(text: str = "hi", **fields: object) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}], **fields}).encode()


def post(port: int, data: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (in lower case) and body of a plain request."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/chat/completions", data, {"content-type": "application/json", **headers})
    response = connection.getresponse()
    reply = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return reply
