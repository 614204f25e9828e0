"""What is known of the tasks of a home: the requests in its log whose reference answer stands there.

Reading needs none of the numerical libraries, so whoever only looks (`pilotfish tasks`) can do it where specialists are
served and not learnt.
"""

from __future__ import annotations

from collections import defaultdict

from pilotfish.core.example import Example
from pilotfish.core.log_row import RequestRow
from pilotfish.scoring import answers
from pilotfish.store.home import Home
from pilotfish.tasks.find import newest
from pilotfish.tasks.recognise import Recogniser


def known_examples(home: Home) -> dict[str, list[Example]]:
    """What is known of each task by its id, in time order: rows whose reference answer stands in the log."""
    recogniser = Recogniser(home.registry.templates())
    texts: dict[str, list[tuple[str, str, RequestRow]]] = defaultdict(list)
    for row in newest(home.log):
        if row.reference_answer is None or row.input is None:
            continue
        found = recogniser.split(row.instructions_id, row.input)
        if found.text is not None:
            texts[found.task_id].append((found.text, row.reference_answer, row))
    examples = {}
    for found_id, known in texts.items():
        shape = answers.settle(answer for _, answer, _ in known)
        examples[found_id] = [
            Example(
                text=text,
                answer=answers.parse(shape, answer) if shape.is_closed else None,
                time_s=row.time_s,
                sampling=row.sampling,
                probability=row.probability,
                request_id=row.request_id,
            )
            for text, answer, row in known
        ]
    return examples
