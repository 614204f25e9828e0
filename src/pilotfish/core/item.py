"""One item to measure a model on: what it is asked, and what is known about a right answer.

Data of every layout (questions with choices, passages with spans, code with tests, recorded traffic) becomes items, so
that models, scorers and statistics know one noun. What an item does not have is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pilotfish.core.messages import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question with its expected answer.

    `expected` is any JSON value, None where nobody knows a right answer. `tags` are the columns that a report is sliced
    by. Items of one `cluster` hang together (they share a passage, a conversation). `choices` are the options of a
    multiple-choice question or the labels of a closed set; `context` the passage, or the code that an answer completes;
    `tests` the program that code must pass.
    """

    id: str
    messages: list[Message]
    expected: Any
    tags: dict[str, str]
    cluster: str = ""
    choices: tuple[str, ...] = ()
    context: str = ""
    tests: str = ""
