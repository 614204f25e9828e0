"""A small desk of frequent questions: short questions in many words, each answered by one of a few long replies."""

from __future__ import annotations

import random
from pathlib import Path

from pilotfish.core.messages import ChatRequest, Message
from pilotfish.store.build import open_writer
from pilotfish.store.home import open_home
from pilotfish.tasks.fingerprint import instructions_id
from tools.log_rows import instructions_row, request_row

SYSTEM = "You answer the questions of our customers."

_TOPICS = {
    "parcel": ("where is my parcel", "parcel has not come", "track the parcel"),
    "refund": ("refund please", "give my money back", "money back for the refund"),
    "password": ("forgot my password", "reset password", "password does not work"),
}
_ENDS = ("please", "now", "thanks", "today", "again", "at once", "soon", "dear team")

ONE_OFF = "what about case"
"""Opens questions that are answered anew each time."""


def reply(topic: str) -> str:
    """The reply to questions of a topic: longer than a label may be."""
    return (
        f"Thank you for asking about your {topic}. " + f"Open the app, choose {topic}, and follow the steps there. " * 2
    )


def questions(n: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Questions with the reference's answer; every eighth is answered anew."""
    rng = random.Random(seed)
    found = []
    for number in range(n):
        topic = rng.choice(list(_TOPICS))
        text = f"{rng.choice(_TOPICS[topic])} {rng.choice(_ENDS)} {rng.choice(_ENDS)} {rng.randrange(30)}"
        answer = reply(topic)
        if number % 8 == 0:
            text, answer = (
                f"{ONE_OFF} {rng.randrange(10**6)}",
                f"Case {rng.randrange(10**9)} is with Ada, who will write to you.",
            )
        found.append((text, answer))
    return found


def messages(text: str) -> list[dict[str, str]]:
    """A request of the task as a client sends it."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


TASK = instructions_id(ChatRequest(messages=[Message(**row) for row in messages("x")]))


def log(home: Path, pairs: list[tuple[str, str]], *, start_s: float = 0.0, **fields: object) -> None:
    """Observed requests, appended to the log of a home."""
    open_home(home).registry.close()
    writer = open_writer(home)
    writer.append(instructions_row(TASK, text=SYSTEM))
    for number, (text, answer) in enumerate(pairs):
        said = {"input": text, "answer": answer, "reference_answer": answer, "mode": "observe", **fields}
        time_s = start_s + number / 1000
        row = request_row(f"{time_s:015.4f}", time_s=time_s, instructions_id=TASK, task_id=TASK, **said)
        writer.append(row)
    writer.close()
