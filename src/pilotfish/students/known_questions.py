"""Questions that were always answered alike: what a retriever answers without its students, and how well that goes.

Arrays and answers in, arrays out. Its scores leave one example out at a time: what the others with the same question
were answered, which is what the specialist will know when the question comes again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from pilotfish.core.errors import MissingExtraError
from pilotfish.core.example import Example
from pilotfish.specialists.retriever import ANSWERS, CERTAIN, QUESTIONS, question_key
from pilotfish.students.out_of_fold import OutOfFold

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("learn", "numpy") from error


def known_questions(
    examples: Sequence[Example], position: NDArray[np.intp], texts: Sequence[str], listed: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    """The tensors of the distinct `texts` whose examples (`position` numbers the text of each) all have one answer
    among the `listed` values.
    """
    number = {value: place for place, value in enumerate(listed) if value}
    said: dict[int, set[str | None]] = defaultdict(set)
    for example, text in zip(examples, position.tolist(), strict=True):
        said[text].add(example.answer[0] if example.answer else None)
    known = [
        (question_key(texts[text]), number[value])
        for text, values in said.items()
        if len(values) == 1 and (value := next(iter(values))) in number
    ]
    return {
        QUESTIONS: np.frombuffer(b"".join(key for key, _ in known), np.uint8).reshape(-1, 16),
        ANSWERS: np.array([place for _, place in known], np.int16),
    }


def with_known(
    scores: OutOfFold, examples: Sequence[Example], position: NDArray[np.intp], listed: Sequence[str]
) -> OutOfFold:
    """The scores where examples whose question the others answer alike are answered by these, in both tiers."""
    values = [example.answer[0] if example.answer else None for example in examples]
    said: dict[int, Counter[str | None]] = defaultdict(Counter)
    for value, text in zip(values, position.tolist(), strict=True):
        said[text][value] += 1
    is_listed = {value for value in listed if value}
    rows, differs, answers = [], [], list(scores.answers)
    for row, (value, text) in enumerate(zip(values, position.tolist(), strict=True)):
        others = said[text] - Counter([value])
        if len(others) == 1 and (answer := next(iter(others))) in is_listed:
            rows.append(row)
            answers[row] = (answer,)
            differs.append(float(answer != value))
    first = None if scores.first is None else with_known(scores.first, examples, position, listed)
    certainty, scope, disagreement = scores.certainty.copy(), scores.scope.copy(), scores.disagreement.copy()
    certainty[rows], scope[rows], disagreement[rows] = CERTAIN, CERTAIN, differs
    return OutOfFold(certainty=certainty, scope=scope, disagreement=disagreement, answers=tuple(answers), first=first)
