"""Reads a user's own answers for a task: rows with a question, a document or both, and the text that answers them.

Columns go by the names that traffic files have for them (`question`, `input`, ...; `answer`, `output`, ...), and
`document` or `passage`. A row with a question and a document gives the answer to either.
"""

from __future__ import annotations

from pathlib import Path

from pilotfish.core.errors import DataError
from pilotfish.evals.files import Row, file_rows
from pilotfish.store.traffic_formats import ANSWER_KEYS, INPUT_KEYS

DOCUMENT_KEYS = ("document", "passage")


def read_given_answers(path: Path) -> list[tuple[str, str]]:
    """Pairs of what is asked, or a document, and its answer. Raises `DataError` naming the first row that has none."""
    return [pair for row in file_rows(path) for pair in _pairs(row)]


def _pairs(row: Row) -> list[tuple[str, str]]:
    content = row.content if isinstance(row.content, dict) else {}
    asked = [_first(content, keys) for keys in (INPUT_KEYS, DOCUMENT_KEYS)]
    answer = _first(content, ANSWER_KEYS)
    if answer is None or not any(asked):
        missing = "answer" if any(asked) else "question or document"
        raise DataError(
            f"{row.place} has no {missing}: {str(row.content)[:80]!r}.",
            hint='Expected rows such as {"question": "...", "answer": "..."}.',
        )
    return [(text, answer) for text in asked if text]


def _first(content: dict[str, object], keys: tuple[str, ...]) -> str | None:
    """The text of the first of these columns that has one."""
    return next((value for key in keys if isinstance(value := content.get(key), str) and value.strip()), None)
