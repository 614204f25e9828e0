"""What a person decides about a task: to let its certified specialist answer, to run it unseen, to take it back.

It changes the mode only, and writes down that a person did. Whether the certificate's promise is strict enough is
decided by the gateway, from its own settings. The learner leaves a task alone that a person holds.
"""

from __future__ import annotations

import time
from typing import Literal

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.task import Mode
from pilotfish.store.base import Event, Registry, TaskRecord

Decision = Literal["promote", "shadow", "demote"]
DECISIONS: tuple[Decision, ...] = ("promote", "shadow", "demote")

_MODES: dict[Decision, Mode] = {"promote": "serve", "shadow": "shadow", "demote": "observe"}


def decide(registry: Registry, record: TaskRecord, decision: Decision) -> Mode | None:
    """Carry it out; the mode from now on, None where there is no certificate to promote.

    Then the task is merely no longer held: a withdrawn certificate must be earned again, and the learner may try.
    """
    mode = _MODES[decision]
    if decision != "demote" and not record.certificate_id:
        registry.update_task(record.task_id, is_held=False)
        return None
    # A shadow stays one until a person says otherwise: the learner must not let it serve.
    registry.update_task(record.task_id, mode=mode, is_held=decision != "promote")
    kind = "demoted" if decision == "demote" else "promoted"
    registry.add_event(
        Event(time_s=time.time(), task_id=record.task_id, kind=kind, message=f"to {mode} by hand", details={})
    )
    return mode


def falls_short(registry: Registry, record: TaskRecord, wanted: Claim | None) -> Certificate | None:
    """The task's certificate where its promise is less strict than the one that is wanted; None where it will do."""
    certificate = registry.certificate(record.certificate_id)
    if certificate is None or wanted is None or certificate.claim.covers(wanted):
        return None
    return certificate
