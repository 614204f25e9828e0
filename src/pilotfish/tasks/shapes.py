"""The shape of a task's answers from all that is known of them: texts, inputs, and whose they are.

Closed answers and extractions are settled from texts alone (`scoring/`). Answers that repeat as whole texts are given
again only to the key that they were given to, so their shape has an owner: the key that asked most, or everyone where
the user says so. Survey, learning and replay all settle shapes here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pilotfish.core.task import EVERYONE, AnswerShape, Retrieval
from pilotfish.scoring.answers import MIN_ANSWERS, settle
from pilotfish.scoring.retrieved import read_text, settle_retrieved


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One answer of the reference, with what it answered, the id of the key that asked (None: no key) and when."""

    text: str
    answer: str
    key_id: str | None = None
    time_s: float = 0.0


def settle_shape(
    given: Sequence[Given],
    *,
    before: AnswerShape | None = None,
    is_shared: bool = False,
    min_overlap: float = 1.0,
    own: Sequence[Given] = (),
) -> AnswerShape:
    """The shape of a task. `before` is what it was, which knows what was forgotten; `is_shared` is the user's word that
    retrieved answers may go to every key, `min_overlap` how alike in words two of them must be to agree. `own` are
    answers of the user's: they may be given where answers are retrieved, though the reference gave them never or once.
    """
    shape = settle([one.answer for one in given], [one.text for one in given])
    if shape.is_closed:
        return shape
    known = before.retrieval if before is not None else None
    owner = EVERYONE if is_shared else _owner(given, known)
    forgotten = known.forgotten if known is not None else ()
    retrieval = Retrieval(owner=owner, forgotten=forgotten, min_overlap=min_overlap)
    further = [one.answer for one in own if not _is_forgotten(one, retrieval)]
    found = settle_retrieved([one.answer for one in given if _counts(one, retrieval)], retrieval, further)
    if isinstance(found, str):
        return replace(shape, why_open=f"{shape.why_open}; {found}", retrieval=known)
    return found


def _owner(given: Sequence[Given], known: Retrieval | None) -> str:
    """The key that the answers belong to: the one they belonged to so far while it asks, else that which asks most."""
    asked = Counter(one.key_id or "" for one in given)
    if known is not None and asked[known.owner] >= MIN_ANSWERS:
        return known.owner
    return asked.most_common(1)[0][0] if asked else ""


def _counts(one: Given, retrieval: Retrieval) -> bool:
    return retrieval.is_for(one.key_id) and not _is_forgotten(one, retrieval)


def _is_forgotten(one: Given, retrieval: Retrieval) -> bool:
    value = read_text(one.answer)
    return value is not None and retrieval.has_forgotten(value, one.time_s)
