"""What is known of the tasks of a home: the requests in its log whose reference answer stands there.

Reading needs none of the numerical libraries, so whoever only looks (`pilotfish tasks`) can do it where specialists are
served and not learnt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pilotfish.core.example import Example
from pilotfish.core.log_row import RepeatRow, RequestRow
from pilotfish.core.task import AnswerShape
from pilotfish.guarantees.consistency import with_votes
from pilotfish.scoring import answers
from pilotfish.scoring.retrieved import read_text
from pilotfish.store.base import Log
from pilotfish.store.home import Home
from pilotfish.tasks.find import newest, own_answers
from pilotfish.tasks.recognise import Recogniser
from pilotfish.tasks.shapes import Given, settle_shape


def known_examples(home: Home, n_votes: int = 1) -> dict[str, list[Example]]:
    """What is known of each task by its id, in time order: rows whose reference answer stands in the log.

    With `n_votes` = 3 the answer of a row is the majority of its three, and rows with fewer only teach.
    """
    again = repeated(home.log)
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
        given = [Given(text=text, answer=answer, key_id=row.key_id, time_s=row.time_s) for text, answer, row in known]
        record = home.registry.task(found_id)
        before = record.shape if record is not None else None
        shape = settle_shape(
            given,
            before=before,
            is_shared=home.learning.share_answers,
            min_overlap=home.learning.answer_overlap,
            own=own_answers(home, found_id),
        )
        examples[found_id] = [
            with_votes(example(text, answer, row, shape, again.get(row.request_id, [])), n_votes)
            for text, answer, row in known
            if is_of(shape, row)
        ]
    return examples


def own_examples(home: Home, task_id: str, shape: AnswerShape) -> list[Example]:
    """What the user's own answers teach of a task whose answers are retrieved; nothing of any other."""
    if not shape.is_retrieved:
        return []
    return [
        Example(text=one.text, answer=answers.parse(shape, one.answer), time_s=one.time_s, sampling="given")
        for one in own_answers(home, task_id)
        if not is_void(shape, one.answer, one.time_s)
    ]


def is_of(shape: AnswerShape, row: RequestRow) -> bool:
    """Whether a row is an example of a task: of retrieved answers, only those of the key that may have them."""
    return not shape.is_retrieved or (shape.retrieval is not None and shape.retrieval.is_for(row.key_id))


def is_void(shape: AnswerShape, said: str, time_s: float) -> bool:
    """Whether an answer of that time is a past answer that was forgotten since."""
    value = read_text(said) if shape.is_retrieved else None
    return value is not None and shape.retrieval is not None and shape.retrieval.has_forgotten(value, time_s)


def example(text: str, answer: str, row: RequestRow, shape: AnswerShape, again: Sequence[RepeatRow]) -> Example:
    """One logged request as an example, its answer and those it got when asked `again` read in `shape`.

    An answer that was forgotten since is none: no local answer can agree with it. The row stays, as rows that certify
    are never chosen by their answers.
    """

    def read(said: str | None) -> tuple[str, ...] | None:
        if said is None or not shape.is_closed or is_void(shape, said, row.time_s):
            return None
        return answers.parse(shape, said)

    further = tuple(read(item.reference_answer) for item in again)
    return Example(
        text=text,
        answer=read(answer),
        time_s=row.time_s,
        sampling=row.sampling,
        probability=row.probability,
        request_id=row.request_id,
        said=(read(answer), *further) if further else (),
    )


def repeated(log: Log, request_id: str = "") -> dict[str, list[RepeatRow]]:
    """The answers to repeated questions by request, in order; all of them, or those of one request.

    Only those of the unbiased sample: an audit asks about local answers alone.
    """
    found: dict[str, list[RepeatRow]] = defaultdict(list)
    for row in log.repeats(request_id):
        if row.is_sampled and row.is_answered:
            found[row.request_id].append(row)
    return found
