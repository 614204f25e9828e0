"""Recognise the task of a request, by look-ups whose cost does not grow with the number of tasks.

The instructions are found by their fingerprint. The templates of one instructions id stand in a prefix tree
of hash look-ups; where a prefix ends, another tree holds the suffixes that go with it, read from the end. A
message therefore walks one path, whether there are ten templates or ten thousand. Which templates exist is
learnt elsewhere (`templates.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.core.ids import fingerprint
from pilotfish.core.messages import ChatRequest
from pilotfish.core.task import Template
from pilotfish.tasks.fingerprint import instructions_id_without, last_user_index
from pilotfish.tasks.prefix_tree import PrefixTree


# Never changed. To freeze what every request makes costs 0.1 µs a field.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Recognised:
    """The task of one request and its input.

    `text` is the last user message without its template, None where there is no such message or it
    is not plain text. `task_id` is `instructions_id` where no template matched.
    """

    instructions_id: str
    task_id: str
    text: str | None


class Recogniser:
    """Finds the task of a request among known templates. Immutable once made, so threads may share it."""

    def __init__(self, templates: Sequence[Template]) -> None:
        self._prefixes: dict[str, PrefixTree[PrefixTree[Template]]] = {}
        for template in templates:
            root = self._prefixes.setdefault(template.instructions_id, PrefixTree())
            place = root.at(template.prefix)
            place.value = place.value or PrefixTree()
            # A suffix is kept reversed, so that it too is read from the outside in.
            place.value.at(template.suffix[::-1]).value = template

    def recognise(self, request: ChatRequest) -> Recognised:
        """The task of `request`; a task id is given to every request, known or not."""
        index = last_user_index(request.messages)
        found_id = instructions_id_without(request, index)
        text = request.messages[index].text if index >= 0 else None
        if text is None:
            return Recognised(instructions_id=found_id, task_id=found_id, text=None)
        return self.split(found_id, text)

    def split(self, instructions_id: str, user_message: str) -> Recognised:
        """The task and input of a logged user message.

        Of the matching templates the one with the most constant text wins, among equals the one with
        the longer prefix. Prefix and suffix never overlap in the message.
        """
        root = self._prefixes.get(instructions_id)
        best = _longest(root, user_message) if root else None
        if best is None:
            return Recognised(instructions_id=instructions_id, task_id=instructions_id, text=user_message)
        text = user_message[len(best.prefix) : len(user_message) - len(best.suffix)]
        return Recognised(instructions_id=instructions_id, task_id=task_id(best), text=text)


def task_id(template: Template) -> str:
    """The task's id: the one the template carries, else the fingerprint of its constant parts."""
    return template.task_id or fingerprint(template.instructions_id, template.prefix, template.suffix)


def _longest(prefixes: PrefixTree[PrefixTree[Template]], message: str) -> Template | None:
    best, most = None, -1
    reverse = message[::-1]
    for prefix_length, suffixes in prefixes.values(message):
        for suffix_length, template in suffixes.values(reverse):
            if most <= prefix_length + suffix_length <= len(message):
                best, most = template, prefix_length + suffix_length
    return best
