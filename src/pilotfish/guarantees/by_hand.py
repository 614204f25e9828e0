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


def retrain(registry: Registry, record: TaskRecord) -> None:
    """Ask for an attempt at a new specialist, due or not: a running gateway's learner takes it up at its next look.

    It spends its share of delta like any other. Through the registry, so that it never runs beside another attempt.
    """
    now_s = time.time()
    registry.update_task(record.task_id, asked_s=now_s)
    message = "to be learnt anew, by hand"
    registry.add_event(Event(time_s=now_s, task_id=record.task_id, kind="asked", message=message, details={}))


def why_not_retrain(record: TaskRecord, wanted: Claim | None) -> str:
    """Why it would be of no use to ask for it now, empty where it may be."""
    if wanted is None:
        return "no tolerated risk is stated ([quality] max_risk), so nothing can be certified"
    if not record.shape.is_closed:
        return f"its answers form no closed set: {record.shape.why_open}"
    if record.is_held:
        return "a person holds it back: what is learnt would not serve. Promoting it lets go of it"
    if record.asked_s is not None:
        return "that has been asked for already, and waits for the learner"
    if record.pace and record.pace.get("proving_since_s") is not None:
        return "a better specialist is being proven on later answers already"
    return ""


def falls_short(registry: Registry, record: TaskRecord, wanted: Claim | None) -> Certificate | None:
    """The task's certificate where its promise is less strict than the one that is wanted; None where it will do."""
    certificate = registry.certificate(record.certificate_id)
    if certificate is None or wanted is None or certificate.claim.covers(wanted):
        return None
    return certificate
