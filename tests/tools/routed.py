"""A gateway with a smaller model beside the large one, as `[routing]` wants them: scripted servers behind both."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from pilotfish.config.settings import ModelSettings
from pilotfish.core.log_row import TriedRow
from pilotfish.core.messages import Family
from pilotfish.store.build import open_log
from tools.gateway import Place, gateway, post
from tools.upstream import Reply, Script, Upstream, upstream

ON: dict[str, object] = {"models": ("small",), "margin": 0.05, "audit_rate": 0.0}
SURE, UNSURE = Reply(text="from small", logprob=-0.1), Reply(text="from small", logprob=-2.0)
BIG = Reply(text="from big")
SMALL_USD = (11 * 1 + 3 * 2) / 1e6
HI = [{"role": "user", "content": "hi"}]


@contextlib.contextmanager
def routed(
    home: Path,
    script: Script,
    big: Script = (BIG,),
    *,
    routing: dict[str, object] | None = None,
    family: Family = "openai",
    **settings: Any,
) -> Iterator[tuple[Place, Upstream]]:
    with upstream(script) as server:
        model = ModelSettings(
            url=server.url, family=family, max_tokens=50, input_usd_per_mtok=1.0, output_usd_per_mtok=2.0
        )
        models = dict.fromkeys(("small", "judge"), model)
        large = {"input_usd_per_mtok": 10.0, "output_usd_per_mtok": 20.0, "retry_wait_s": 0.0} | settings.pop(
            "large", {}
        )
        with gateway(home, big, models=models, large=large, routing=ON | (routing or {}), **settings) as place:
            yield place, server


def ask(place: Place, rows: object = HI, key: str = "", **fields: object) -> tuple[int, dict[str, str], bytes]:
    data = json.dumps({"model": "auto", "messages": rows, **fields}).encode()
    return post(place.port, data, **({"authorization": f"Bearer {key}"} if key else {}))


def content(data: bytes) -> str:
    """What a whole answer, or a stream, says."""
    if not data.startswith(b"data:"):
        return str(json.loads(data)["choices"][0]["message"]["content"])
    rows = [json.loads(line[5:]) for line in data.splitlines() if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for row in rows for choice in row["choices"])


def status(place: Place) -> Any:
    connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
    connection.request("GET", "/pilotfish/status")
    said = json.loads(connection.getresponse().read())["routing"]
    connection.close()
    return said


def tried_rows(place: Place, n: int = 1) -> list[TriedRow]:
    """The answers that were heard of smaller models beside the replies, once there are `n`."""
    deadline = time.monotonic() + 120
    while True:
        rows = [row for row in open_log(place.home).tried() if row.status]
        if len(rows) >= n:
            return rows
        assert time.monotonic() < deadline, rows
        time.sleep(0.02)
