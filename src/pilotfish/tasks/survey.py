"""Survey a log: which tasks recur in it, how often, and in what shape they are answered.

It reads plain records, so that the log, a traffic file and a test are surveyed alike, and hands back nouns only: it
decides neither what is learnt nor what is served. Requests without instructions whose answers are free text
are single conversations; they share an id for want of anything to tell them apart, and are not listed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pilotfish.core.task import AnswerShape, Task, Template
from pilotfish.tasks.recognise import Recogniser, task_id
from pilotfish.tasks.shapes import Given, settle_shape

MIN_REQUESTS = 20
"""Requests from which a task counts as recurring; below, the shape of its answers cannot be told either."""

MAX_NAME_CHARACTERS = 40
_MAX_NAME_WORDS = 5
_WORD = re.compile(r"[a-z0-9]+")
_INPUT = "{input}"

# What nearly every prompt says, so that it tells no task from another.
_BOILERPLATE_TEXT = """
    a about above act all also an and any answer answers are as assistant at based be below by can carefully
    content customer do does exactly expert follow following for from give given has have helpful here i if
    in input into is it its just me message must my no nothing of on one only or our out output please provide
    provided reply respond response return s should such system task text that the their them then there these this
    to under use used user using was we what when which who will with word words would you your
"""
_BOILERPLATE = frozenset(_BOILERPLATE_TEXT.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request of a log as far as a survey reads it. `answer` is the reference's, None where there is none; `key_id`
    names the virtual key that asked, None where none was needed.
    """

    instructions_id: str
    instructions: str
    user_message: str | None
    answer: str | None = None
    key_id: str | None = None
    time_s: float = 0.0


@dataclass(slots=True)
class _Group:
    instructions_id: str
    instructions: str
    constant: str
    n_requests: int = 0
    given: list[Given] = field(default_factory=list)


def survey(
    exchanges: Iterable[Exchange],
    templates: Sequence[Template] = (),
    *,
    before: Mapping[str, AnswerShape] | None = None,
    is_shared: bool = False,
    min_overlap: float = 1.0,
    own: Callable[[str], Sequence[Given]] = lambda _: (),
) -> list[Task]:
    """The recurring tasks of a log that is given in the order of time, most frequent first.

    `before` are the shapes of tasks that are known, by id; `is_shared` and `min_overlap` are what the user says of
    retrieved answers (`shapes.py`), `own` gives the answers of the user's for a task's id.
    Names go to tasks in the order of their first request, so that a growing log renames none that is listed.
    """
    groups = _group(exchanges, templates)
    tasks: list[Task] = []
    names: set[str] = set()
    for found, group in groups.items():
        if group.n_requests < MIN_REQUESTS:
            continue
        known = (before or {}).get(found)
        shape = settle_shape(group.given, before=known, is_shared=is_shared, min_overlap=min_overlap, own=own(found))
        if not (group.instructions or group.constant or (shape.is_closed and not shape.is_retrieved)):
            continue
        name = _unique(_name(group, shape), found, names)
        names.add(name)
        task = Task(
            id=found,
            name=name,
            instructions_id=group.instructions_id,
            instructions="\n\n".join(part for part in (group.instructions, group.constant) if part),
            shape=shape,
            n_requests=group.n_requests,
        )
        tasks.append(task)
    return sorted(tasks, key=lambda task: -task.n_requests)


def _group(exchanges: Iterable[Exchange], templates: Sequence[Template]) -> dict[str, _Group]:
    """The requests by task id, in the order in which the tasks first came."""
    recogniser = Recogniser(templates)
    constants = {task_id(template): template.prefix + _INPUT + template.suffix for template in templates}
    groups: dict[str, _Group] = {}
    for exchange in exchanges:
        found, text = exchange.instructions_id, None
        if exchange.user_message is not None:
            recognised = recogniser.split(exchange.instructions_id, exchange.user_message)
            found, text = recognised.task_id, recognised.text
        group = groups.get(found)
        if group is None:
            group = _Group(exchange.instructions_id, exchange.instructions, constants.get(found, ""))
            groups[found] = group
        group.n_requests += 1
        if exchange.answer is not None:
            given = Given(text=text or "", answer=exchange.answer, key_id=exchange.key_id, time_s=exchange.time_s)
            group.given.append(given)
    return groups


def _name(group: _Group, shape: AnswerShape) -> str:
    """The first telling words of the template, else of the instructions, else of the answers."""
    for text in (group.constant.replace(_INPUT, " "), group.instructions):
        if name := _slug(text):
            return name
    answers = [item.name or " ".join(item.values[:3]) for item in shape.fields]
    return _slug(" ".join(answers), frozenset()) or "task"


def _slug(text: str, left_out: frozenset[str] = _BOILERPLATE) -> str:
    """The first words that tell something, joined by hyphens; each once, whole words only."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = [word for word in dict.fromkeys(_WORD.findall(plain)) if word not in left_out]
    slug = "-".join(word[:MAX_NAME_CHARACTERS] for word in words[:_MAX_NAME_WORDS])
    return slug if len(slug) <= MAX_NAME_CHARACTERS else slug[: MAX_NAME_CHARACTERS + 1].rpartition("-")[0]


def _unique(name: str, found: str, taken: set[str]) -> str:
    """`name`, with as many digits of the task's id as keep it apart from the names taken."""
    n_digits = 0
    unique = name
    while unique in taken:
        n_digits += 4
        unique = f"{name[: MAX_NAME_CHARACTERS - n_digits - 1].rstrip('-')}-{found[:n_digits]}"
    return unique
