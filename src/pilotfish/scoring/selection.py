"""Answers that select: a label of a closed set, or the letter of a choice.

A label is the first one of the set that the answer mentions. A letter is read from the forms in which models give it
("B", "(B) because", "The answer is **B**.", "\\boxed{B}", "B is correct"), or from the one choice whose text is
mentioned; where an answer gives two letters and marks neither as final, none is read: guessing would reward hedging.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from functools import lru_cache

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.scoring.closed_sets import folded
from pilotfish.scoring.score import Score, expected, expected_texts, unread

_JOINED = re.compile(r"[\s_\-]+")
_IS = r"(?i:is|was|would\ be|should\ be|must\ be)"
_NOUN = r"(?i:answer|option|choice)"
_RIGHT = r"(?i:correct|right|best|final)"
_MARKUP = re.compile(r"\*\*|__|`|\$|\\text(?:bf)?|[{}]")
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\text(?:bf)?\s*\{)?\s*\(?\s*([A-Za-z])\s*\)?\s*\}")


def score_label(item: Item, answer: str, *, labels: Sequence[str] = ()) -> Score:
    """1 where the first label of the set that the answer mentions is an expected one.

    The set is `labels`, else the item's choices. Raises `DataError` where there is none.
    """
    names = tuple(labels) or item.choices
    if not names:
        raise DataError(
            f"Item {item.id!r} names no label set, which the scorer 'label' needs.",
            hint="Give the labels (as choices of the rows, or to the scorer), or use the scorer 'exact'.",
        )
    right = {_plain(text) for text in expected_texts(item, "label")}
    found = read_label(answer, names)
    if found is None:
        return unread(f"none of the {len(names)} labels is mentioned")
    return Score(1.0 if _plain(found) in right else 0.0, "", f"read {found!r}")


def read_label(answer: str, labels: tuple[str, ...]) -> str | None:
    """The label that the answer is, else the first one mentioned, the longest of those that begin there; else None.

    Case, and whether words are joined by space, hyphen or underscore, make no difference.
    """
    by_plain, mention = _label_reader(labels)
    plain = _plain(answer)
    if plain in by_plain:
        return by_plain[plain]
    match = mention.search(plain)
    return by_plain[match[0]] if match else None


@lru_cache(maxsize=64)
def _label_reader(labels: tuple[str, ...]) -> tuple[dict[str, str], re.Pattern[str]]:
    by_plain = {_plain(label): label for label in labels}
    longest_first = sorted(by_plain, key=len, reverse=True)
    return by_plain, re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _plain(text: str) -> str:
    return _JOINED.sub(" ", folded(text)).strip()


def score_choice(item: Item, answer: str) -> Score:
    """1 where the letter read from the answer is the expected one; a parse failure where none, or no single one, is.

    The expected answer is a letter, the index of a choice from 0, or the text of one. Raises `DataError` for any other.
    """
    letters = string.ascii_uppercase[: len(item.choices)] if item.choices else string.ascii_uppercase
    right = expected_letter(item)
    found = read_letter(answer, letters, item.choices)
    if len(found) != 1:
        return unread(f"gives {' and '.join(sorted(found))}" if found else "no letter of a choice")
    return Score(1.0 if found == {right} else 0.0, "", f"read {min(found)}")


def expected_letter(item: Item) -> str:
    """The letter of the choice that an item expects. Raises `DataError` where it cannot be told."""
    value, n = expected(item, "choice"), len(item.choices) or 26
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < n:
        return string.ascii_uppercase[value]
    if isinstance(value, str):
        bare = value.strip(" ().").upper()
        if len(bare) == 1 and bare in string.ascii_uppercase[:n]:
            return bare
        if value in item.choices:
            return string.ascii_uppercase[item.choices.index(value)]
    raise DataError(
        f"Item {item.id!r}: the scorer 'choice' expects a letter, an index from 0 or the text of one of "
        f"{len(item.choices)} choices, got {value!r}."
    )


def read_letter(answer: str, letters: str, choices: Sequence[str] = ()) -> set[str]:
    """The letters that an answer gives: one where it is plain, several where it is ambiguous, or none."""
    boxed = {letter.upper() for letter in _BOXED.findall(answer)}
    if len(boxed) == 1 and boxed <= set(letters):
        return boxed
    text = _MARKUP.sub("", answer).strip()
    reader = _letter_reader(letters)
    if bare := reader["bare"].fullmatch(text):
        return {bare[1].upper()}
    for cue in ("final", "cue"):
        if found := _cued(reader, cue, text):
            return found
    same = [letter for letter, choice in zip(letters, choices, strict=False) if folded(choice) == folded(answer)]
    if len(same) == 1:
        return set(same)
    for form in ("line", "bracket", "alone"):
        if found := set(reader[form].findall(text)):
            return found.union(*reader["pair"].findall(text))
    return _mentioned(answer, letters, choices)


def _cued(reader: dict[str, re.Pattern[str]], cue: str, text: str) -> set[str]:
    found = set()
    for match in reader[cue].finditer(text):
        found.add(next(group for group in match.groups() if group).upper())
        if also := reader["also"].match(text, match.end()):
            found.add(also[1])
    return found


def _mentioned(answer: str, letters: str, choices: Sequence[str]) -> set[str]:
    """The letters of the choices whose text is mentioned, those left out that are part of a longer one mentioned."""
    text = folded(answer)
    found = {
        letter: plain
        for letter, choice in zip(letters, choices, strict=False)
        if (plain := folded(choice)) and re.search(rf"(?<!\w){re.escape(plain)}(?!\w)", text)
    }
    return {
        letter
        for letter, plain in found.items()
        if not any(plain in other and plain != other for other in found.values())
    }


@lru_cache(maxsize=64)
def _letter_reader(letters: str) -> dict[str, re.Pattern[str]]:
    """The patterns of the forms. A small letter counts only where it cannot be the words "a" and "I"."""
    capital = f"[{letters}]"
    small = f"[{''.join(letter for letter in letters.lower() if letter not in 'ai')}]" if len(letters) > 1 else "(?!)"
    letter = rf"(?:[\"'(\[]\s*)?({capital}|{small}(?=\W*(?:\n|$)))(?![\w'\u2019])"
    said = rf"{_NOUN}(?:\s+{_IS}\s*:?|\s*[:=])\s*(?:(?i:option|choice|letter)\s+)?{letter}"
    called = rf"(?<![\w'\u2019])({capital})\)?\s+{_IS}\s+(?:(?i:the|my)\s+)?{_RIGHT}"
    return {
        "bare": re.compile(rf"[\s(\[\"'*]*((?i:{capital}))[\s)\]\"'.:,!*]*"),
        "final": re.compile(rf"(?i:final)\s+{said}"),
        "cue": re.compile(rf"{said}|{called}|####\s*\(?({capital})(?!\w)"),
        "also": re.compile(
            rf"\s*[)\]\"']*\s*(?:(?i:or|and)\b|/|&|,)\s*(?:(?i:option|choice)\s+)?[(\[]?({capital})(?![\w'\u2019])"
        ),
        "pair": re.compile(rf"(?<![\w'\u2019])({capital})\W{{0,3}}(?i:or|and)\W{{1,3}}({capital})(?![\w'\u2019])"),
        "line": re.compile(rf"^\s*\(?({capital})\s*[).:](?=\s|$)", re.MULTILINE),
        "bracket": re.compile(rf"\(({capital})\)"),
        "alone": re.compile(rf"(?<![\w'\u2019])({capital})(?=\s*[.,;:!?\"')]*\s*$)", re.MULTILINE),
    }
