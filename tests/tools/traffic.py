"""Recorded traffic with a known truth: sentences that name a colour, as rows of a task, exchanges and files.

The answer follows from the words, so whatever disagrees was put there: noise, a reference that changes its
mind, or words that take many examples to learn.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from pilotfish.core.messages import ChatRequest, Message, Usage
from pilotfish.core.task import AnswerShape, Mode, Task
from pilotfish.guarantees.pace import Pace
from pilotfish.replay.timeline import Row
from pilotfish.scoring.answers import settle
from pilotfish.store.base import TaskRecord
from pilotfish.store.traffic import Exchange
from tools.served_home import COLOURS, INSTRUCTIONS, TASK_ID

Pair = tuple[str, str]
USAGE = Usage(prompt=100, completion=2)


def noisy(pairs: Sequence[Pair], share: float, seed: int = 0) -> list[Pair]:
    """The same, a share of the answers arbitrary."""
    source = random.Random(seed)
    return [(text, source.choice(COLOURS) if source.random() < share else colour) for text, colour in pairs]


def changed(pairs: Sequence[Pair]) -> list[Pair]:
    """The same texts under a reference that now calls blue green."""
    return [(text, "green" if colour == "blue" else colour) for text, colour in pairs]


def many_words(n: int, n_words: int = 120, seed: int = 0) -> list[Pair]:
    """Sentences whose colour depends on one of many made-up words: the more are known, the more can be answered."""
    source = random.Random(seed)
    letters = "bdfgklmnprst"
    words = ["".join(source.choice(letters) + source.choice("aeiou") for _ in range(4)) for _ in range(n_words)]
    others = ["red", "old", "big", "small", "new", "lost", "broken", "first", "last", "other"]
    found = []
    for _ in range(n):
        word = source.choice(words)
        text = f"{source.choice(others)} {word} {source.choice(others)} {source.choice(others)}"
        found.append((text, COLOURS[words.index(word) % 3]))
    return found


def task_rows(pairs: Sequence[Pair]) -> list[Row]:
    """The rows of one task, from position 1, one second apart."""
    return [
        Row(position=number, text=text, answer=answer, time_s=float(number), usage=USAGE)
        for number, (text, answer) in enumerate(pairs, 1)
    ]


def colour_task(pairs: Sequence[Pair]) -> Task:
    """The task of these rows."""
    shape = settle(answer for _, answer in pairs)
    return Task(id=TASK_ID, name="colours", instructions_id=TASK_ID, instructions=INSTRUCTIONS, shape=shape)


def exchange(text: object, answer: str, instructions: str = INSTRUCTIONS, usage: Usage | None = USAGE) -> Exchange:
    """One recorded request; `text` may be content that is no text."""
    messages = [Message(role="system", content=instructions)] if instructions else []
    return Exchange(
        request=ChatRequest(messages=[*messages, Message(role="user", content=text)]), answer=answer, usage=usage
    )


def write_pairs(path: Path, pairs: Sequence[Pair]) -> Path:
    """A file of input/output pairs; the result is the path."""
    path.write_text("".join(json.dumps({"input": text, "output": answer}) + "\n" for text, answer in pairs))
    return path


def task_record(shape: AnswerShape, *, mode: Mode, pace: Pace) -> TaskRecord:
    """The colour task as a registry holds it."""
    return TaskRecord(
        task_id=TASK_ID,
        name="colours",
        instructions_id=TASK_ID,
        instructions=INSTRUCTIONS,
        shape=shape,
        mode=mode,
        pace=pace.to_json(),
    )
