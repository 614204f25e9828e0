"""Texts that say nearly the same in the same words: ROUGE-L's F-measure, and the nearest of many texts by it.

A word is a run of letters, digits and underscores, in any case. Two texts overlap by 2 LCS / (a + b), with the
longest common subsequence of their a and b words (Lin, Text Summarization Branches Out 2004). Words with a digit
in them must be the same in both, else the overlap is 0: two dates or amounts are never near. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")

MOST_COMPARED = 16
"""Bounds the time for one text, which the gateway spends on its event loop."""

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """The words of a text, case folded."""
    return tuple(_WORD.findall(text.casefold()))


def overlap(a: Words, b: Words) -> float:
    """ROUGE-L F of two texts, 0 to 1; 0 where their words with digits differ."""
    if _figures(a) != _figures(b):
        return 0.0
    return 2 * _longest_common(a, b) / (len(a) + len(b)) if a or b else 1.0


class Near:
    """Texts by number, in the order added, and which of them another text overlaps by `least` or more."""

    def __init__(self, least: float, texts: Iterable[str] = ()) -> None:
        self._least = least
        self._texts: list[Words] = []
        self._with: dict[tuple[Words, str], list[int]] = {}
        for text in texts:
            self.add(words_of(text))

    def add(self, words: Words) -> int:
        """The number of a text that is known from now on."""
        number, figures = len(self._texts), _figures(words)
        self._texts.append(words)
        for word in set(words):
            self._with.setdefault((figures, word), []).append(number)
        return number

    def nearest(self, words: Words) -> int | None:
        """The number of the text with the largest overlap, the earliest of equals; None where none is near.

        Of many that share its rarest words only those that share most of them are compared.
        """
        figures = _figures(words)
        places = sorted((self._with.get((figures, word), []) for word in words), key=len)
        # A text that overlaps so much lacks few of these words, so it has one of any that are more.
        n_lacking = len(words) - math.ceil(self._least * len(words) / (2 - self._least) - 1e-9)
        shared = Counter(number for known in places[: n_lacking + 1] for number in known)
        best, most = None, self._least
        for number in sorted(number for number, _ in shared.most_common(MOST_COMPARED)):
            found = overlap(words, self._texts[number])
            if found >= most and (best is None or found > most):
                best, most = number, found
        return best


def _figures(words: Words) -> Words:
    return tuple(sorted(word for word in words if _DIGIT.search(word)))


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row at a time in the bits of a number (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    row = everywhere = (1 << len(a)) - 1
    for word in b:
        hits = row & places.get(word, 0)
        row = (row + hits) | (row - hits)
    return len(a) - (row & everywhere).bit_count()
