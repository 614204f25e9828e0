"""Small learnable tasks: short texts whose answer follows from their words, made from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from pilotfish.core.example import Example
from pilotfish.core.task import AnswerShape, Field, Task
from pilotfish.scoring.answers import parse, settle

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


_CITIES = ("Oslo", "Rome", "Lima", "Bern", "Kyiv", "Riga", "Cork", "Nice", "Bonn", "York")


def bookings(n: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Inputs with the reference's answer: JSON whose city and guests stand in the input, and a closed kind."""
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        place, guests = f"{rng.choice(_CITIES)}{rng.choice(('', ' North', ' South'))}", rng.randrange(1000, 9999)
        kind, verb = rng.choice((("hotel", "sleep"), ("dinner", "eat"), ("flight", "fly")))
        text = f"{verb} in {place} with {guests:,} guests {rng.choice(_ENDS)}"
        answer: dict[str, str | int] = {"kind": kind, "city": place}
        if rng.random() < 0.3:
            text = f"{verb} in {place} {rng.choice(_ENDS)}"
        else:
            answer["guests"] = guests
        found.append((text, json.dumps(answer)))
    return found


def booking_task(pairs: Sequence[tuple[str, str]]) -> Task:
    """The task of `bookings`, its shape inferred from them."""
    shape = settle([answer for _, answer in pairs], [text for text, _ in pairs])
    return Task(id="4" * 16, name="booking", instructions_id="5" * 16, instructions="Extract.", shape=shape)


def booking_examples(pairs: Sequence[tuple[str, str]], task: Task) -> list[Example]:
    """The pairs as examples of the task."""
    return [
        Example(text=text, answer=parse(task.shape, answer), time_s=float(number), request_id=str(number))
        for number, (text, answer) in enumerate(pairs)
    ]
