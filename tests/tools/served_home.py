"""A home folder with a real certified specialist in it, learnt in a second on a tiny encoder.

The task is to name the colour in a sentence. Its certificate is written by hand: what it promises is not the
business of the gateway's tests, that the gateway keeps to it is.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.example import Example
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.core.task import Mode, Task
from pilotfish.scoring.answers import settle
from pilotfish.store.base import TaskRecord
from pilotfish.store.build import open_registry
from pilotfish.students.distil import distil
from pilotfish.tasks.fingerprint import instructions_id
from tools.tiny_models import open_tiny_encoder

INSTRUCTIONS = "Name the colour. Answer with one word."
COLOURS = ("red", "green", "blue")


def messages(text: str) -> list[dict[str, str]]:
    """A request of the task as a client sends it."""
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": text}]


TASK_ID = instructions_id(ChatRequest(messages=[Message(**row) for row in messages("x")]))


def sentences(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts with their colour."""
    rng = random.Random(seed)
    things = ("car", "door", "shirt", "house", "bird", "cup", "boat", "hat")
    colours = [rng.choice(COLOURS) for _ in range(n)]
    return [(f"my {rng.choice(things)} {rng.randrange(1000)} is {colour}", colour) for colour in colours]


@dataclass(frozen=True)
class Learnt:
    """What `learn` left on disk."""

    folder: Path
    encoder: str
    record: TaskRecord
    certificate: Certificate


def learn(folder: Path) -> Learnt:
    """A specialist for the task below `folder`/specialists, with a generous certificate."""
    pairs = sentences(240)
    shape = settle(colour for _, colour in pairs)
    task = Task(id=TASK_ID, name="colours", instructions_id=TASK_ID, instructions=INSTRUCTIONS, shape=shape)
    examples = [
        Example(text=text, answer=(colour,), time_s=float(position)) for position, (text, colour) in enumerate(pairs)
    ]
    fitted = distil(examples, task, open_tiny_encoder(folder), folder / "specialists")
    certificate = Certificate(
        task_id=TASK_ID,
        task_name=task.name,
        claim=Claim(max_risk=0.05),
        bound=0.04,
        min_certainty=0.5,
        min_scope=-1.0,
        coverage=1.0,
        n=100,
        n_served=100,
        errors=0.0,
        attempt=1,
        delta_spent=0.05,
        schedule="once",
        start_certainty=0.5,
        procedure="by hand",
        split_rule="none",
        scorer="exact",
        data_sha256="0" * 64,
        artefact_sha256=fitted.sha256,
        created_at="2026-11-22",
    )
    record = TaskRecord(
        task_id=TASK_ID,
        name=task.name,
        instructions_id=TASK_ID,
        instructions=INSTRUCTIONS,
        shape=shape,
        mode="serve",
        specialist_sha256=fitted.sha256,
        certificate_id=certificate.id,
    )
    return Learnt(folder, str(folder / "tiny-bert"), record, certificate)


def adopt(learnt: Learnt, home: Path, *, mode: Mode = "serve", **changes: object) -> Certificate:
    """Write the task into the registry of `home`, its certificate changed as told."""
    certificate = dataclasses.replace(learnt.certificate, **changes)  # type: ignore[arg-type]
    registry = open_registry(home)
    registry.put_task(dataclasses.replace(learnt.record, mode="observe", certificate_id="", specialist_sha256=""))
    assert registry.adopt(certificate)
    registry.update_task(TASK_ID, mode=mode)
    registry.close()
    return certificate
