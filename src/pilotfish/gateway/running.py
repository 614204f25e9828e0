"""The parts of a running gateway that say how it is, and its status page.

What they are is decided where they are opened (`app.py`); metrics and readiness read them too.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgspec

from pilotfish.config.settings import Settings
from pilotfish.core.errors import StoreError
from pilotfish.gateway.audits import Audits
from pilotfish.gateway.chat import Answerers, Chat
from pilotfish.gateway.learner import Learner
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.gateway.local import Inference
from pilotfish.gateway.new_tasks import NewTasks
from pilotfish.gateway.pairs import Pairs
from pilotfish.gateway.records import Records
from pilotfish.gateway.repeats import Repeats
from pilotfish.store.base import Log, Registry
from pilotfish.store.sqlite_by_hand import SqliteByHand
from pilotfish.store.sqlite_import import Importer


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What runs. The importer moves what `records` wrote into the log."""

    settings: Settings
    chat: Chat
    answerers: Answerers
    tasks: LiveTasks
    learner: Learner
    new_tasks: NewTasks
    audits: Audits
    repeats: Repeats
    pairs: Pairs
    inference: Inference
    by_hand: SqliteByHand
    records: Records
    registry: Registry
    log: Log
    importer: Importer | None
    started_s: float = field(default_factory=time.time)

    def status(self) -> dict[str, Any]:
        """What the gateway does right now, without any text of a request."""
        claim = self.settings.quality.claim
        return {
            "version": version("pilotfish"),
            "process": os.getpid(),
            "up_s": round(time.time() - self.started_s, 3),
            "requests": self.chat.n_requests,
            "answered_locally": self.chat.n_local,
            "log_gaps": self.records.writer.n_gaps,
            "promise": None if claim is None else msgspec.to_builtins(claim),
            "learner": self.learner.status,
            "models": self.answerers.names.states(),
            "consistency": self.repeats.status,
            "routing": {**self.answerers.routed.status, "collecting": self.pairs.status},
            "tasks": [
                {
                    "id": live.record.task_id,
                    "name": live.record.name,
                    "mode": live.mode,
                    "certificate": live.record.certificate_id or None,
                    "audit_rate": live.coin if live.mode == "serve" else None,
                    "drift": {"message": live.drift.sentence(), **live.drift.details()} if live.drift else None,
                }
                for live in self.tasks.all()
            ],
        }

    def not_ready(self) -> dict[str, str]:
        """What keeps the gateway from doing its work, by part, in words that hold no path, address or key.

        Reads the registry, so not from the event loop.
        """
        faults = {}
        if not self.records.writer.is_writable():
            faults["log"] = "rows cannot be written"
        if self.importer is not None and self.importer.last_error:
            faults["importer"] = "rows wait in the spool: the log cannot be written"
        try:
            self.registry.version()
        except StoreError:
            faults["registry"] = "it cannot be read"
        servers = self.answerers.names.states().get(self.answerers.names.own.model, [])
        if servers and all(server["is_open"] for server in servers):
            faults["large model"] = "every server of it failed several times in a row"
        return faults
