"""Small learnable tasks: short texts whose answer follows from their words, made from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pilotfish.core.example import Example
from pilotfish.core.task import AnswerShape, Field, Task

_WORDS = {
    "refund": ("refund", "money back", "reimburse me"),
    "card_lost": ("lost my card", "card is gone", "cannot find my card"),
    "greeting": ("hello", "good morning", "hi there"),
}
_ENDS = ("please", "now", "thanks", "today", "again", "for order", "on Monday", "at once")


def label_task(values: Sequence[str] = tuple(_WORDS)) -> Task:
    """A label task with the given values."""
    shape = AnswerShape(
        kind="label",
        fields=(Field(name="", values=tuple(values)),),
        style=tuple((value, value.title()) for value in values),
    )
    return Task(id="0" * 16, name="intent", instructions_id="1" * 16, instructions="Classify.", shape=shape)


def json_task() -> Task:
    """An object of two fields: the intent, and whether it is urgent."""
    shape = AnswerShape(
        kind="json",
        fields=(
            Field(name="intent", values=tuple(f'"{value}"' for value in _WORDS)),
            Field(name="is_urgent", values=("false", "true")),
        ),
        style=(("intent", '{"intent": '), ("is_urgent", ', "is_urgent": '), ("", "}")),
    )
    return Task(id="2" * 16, name="triage", instructions_id="3" * 16, instructions="Triage.", shape=shape)


def examples(n: int, *, seed: int = 0) -> list[Example]:
    """`n` examples of `label_task`; some texts repeat."""
    rng = random.Random(seed)
    found = []
    for index in range(n):
        value = rng.choice(list(_WORDS))
        text = f"{rng.choice(_WORDS[value])} {rng.choice(_ENDS)} {rng.choice(_ENDS)} {rng.randrange(40)}"
        found.append(Example(text=text, answer=(value,), time_s=float(index)))
    return found


def triage_examples(n: int, *, seed: int = 0) -> list[Example]:
    """`n` examples of `json_task`: urgent where the text says "now" or "at once"."""
    return [
        Example(
            text=example.text,
            answer=(f'"{value}"', "true" if "now" in example.text or "at once" in example.text else "false"),
            time_s=example.time_s,
        )
        for example in examples(n, seed=seed)
        for value in example.answer or ()
    ]
