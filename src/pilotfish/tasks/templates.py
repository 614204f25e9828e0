"""Learn the templates of prompts that carry their instruction in the user message.

Messages made from one template agree, word for word, over a long stretch, and part where the input begins.
Free text agrees over a few words only, because at each word some writer goes another way. So the messages are
read as a tree of common beginnings, branching at whole words, and a place counts as template when the last
stretch before it is long and unbranched. Below such a place a branch is a further template when it has such a
stretch again, or when nearly all messages take one of few branches that each go on unbranched ("to German:",
"to French:"); otherwise it is input. Endings are found the same way on reversed text.

It sees user messages only: neither their answers nor their order. A slot with few values is told from a variant
by its look alone (a number, or a word after a colon: "Channel: email"), and a long document that very many questions
follow becomes a template of its own.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from pilotfish.core.ids import fingerprint
from pilotfish.core.task import Template
from pilotfish.tasks.prefix_tree import n_shared

MAX_MESSAGES = 20_000
"""Distinct messages read for one instructions id: bounds memory; 13,302 prompts take 0.15 s."""

MIN_SUPPORT = 20
"""Distinct messages of a template. With fewer a long unbranched stretch may be chance."""

MIN_RUN = 20
"""Characters of an unbranched stretch, its first word not counted. Ten public sets of free text of 500 to 14,318
messages (banking77, snips, SMS, GSM8K and others) reach 17 with 20 messages in agreement."""

SAME_RUN = 0.95
"""Share of the messages that keeps a stretch unbranched: a hand-edited prompt must not end it."""

MIN_FAMILY = 0.9
"""Share of the messages that takes unbranched continuations where a template goes on in few variants. First words
of free text leave far more to the rare ones."""

MIN_SHARES = (0.2, 0.5)
"""Inside a template, others count from a fifth of its messages, or together from half of them. Less is a frequent
input, such as a popular document or the footer of a mail program."""

# One letter is a word where scripts write no spaces.
_WORD = r"[^\W\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
_TOKEN = re.compile(_WORD + "|.", re.DOTALL)
_LAST_WORD = re.compile(_WORD + r"\Z")
_LETTER = re.compile(_WORD[:-1])
_ASSIGNMENTS = frozenset(":=")
_SENTENCE_END = re.compile(r"\A( *[.?!\u2026\u3002\uff1f\uff01]+|\s+\Z)+")


def learn_templates(messages: Iterable[tuple[str, str]]) -> list[Template]:
    """The templates in pairs of instructions id and user message, over all ids."""
    by_id: dict[str, set[str]] = {}
    for instructions_id, message in messages:
        by_id.setdefault(instructions_id, set()).add(message)
    return [template for found, texts in by_id.items() for template in learn(found, texts)]


def learn(instructions_id: str, messages: Iterable[str]) -> list[Template]:
    """The templates of one instructions id, in alphabetical order.

    Depends on the set of messages only, not on their order or repetition. Above `MAX_MESSAGES` those
    with the smallest checksum are read, so that the choice is random and yet stays when messages are added.
    """
    distinct = set(messages)
    if len(distinct) > MAX_MESSAGES:
        distinct = set(heapq.nsmallest(MAX_MESSAGES, distinct, key=_checksum))
    sides = [(group, _endings, False) for group in _beginnings(distinct, inside=False)]
    sides += [(group, _beginnings, True) for group in _endings(distinct, inside=False)]
    # Largest first, so that the documents of a prompt that ends in its instruction are seen inside of it.
    sides.sort(key=lambda side: (-len(side[0].members), side[0].constant))
    found = set()
    for group, other_side, is_ending in sides:
        members = distinct.intersection(group.members)
        if len(members) < MIN_SUPPORT:
            continue
        distinct -= members
        n = len(group.constant)
        inputs = [member[: len(member) - n] if is_ending else member[n:] for member in members]
        for inner in other_side(inputs, inside=True):
            found.add((inner.constant, group.constant) if is_ending else (group.constant, inner.constant))
    return [
        Template(
            instructions_id=instructions_id,
            prefix=prefix,
            suffix=suffix,
            task_id=fingerprint(instructions_id, prefix, suffix),
        )
        for prefix, suffix in sorted(found)
    ]


@dataclass(frozen=True, slots=True)
class _Place:
    """A common beginning of messages: the first `end` characters of each of the sorted `members`.

    The last of them, from `start`, follow the word by which the members differ from their neighbours.
    `is_value` says that this word is data by its look: a number, or what follows a colon or equals sign.
    """

    members: list[str]
    start: int
    end: int
    is_value: bool
    branches: list[_Place] = field(default_factory=list)

    @property
    def is_family(self) -> bool:
        """Whether nearly all messages go on in branches that are constant themselves."""
        n_constant = sum(len(branch.members) for branch in self.branches if branch.is_constant)
        return n_constant > 0 and n_constant >= MIN_FAMILY * len(self.members)

    @property
    def is_constant(self) -> bool:
        """Whether anything visible, or a line break, is the same in all members after that word."""
        stretch = self.members[0][self.start : self.end]
        return not self.is_value and ("\n" in stretch or bool(stretch.strip()) or self.is_family)


class _Group(NamedTuple):
    """A constant part, and the messages that have it and no longer one."""

    constant: str
    members: list[str]


def _beginnings(messages: Iterable[str], *, inside: bool, is_reversed: bool = False) -> list[_Group]:
    """The constant beginnings. `inside`: of the inputs of a known template, where none is an answer as well."""
    ordered = sorted(set(messages))
    if len(ordered) < MIN_SUPPORT:
        return []
    return _collect(_grow(ordered, 0, 0, is_reversed=is_reversed), 0, inside=inside)


def _endings(messages: Iterable[str], *, inside: bool) -> list[_Group]:
    """The constant endings. The full stop or question mark before one belongs to the input, as does a bare space."""
    groups = _beginnings((message[::-1] for message in messages), inside=inside, is_reversed=True)
    return [
        _Group(_SENTENCE_END.sub("", group.constant[::-1]), [member[::-1] for member in group.members])
        for group in groups
    ]


def _grow(members: list[str], word_start: int, start: int, *, is_reversed: bool) -> _Place:
    """The tree below sorted `members`, which agree up to `start`, and whose last common word is at `word_start`."""
    text = members[0]
    before = text[start : start + 2] if is_reversed else text[max(0, word_start - 2) : word_start]
    is_value = text[word_start:start].isdigit() or before.strip(" ") in _ASSIGNMENTS
    end = _word_end(members, start, n_shared(text, members[-1], start))
    place = _Place(members, start, end, is_value)
    by_token: dict[str, list[str]] = {}
    for member in members:
        if token := _TOKEN.match(member, end):
            by_token.setdefault(token.group(), []).append(member)
    for word, branch in by_token.items():
        if len(branch) >= MIN_SUPPORT:
            place.branches.append(_grow(branch, end, end + len(word), is_reversed=is_reversed))
    return place


def _word_end(members: list[str], start: int, end: int) -> int:
    """`end`, or the start of the word that `end` would cut in some member."""
    last = _LAST_WORD.search(members[0], start, end)
    if last and any(_LETTER.match(member, end) for member in members):
        return last.start()
    return end


def _collect(place: _Place, run: int, *, inside: bool) -> list[_Group]:
    """The constant beginnings at and below `place`, each message in at most one of them.

    `run` is the length of the unbranched stretch so far. It outlasts a place that nearly all messages leave by
    one branch, or by few constant ones.
    """
    run += place.end - place.start
    n, is_family = len(place.members), place.is_family
    inside = inside or run >= MIN_RUN
    inner = []
    for branch in place.branches:
        is_variant = is_family and branch.is_constant
        is_same = is_variant or len(branch.members) >= SAME_RUN * n
        run_on = run + branch.start - place.end if is_same else 0
        inner += _collect(branch, run_on, inside=inside and is_variant)
    if not inside:
        return inner
    if not is_family and sum(len(group.members) for group in inner) < MIN_SHARES[1] * n:
        inner = [group for group in inner if len(group.members) >= MIN_SHARES[0] * n]
    taken = {member for group in inner for member in group.members}
    rest = [member for member in place.members if member not in taken]
    if len(rest) >= MIN_SUPPORT or not inner:
        inner.append(_Group(place.members[0][: place.end], rest))
    return inner


def _checksum(message: str) -> tuple[int, str]:
    return crc32(message.encode("utf-8", "surrogatepass")), message
