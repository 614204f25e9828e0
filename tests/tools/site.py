"""A home for the web pages: hostile texts wherever a user or a model can put one, and the admin key."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

from pilotfish.core.ids import sha256
from pilotfish.core.key import ADMIN_PREFIX, new_secret
from pilotfish.core.log_row import LogRow
from pilotfish.core.task import AnswerShape, Field
from pilotfish.store.base import Event, TaskRecord
from pilotfish.store.build import open_keys, open_log, open_registry, open_writer
from tools.certificates import certificate, refusal
from tools.log_rows import audit_row, instructions_row, local_row, repeat_row, request_row

HOSTILE = "=<script>alert(1)</script>\"><img src=x onerror=alert(1)>' javascript:alert(1)"
TEXT = HOSTILE + " private"
"""What only the log may hold; the other fields are told of in any case."""
NOW_S = time.time()


def fill(home: Path) -> None:
    """A log and a registry with hostile texts wherever a user or a model can put one."""
    texts = dict.fromkeys(("input", "answer", "local_answer", "reference_answer"), TEXT)
    times = {"time_s": NOW_S - 60, "task_id": "t"}
    rows: list[LogRow] = [
        local_row("local", **texts, **times, certificate_id="c", model=HOSTILE, local_s=0.001, tier=2),
        request_row("failed", **texts, **times, status=502, error=HOSTILE, server=HOSTILE, tries=2, key_id=HOSTILE),
        request_row("plain", **texts, time_s=NOW_S - 50, task_id=""),
        audit_row("local", reference_answer=TEXT, time_s=NOW_S, task_id="t", loss=1.0, cost_usd=None),
        repeat_row("local", reference_answer=TEXT),
        instructions_row(body=json.dumps({"messages": [{"role": HOSTILE, "content": TEXT}]}), text=TEXT),
    ]
    with closing(open_writer(home)) as writer:
        for row in rows:
            writer.append(row)
    open_log(home)
    shape = AnswerShape(kind="label", fields=(Field(name="", values=(TEXT,)),))
    with closing(open_registry(home)) as registry:
        for name, task_id in ((HOSTILE, "t"), ("refused", "u")):
            registry.put_task(
                TaskRecord(
                    task_id=task_id, name=name, instructions_id="i", instructions=TEXT, shape=shape, mode="observe"
                )
            )
            registry.add_event(Event(time_s=NOW_S, task_id=task_id, kind="withdrawn", message=HOSTILE, details={}))
        registry.add_verdict(refusal(task_id="u", message=HOSTILE))
        promised = certificate(task_id="t", task_name=HOSTILE, details={"curve": {"is_binary": True, "points": [
            [0.9, 100, 0.0], [0.7, 400, 3.0], [0.5, 450, 20.0]]}})  # fmt: skip
        registry.add_verdict(promised)
        registry.update_task("t", certificate_id=promised.id, specialist_sha256="a", mode="serve")


def make_admin(home: Path) -> str:
    """A new admin key."""
    secret = new_secret(ADMIN_PREFIX)
    with closing(open_keys(home)) as keys:
        keys.set_admin(sha256(secret.encode()))
    return secret
